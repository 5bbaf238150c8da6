"""The text tower inside a published checkpoint serves by itself, and computes what open_clip computes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mosaic3d_core.errors import CheckpointError
from mosaic3d_core.models import load_checkpoint
from mosaic3d_core.models.building import CONDITIONS, build_prompt_driven, build_sparse_unet
from mosaic3d_core.models.checkpoint import save_checkpoint
from mosaic3d_core.models.text import get_text_encoder
from mosaic3d_core.models.text.recap_clip import NAME, RecapClipEncoder
from mosaic3d_core.visualization.ply import write_labelled_ply

ROOT = Path(__file__).resolve().parents[3]
WIDTH, LAYERS, POSITIONS, DIM = 128, 2, 16, 96
TEXTS = ["a chair in a scene", "other", "", "a  potted\nplant &amp; a vase, " * 5]


def tower(dim: int = DIM) -> dict[str, torch.Tensor]:
    """A small text side under the names of the published files, with the 32,000 rows that its vocabulary has."""
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int, scale: float = 0.1) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * scale

    state = {
        "token_embedding.weight": noise(32_000, WIDTH),
        "positional_embedding": noise(POSITIONS, WIDTH),
        "ln_final.weight": 1 + noise(WIDTH),
        "ln_final.bias": noise(WIDTH),
        "text_projection": noise(WIDTH, dim),
    }
    for layer in range(LAYERS):
        block = f"transformer.resblocks.{layer}"
        for norm in ("ln_1", "ln_2"):
            state |= {f"{block}.{norm}.weight": 1 + noise(WIDTH), f"{block}.{norm}.bias": noise(WIDTH)}
        shapes = {"attn.in_proj_": 3 * WIDTH, "attn.out_proj.": WIDTH, "mlp.c_fc.": 4 * WIDTH}
        for name, rows in shapes.items():
            state |= {f"{block}.{name}weight": noise(rows, WIDTH), f"{block}.{name}bias": noise(rows)}
        state |= {f"{block}.mlp.c_proj.weight": noise(WIDTH, 4 * WIDTH), f"{block}.mlp.c_proj.bias": noise(WIDTH)}
    return state


@pytest.fixture
def published(tmp_path):
    """A file as published: the net, the learnt scale and the whole CLIP model (of which the image side is one tensor here)."""
    net = {f"net.{name}": value for name, value in build_sparse_unet("spunet14a").state_dict().items()}
    clip = {f"clip_encoder.{name}": value for name, value in tower().items()} | {"clip_encoder.visual.proj": torch.ones(2, 2)}
    torch.save({"state_dict": {**net, **clip, "caption_loss.logit_scale": torch.tensor(4.0)}}, tmp_path / "net.ckpt")
    return tmp_path / "net.ckpt"


def test_a_published_checkpoint_brings_its_own_text_encoder(published, tmp_path):
    name = load_checkpoint(published).metadata["text_encoder"]
    assert name == f"{NAME}:{published}"
    encoder = get_text_encoder(name, cache_dir=tmp_path / "texts")
    vectors = encoder.encode(TEXTS)
    assert vectors.shape == (4, DIM)
    assert np.allclose((vectors**2).sum(1), 1, atol=1e-5)
    # the model and the text make the key on disk, not the place of the file: nothing is loaded for known texts
    elsewhere = get_text_encoder(NAME, cache_dir=tmp_path / "texts")
    assert np.array_equal(elsewhere.encode(TEXTS), vectors)


def test_the_tower_alone_without_the_net_serves_too(tmp_path, published):
    torch.save(tower(), tmp_path / "clip.bin")
    assert np.array_equal(RecapClipEncoder(tmp_path / "clip.bin").encode(TEXTS), RecapClipEncoder(published).encode(TEXTS))


def test_the_tower_equals_torch_transformer_layers(published):
    """The slow obvious twin: torch's own pre-norm encoder layers with the same weights, in double precision."""
    encoder = RecapClipEncoder(published)
    state = {name: value.double() for name, value in tower().items()}
    x = state["token_embedding.weight"][encoder._tokens(TEXTS)] + state["positional_embedding"]
    for layer in range(LAYERS):
        twin = torch.nn.TransformerEncoderLayer(
            WIDTH, WIDTH // 64, 4 * WIDTH, dropout=0.0, activation="gelu", batch_first=True, norm_first=True, dtype=torch.float64
        )
        block = f"transformer.resblocks.{layer}."
        names = {"self_attn.": "attn.", "norm1.": "ln_1.", "norm2.": "ln_2.", "linear1.": "mlp.c_fc.", "linear2.": "mlp.c_proj."}
        mine = {}
        for key in twin.state_dict():
            of_twin = next(one for one in names if key.startswith(one))
            mine[key] = state[block + names[of_twin] + key.removeprefix(of_twin)]
        twin.load_state_dict(mine)
        x = twin.eval()(x)
    x = torch.nn.functional.layer_norm(x, (WIDTH,), state["ln_final.weight"], state["ln_final.bias"])
    wanted = torch.nn.functional.normalize(x[:, -1] @ state["text_projection"], dim=1).detach().numpy()
    assert np.abs(encoder.encode(TEXTS) - wanted).max() < 1e-5  # float32 against float64


def test_the_tower_equals_open_clip(tmp_path, published):
    """Runs where open_clip is installed: its own model class and weights, fed with the same tokens."""
    open_clip = pytest.importorskip("open_clip")
    text = {"context_length": POSITIONS, "vocab_size": 32_000, "width": WIDTH, "heads": WIDTH // 64, "layers": LAYERS}
    text |= {"no_causal_mask": True, "pool_type": "last"}
    vision = {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16}
    model = open_clip.model.CLIP(DIM, open_clip.model.CLIPVisionCfg(**vision), open_clip.model.CLIPTextCfg(**text)).eval()
    missing, extra = model.load_state_dict(tower(), strict=False)
    assert not extra
    assert all(name.startswith("visual.") or name == "logit_scale" for name in missing)
    encoder = RecapClipEncoder(published)
    with torch.no_grad():
        wanted = torch.nn.functional.normalize(model.encode_text(encoder._tokens(TEXTS)), dim=1).numpy()
    assert np.abs(encoder.encode(TEXTS) - wanted).max() < 1e-5


def test_tokens_are_those_of_bert_without_separator_and_padded_with_zeros(published):
    tokens = RecapClipEncoder(published)._tokens(TEXTS)
    assert tokens.shape == (4, POSITIONS)
    assert tokens[:, 0].tolist() == [101] * 4
    assert tokens[1].tolist() == [101, 2060] + [0] * (POSITIONS - 2)  # "other" is token 2060 of bert-base-uncased
    assert not (tokens == 102).any()
    assert (tokens[3, :-1] > 0).all()  # cut to the positions there are


def test_a_cloud_is_segmented_with_nothing_but_a_published_file(tmp_path):
    """Prompt-driven net, learnt scale and text tower in one file under their published names; the weights are random."""
    torch.manual_seed(0)
    net = build_prompt_driven("spunet34c", CONDITIONS[3]).state_dict()
    state = {f"net.{name}": value for name, value in net.items()}
    state |= {f"clip_encoder.{name}": value for name, value in tower(768).items()}
    torch.save({"state_dict": state | {"caption_loss.logit_scale": torch.tensor(5.08)}}, tmp_path / "spunet34c.ckpt")
    generator = np.random.default_rng(0)
    points = np.column_stack([generator.uniform(0, 2, (3000, 2)), np.zeros(3000)])
    zeros = np.zeros(3000)
    write_labelled_ply(tmp_path / "scan.ply", points, generator.integers(0, 255, (3000, 3)), zeros, zeros, zeros)
    arguments = ["segment", "scan.ply", "--text", "chair", "--text", "floor", "--checkpoint", "spunet34c.ckpt"]
    command = [sys.executable, "-m", "mosaic3d_core.cli", *arguments, "--condition", "ScanNet", "--out", "labelled.ply"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "labelled.ply").stat().st_size > 3000 * 15


def test_a_saved_net_names_the_text_encoder_without_this_machines_path(published, tmp_path):
    loaded = load_checkpoint(published)
    save_checkpoint(tmp_path / "own.safetensors", loaded.model, loaded.metadata)
    assert load_checkpoint(tmp_path / "own.safetensors").metadata["text_encoder"] == NAME


def test_files_without_a_text_tower_are_refused_with_what_to_give(tmp_path):
    torch.save({"token_embedding.weight": torch.ones(49_408, 64)}, tmp_path / "openai.bin")
    with pytest.raises(CheckpointError, match=r"openai.bin holds no text tower of Recap-CLIP .*32,000 rows"):
        RecapClipEncoder(tmp_path / "openai.bin")
    with pytest.raises(CheckpointError, match="does not exist: set the text encoder to"):
        RecapClipEncoder(tmp_path / "none.ckpt")
    (tmp_path / "cut.ckpt").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(CheckpointError, match="may be cut short"):
        RecapClipEncoder(tmp_path / "cut.ckpt")
    incomplete = tower()
    del incomplete["ln_final.bias"]
    torch.save(incomplete, tmp_path / "incomplete.bin")
    with pytest.raises(CheckpointError, match=r"lacks ln_final\.bias"):
        RecapClipEncoder(tmp_path / "incomplete.bin").encode(["chair"])


def test_a_model_of_the_hub_is_loaded_from_the_folder_it_was_downloaded_to(tmp_path):
    """Runs where open_clip is installed; the tokenizer is CLIP's own, which open_clip carries."""
    with pytest.raises(CheckpointError, match=r"not a folder with open_clip_config.json: fetch the model with hf download a/b"):
        get_text_encoder(f"open_clip:hf-hub:a/b:{tmp_path}").encode(["chair"])
    open_clip = pytest.importorskip("open_clip")
    text = {"context_length": 77, "vocab_size": 49_408, "width": 64, "heads": 1, "layers": 1}
    vision = {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16}
    config = {"embed_dim": 32, "vision_cfg": vision, "text_cfg": text}
    model = open_clip.model.CLIP(32, open_clip.model.CLIPVisionCfg(**vision), open_clip.model.CLIPTextCfg(**text)).eval()
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    torch.save(model.state_dict(), tmp_path / "open_clip_pytorch_model.bin")
    found = get_text_encoder(f"open_clip:hf-hub:a/b:{tmp_path}").encode(["a chair in a scene"])
    with torch.no_grad():
        wanted = model.encode_text(open_clip.get_tokenizer("ViT-B-32")(["a chair in a scene"]))
    assert np.abs(found - torch.nn.functional.normalize(wanted, dim=1).numpy()).max() < 1e-5
