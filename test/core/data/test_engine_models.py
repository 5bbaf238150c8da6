"""The models of the data engine, as tiny random ones of the real architectures: masks of phrases, and captions of masks."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from mosaic3d_core.data.engine import grounded_sam
from mosaic3d_core.data.engine.frames import EngineSettings, FrameEngine
from mosaic3d_core.data.engine.grounded_sam import GroundedSam, name_boxes, suppress_boxes
from mosaic3d_core.data.engine.image_masks import ImageMasks
from mosaic3d_core.data.engine.region_captions import RegionCaptioner, show_region
from mosaic3d_core.data.synthetic.record import fuse_sequence
from mosaic3d_core.data.synthetic.sequence import open_room
from mosaic3d_core.errors import CheckpointError, MissingDependencyError, Mosaic3DError

tf = pytest.importorskip("transformers")

SMALL = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
WORDS = ["a", "photo", "of", "the", "red", "chair", "table", "sofa", "lamp", "office", "night", "##stand", "on", "floor", "brown"]
WORDS += ["please", "give", "me", "short", "description", "highlighted", "object", ".", "?", "user", "assistant", ":"]
VOCABULARY = ["Chair", "office chair", "nightstand", "table lamp"]
CHAT = (
    "<s>{% for m in messages %}{{ m['role'] + ' : ' }}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image>{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endfor %} assistant : "
)
HAS_TORCHVISION = importlib.util.find_spec("torchvision") is not None


def bert_tokenizer(folder):
    # ids of the marks as in BERT: the detector knows them by number
    places = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, ".": 1012, "?": 1029}
    rows = {number: word for word, number in places.items()}
    rows |= {200 + k: word for k, word in enumerate(w for w in WORDS if w not in places)}
    file = folder / "vocab.txt"
    file.write_text("\n".join(rows.get(i, f"[unused{i}]") for i in range(1030)))
    return tf.BertTokenizer(str(file))


def chat_parts():
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    names = ["<unk>", "<s>", "</s>", *WORDS, "\n"]
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(names)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    tokenizer = tf.PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    marks = ["<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>"]
    marks += [f"<row_{i}_col_{j}>" for i in range(1, 7) for j in range(1, 7)]
    tokenizer.add_special_tokens({"additional_special_tokens": marks})
    llama = {"model_type": "llama", "vocab_size": len(tokenizer), "bos_token_id": 1, "eos_token_id": 2, "initializer_range": 0.5}
    return tokenizer, llama | SMALL, tokenizer.convert_tokens_to_ids("<image>")


def make_dino(folder):
    ones = [1, 1, 1, 1]
    swin = tf.SwinConfig(image_size=64, embed_dim=8, depths=ones, num_heads=ones, window_size=4, out_indices=[2, 3, 4])
    sizes = {f"{part}_{what}": 2 for part in ("encoder", "decoder") for what in ("layers", "attention_heads", "n_points")}
    text = tf.BertConfig(vocab_size=1030, **SMALL)
    config = tf.GroundingDinoConfig(backbone_config=swin, text_config=text, d_model=64, num_queries=9, **sizes)
    pictures = tf.GroundingDinoImageProcessor(size={"shortest_edge": 96, "longest_edge": 160})
    return tf.GroundingDinoForObjectDetection(config), tf.GroundingDinoProcessor(pictures, bert_tokenizer(folder))


def sam_parts(size):
    prompt = {"hidden_size": 16, "image_size": size, "patch_size": 16, "mask_input_channels": 4}
    decoder = {"hidden_size": 16, "mlp_dim": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "iou_head_hidden_dim": 16}
    return {"prompt_encoder_config": prompt, "mask_decoder_config": decoder}


def make_sam(folder):
    vision = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 64, "mlp_dim": 16}
    vision |= {"output_channels": 16, "window_size": 2, "global_attn_indexes": [0], "num_pos_feats": 8}
    sides = {name: {"height": s, "width": s} for name, s in (("pad_size", 64), ("mask_pad_size", 16))}
    pictures = tf.SamImageProcessor(size={"longest_edge": 64}, mask_size={"longest_edge": 16}, **sides)
    return tf.SamModel(tf.SamConfig(vision_config=vision, **sam_parts(64))), tf.SamProcessor(pictures)


def make_sam2(folder):
    widths = [8, 16, 32, 64]
    hiera = {"hidden_size": 8, "embed_dim_per_stage": widths, "blocks_per_stage": [1, 1, 2, 1], "image_size": [128, 128]}
    hiera |= {"num_attention_heads_per_stage": [1] * 4, "window_size_per_stage": [4, 2, 2, 2], "global_attention_blocks": [3]}
    hiera |= {"window_positional_embedding_background_size": [2, 2], "model_type": "sam2_hiera_det_model"}
    vision = {"backbone_config": hiera, "backbone_channel_list": widths[::-1], "fpn_hidden_size": 16}
    vision["backbone_feature_sizes"] = [[32, 32], [16, 16], [8, 8]]
    model = tf.Sam2Model(tf.Sam2Config(vision_config=vision, **sam_parts(128)))
    if HAS_TORCHVISION:
        return model, tf.Sam2Processor(tf.Sam2ImageProcessor(size={"height": 128, "width": 128}))
    (folder / "processor_config.json").write_text('{"image_processor": {"image_processor_type": "Sam2ImageProcessor"}}')
    return model, None


def make_llava(folder):
    tokenizer, llama, image = chat_parts()
    vision = {"model_type": "clip_vision_model", "image_size": 32, "patch_size": 16, "projection_dim": 16} | SMALL
    config = tf.LlavaConfig(vision_config=vision, text_config=llama, image_token_index=image, vision_feature_layer=-1)
    pictures = tf.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    more = {"patch_size": 16, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    return tf.LlavaForConditionalGeneration(config), tf.LlavaProcessor(pictures, tokenizer, chat_template=CHAT, **more)


def make_idefics(folder):
    tokenizer, llama, image = chat_parts()
    vision = {"image_size": 32, "patch_size": 8} | SMALL
    config = tf.Idefics3Config(vision_config=vision, text_config=llama, image_token_id=image)
    # crops are cut into pieces by their shape: prompts of one batch differ in length
    pictures = tf.Idefics3ImageProcessor(size={"longest_edge": 64}, max_image_size={"longest_edge": 32})
    processor = tf.Idefics3Processor(pictures, tokenizer, image_seq_len=4, chat_template=CHAT)
    return tf.Idefics3ForConditionalGeneration(config), processor


def make_blip(folder):
    ids = {"bos_token_id": 101, "pad_token_id": 0, "eos_token_id": 102, "sep_token_id": 102}
    text = {"vocab_size": 1030, "encoder_hidden_size": 32, "initializer_range": 0.5} | ids | SMALL
    vision = {"image_size": 32, "patch_size": 16, "initializer_range": 0.5} | SMALL
    model = tf.BlipForConditionalGeneration(tf.BlipConfig(text_config=text, vision_config=vision))
    return model, tf.BlipProcessor(tf.BlipImageProcessor(size={"height": 32, "width": 32}), bert_tokenizer(folder))


def make_git(folder):
    vision = {"image_size": 32, "patch_size": 16} | SMALL
    ids = {"vocab_size": 1030, "bos_token_id": 101, "eos_token_id": 102}
    config = tf.GitConfig(vision_config=vision, initializer_range=0.5, **ids, **SMALL)
    pictures = tf.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    return tf.GitForCausalLM(config), tf.GitProcessor(pictures, bert_tokenizer(folder))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder with each of the models, made when it is asked for."""
    made = {}

    def make(name):
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            torch.manual_seed(1)
            for part in globals()[f"make_{name}"](made[name]):
                if part is not None:
                    part.save_pretrained(made[name])
        return str(made[name])

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # such small models wait for their threads only
    yield make
    torch.set_num_threads(threads)


def find_all(folders, sam="sam", vocabulary=VOCABULARY, box_threshold=0.0, **more):
    """A segmenter that keeps every box unless told otherwise."""
    paths = folders("dino"), folders(sam)
    return GroundedSam(*paths, vocabulary, box_threshold, 0.0, 1.0, device="cpu", local_files_only=True, **more)


PICTURE = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
MASKS = ImageMasks(np.zeros((5, 60, 80), bool))
for mask, spot in zip(MASKS.masks, (np.s_[:5], np.s_[20:50, 20:80], np.s_[5, 5], np.s_[:0], np.s_[:30, :10]), strict=True):
    mask[spot] = True  # the fourth stays empty


@pytest.mark.parametrize("size", [(60, 80), (97, 41)])
def test_masks_fit_the_image_and_carry_phrases_of_the_vocabulary(folders, size):
    found = find_all(folders).segment(np.resize(PICTURE, (*size, 3)))
    assert found.masks.shape == (9, *size)
    assert found.masks.dtype == bool
    assert set(found.labels) <= set(VOCABULARY)
    assert found.scores.dtype == np.float32
    assert ((found.scores >= 0) & (found.scores <= 1)).all()


def test_boxes_and_masks_are_those_of_the_library(folders, monkeypatch):
    monkeypatch.setattr(grounded_sam, "_BOXES_AT_ONCE", 4)  # the nine boxes go through SAM in three parts
    segmenter, image = find_all(folders), Image.fromarray(PICTURE)
    boxes, _, _ = segmenter._detect(image)
    masks, quality = segmenter._masks(image, boxes)
    model = tf.GroundingDinoForObjectDetection.from_pretrained(folders("dino")).eval()
    processor = tf.AutoProcessor.from_pretrained(folders("dino"))
    inputs = processor(images=image, text="chair. office chair. nightstand. table lamp.", return_tensors="pt")
    assert segmenter._prompts[0].inputs["input_ids"].tolist() == inputs["input_ids"].tolist()
    with torch.inference_mode():
        (wanted,) = processor.post_process_grounded_object_detection(model(**inputs), threshold=0, target_sizes=[(60, 80)])
    assert np.allclose(boxes, wanted["boxes"].clamp(min=0).numpy(), atol=1e-3)
    sam = tf.SamModel.from_pretrained(folders("sam")).eval()
    processor = tf.AutoProcessor.from_pretrained(folders("sam"))
    for box, mask, expected in zip(boxes, masks, quality, strict=True):
        inputs = processor(images=image, input_boxes=[[box.tolist()]], return_tensors="pt")
        inputs["input_boxes"] = inputs["input_boxes"].float()
        with torch.inference_mode():
            output = sam(**{key: inputs[key] for key in ("pixel_values", "input_boxes")})
        best = int(output.iou_scores[0, 0].argmax())
        sizes = inputs["original_sizes"], inputs["reshaped_input_sizes"]
        assert (processor.post_process_masks(output.pred_masks, *sizes)[0][0, best].numpy() == mask).all()
        assert expected == pytest.approx(float(output.iou_scores[0, 0, best]), abs=1e-5)


def test_a_vocabulary_longer_than_one_text_is_asked_in_several(folders):
    words = [f"{a} {b} {c} {d}" for a in WORDS[:4] for b in WORDS[:4] for c in WORDS[:4] for d in WORDS[4:6]]
    segmenter = find_all(folders, vocabulary=words)
    assert len(segmenter._prompts) == 3
    tokenizer, asked = segmenter._detector.processor.tokenizer, []
    for prompt in segmenter._prompts:
        ids = prompt.inputs["input_ids"][0]
        assert len(ids) <= 256
        asked += [segmenter.vocabulary[i] for i in prompt.phrases]
        assert [tokenizer.decode(ids[span]) for span in prompt.spans] == [words[i] for i in prompt.phrases]
    assert asked == words


def test_boxes_of_all_texts_are_joined_under_their_phrases(folders, monkeypatch):
    """The detector's answers are put in by hand here: random weights cannot be made to see anything."""
    words = [f"sofa {a} {b} {c}" for a in WORDS[:7] for b in WORDS[:5] for c in WORDS[:3]] + ["office chair", "Chair"]
    segmenter = GroundedSam(folders("dino"), folders("sam"), words, device="cpu")
    assert len(segmenter._prompts) == 3

    def answer(input_ids, **_):
        logits = torch.full((1, 3, 256), -torch.inf)
        boxes = torch.tensor([[[0.5, 0.5, 0.5, 0.5], [0.5, 0.52, 0.5, 0.5], [0.25, 0.75, 0.6, 0.2]]])
        here = segmenter._prompts[[p.inputs["input_ids"].shape for p in segmenter._prompts].index(input_ids.shape)]
        if here is segmenter._prompts[-1]:
            two, one = here.spans[-2:]
            logits[0, 0, two], logits[0, 0, one] = torch.tensor([-3.0, 1.5]), 1.0  # a chair, of no office
            logits[0, 1, one] = 2.0  # nearly the same box
            logits[0, 2, two] = 1.0
        else:
            logits[0, 2, here.spans[0]] = -1.0  # below the thresholds
        return SimpleNamespace(logits=logits, pred_boxes=boxes)

    monkeypatch.setattr(segmenter, "_detector", replace(segmenter._detector, model=answer))
    boxes, scores, labels = segmenter._detect(Image.fromarray(PICTURE))
    assert [words[i] for i in labels] == ["Chair", "office chair"]
    assert np.allclose(scores, torch.tensor([2.0, 1.0]).sigmoid())
    assert np.allclose(boxes, [[20, 16.2, 60, 46.2], [0, 39, 44, 51]], atol=1e-3)


def test_a_box_is_named_by_the_phrase_whose_tokens_are_all_seen():
    spans = [slice(1, 2), slice(3, 5), slice(6, 7)]
    tokens = np.array([[0.9, 0.6, 0, 0.2, 0.8, 0, 0], [0, 0.6, 0, 0.7, 0.8, 0, 0], [0.9, 0.2, 0.9, 0, 0.2, 0, 0.1]], np.float32)
    phrases, scores = name_boxes(tokens, spans, 0.25)
    assert phrases.tolist() == [0, 1, -1]  # marks between phrases name nothing
    assert np.allclose(scores[:2], [0.6, 0.8])


@pytest.mark.parametrize("seed", range(5))
def test_suppression_equals_comparing_every_pair(seed):
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 12, (40, 2))
    boxes = np.concatenate([corner, corner + rng.integers(0, 9, (40, 2))], 1).astype(np.float32)
    scores, labels = rng.integers(0, 8, 40) / 8, rng.integers(0, 3, 40)

    def pixels(box):
        x0, y0, x1, y1 = box.astype(int)
        return {(x, y) for x in range(x0, x1) for y in range(y0, y1)}

    wanted = []
    for i in sorted(range(40), key=lambda i: (-scores[i], i)):
        one, rivals = pixels(boxes[i]), [pixels(boxes[k]) for k in wanted if labels[k] == labels[i]]
        if all(len(one & other) <= 0.4 * len(one | other) for other in rivals):
            wanted.append(i)
    assert suppress_boxes(boxes, scores, labels, 0.4).tolist() == sorted(wanted)


def test_nothing_found_gives_no_masks_and_the_sam_is_not_asked(folders):
    found = find_all(folders, box_threshold=1.0).segment(PICTURE)
    assert (found.masks.shape, found.masks.dtype, found.labels, len(found.scores)) == ((0, 60, 80), bool, (), 0)


@pytest.mark.parametrize(
    ("vocabulary", "message"),
    [([], "empty"), (["chair", " . "], "without a word"), ("chair", "list of phrases"), (["a " * 300], "tokens, expected")],
)
def test_a_vocabulary_that_cannot_be_asked_is_refused(folders, vocabulary, message):
    with pytest.raises(Mosaic3DError, match=message):
        find_all(folders, vocabulary=vocabulary)


def test_phrases_that_read_the_same_are_asked_once(folders):
    assert find_all(folders, vocabulary=["TV.", "tv", "Sofa"]).vocabulary == ("TV.", "Sofa")


@pytest.mark.skipif(HAS_TORCHVISION, reason="torchvision is installed")
def test_sam_2_without_torchvision_says_what_to_install(folders):
    with pytest.raises(MissingDependencyError, match="pip install torchvision"):
        find_all(folders, "sam2")


@pytest.mark.skipif(not HAS_TORCHVISION, reason="the image processor of SAM 2 needs torchvision")
def test_sam_2_makes_the_masks_as_well(folders):
    found = find_all(folders, "sam2").segment(PICTURE)
    assert found.masks.shape == (9, 60, 80)
    assert 0 < found.masks.mean() < 1


class PlainSam2Processor:
    """What the processor of SAM 2 does, where torchvision is missing: images and boxes stretched to a square, and masks back."""

    def __init__(self):
        self.image_processor = self

    def __call__(self, images, input_boxes, return_tensors):
        pixels = torch.from_numpy(np.array(images.resize((128, 128)), np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
        scale = torch.tensor([128 / images.width, 128 / images.height] * 2)
        sizes = torch.tensor([[images.height, images.width]])
        return {"pixel_values": pixels, "input_boxes": torch.tensor(input_boxes) * scale, "original_sizes": sizes}

    def post_process_masks(self, masks, original_sizes):
        return [torch.nn.functional.interpolate(masks[0], original_sizes[0].tolist(), mode="bilinear") > 0]


def test_sam_2_itself_takes_boxes_and_gives_masks_in_the_size_of_the_image(folders, monkeypatch):
    monkeypatch.setattr(tf.Sam2Processor, "from_pretrained", lambda *_, **__: PlainSam2Processor())
    segmenter = find_all(folders, "sam2")
    assert type(segmenter._sam.model) is tf.Sam2Model
    found = segmenter.segment(PICTURE)
    assert found.masks.shape == (9, 60, 80)
    assert ((found.scores > 0) & (found.scores <= 1)).all()


def test_a_random_detector_goes_through_the_whole_engine(folders):
    sequence = open_room(3, "val", sensor=None, frames=2, width=160, height=120)
    points = fuse_sequence(sequence).centroids
    settings = EngineSettings(max_area=1.0, max_overlap=1.0, min_points=1)
    captioner = RegionCaptioner(folders("llava"), max_new_tokens=5, device="cpu")
    pairs = FrameEngine(find_all(folders), captioner, settings).process(sequence, 0, points)
    assert pairs.counts["masks"] == 9
    assert len(pairs.masks) == len(pairs.captions) > 0
    assert pairs.counts["pairs"] + sum(n for key, n in pairs.counts.items() if key.startswith("dropped")) == 9


@pytest.mark.parametrize("name", ["llava", "idefics", "blip", "git"])
def test_captions_do_not_depend_on_the_batch(folders, name):
    one, three = (RegionCaptioner(folders(name), None, batch, 6, device="cpu").caption(PICTURE, MASKS) for batch in (1, 3))
    assert one == three
    assert one[3] == ""
    assert len(set(one)) > 2
    assert all(text == " ".join(text.split()) and "please" not in text for text in one)


def test_chat_models_answer_as_through_the_library(folders):
    captioner = RegionCaptioner(folders("idefics"), "describe the red chair .", max_new_tokens=6, device="cpu")
    processor = tf.AutoProcessor.from_pretrained(folders("idefics"))
    model = tf.Idefics3ForConditionalGeneration.from_pretrained(folders("idefics")).eval()
    crop = Image.fromarray(show_region(PICTURE, MASKS.masks[1], captioner.margin, captioner.dim))
    content = [{"type": "image", "image": crop}, {"type": "text", "text": "describe the red chair ."}]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )  # fmt: skip
    assert captioner._inputs([crop])["input_ids"].tolist() == inputs["input_ids"].tolist()
    tokens = model.generate(**inputs, max_new_tokens=6, do_sample=False, pad_token_id=2)[:, inputs["input_ids"].shape[1] :]
    assert captioner.caption(PICTURE, MASKS)[1] == processor.batch_decode(tokens, skip_special_tokens=True)[0] != ""


@pytest.mark.parametrize("name", ["blip", "git"])
def test_a_plain_captioner_continues_the_prompt_and_does_not_repeat_it(folders, name):
    texts = RegionCaptioner(folders(name), "a photo of", max_new_tokens=6, device="cpu").caption(PICTURE, MASKS)
    assert any(texts)
    assert not any("a photo of" in text for text in texts)


def test_a_region_is_shown_with_a_margin_and_darkened_outside_of_its_mask():
    image, mask = np.full((100, 200, 3), 200, np.uint8), np.zeros((100, 200), bool)
    mask[40:80, 100:180] = True
    crop = show_region(image, mask, 0.25, 0.5)
    assert crop.shape == (80, 120, 3)
    assert (crop == 200).all(2).sum() == mask.sum()
    assert set(np.unique(crop)) == {100, 200}
    mask[:] = False
    mask[99, 199] = True
    assert show_region(image, mask, 0.25, 0.5).shape == (32, 32, 3)  # a speck


def test_half_precision_runs(folders):
    assert find_all(folders, dtype="bfloat16").segment(PICTURE).masks.shape == (9, 60, 80)
    assert len(RegionCaptioner(folders("llava"), max_new_tokens=3, device="cpu", dtype="bfloat16").caption(PICTURE, MASKS)) == 5


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: shutil.rmtree(folder), "is no folder"),
        (lambda folder: (folder / "config.json").unlink(), "lacks config.json"),
        (lambda folder: (folder / "processor_config.json").unlink(), "lacks processor_config.json"),
        (lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"), "pickled weights"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"123"), "cannot be loaded"),
        (lambda folder: drop_a_weight(folder / "model.safetensors"), "lacks 1 weights"),
    ],
)
def test_a_damaged_model_folder_is_named_with_what_is_wrong(folders, tmp_path, damage, message):
    folder = tmp_path / "copy"
    shutil.copytree(folders("sam"), folder)
    damage(folder)
    with pytest.raises(CheckpointError, match=message) as caught:
        GroundedSam(folders("dino"), str(folder), VOCABULARY, device="cpu")
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def drop_a_weight(file):
    weights = load_file(file)
    del weights["mask_decoder.iou_token.weight"]
    save_file(weights, file, {"format": "pt"})


def test_models_of_another_kind_and_unknown_names_are_refused(folders):
    with pytest.raises(CheckpointError, match='holds a "sam" model, expected a Grounding DINO detector'):
        GroundedSam(folders("sam"), folders("sam"), VOCABULARY, device="cpu")
    with pytest.raises(CheckpointError, match='holds a "blip" model, expected a SAM or SAM 2'):
        GroundedSam(folders("dino"), folders("blip"), VOCABULARY, device="cpu")
    with pytest.raises(CheckpointError, match="another kind, expected a vision-language model"):
        RegionCaptioner(folders("sam"), device="cpu")
    with pytest.raises(CheckpointError, match="nobody/nothing cannot be loaded"):
        RegionCaptioner("nobody/nothing", device="cpu", local_files_only=True)


def test_a_package_that_a_processor_needs_is_named(folders, monkeypatch):
    def refuse(*_, **__):
        raise ImportError("Package `num2words` is required. Install it with `pip install num2words`.")

    monkeypatch.setattr(tf.AutoProcessor, "from_pretrained", refuse)
    with pytest.raises(MissingDependencyError, match="pip install num2words"):
        RegionCaptioner(folders("llava"), device="cpu")


def test_without_transformers_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingDependencyError, match="pip install transformers"):
        RegionCaptioner("nobody/nothing", device="cpu")
