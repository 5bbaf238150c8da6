"""Open-vocabulary masks: Grounding DINO finds boxes for phrases, SAM or SAM 2 cuts out what is in them."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from mosaic3d_core.data.engine.image_masks import ImageMasks
from mosaic3d_core.data.engine.pretrained import Pretrained, load_pretrained
from mosaic3d_core.errors import Mosaic3DError

_DETECTORS = ("grounding-dino", "mm-grounding-dino")
_MASK_MODELS = ("sam", "sam2", "sam2_video")
_BOXES_AT_ONCE = 32  # masks are scaled up to the image in float32: 1.2 MB each for VGA, and 4 MB on the way there


@dataclass(frozen=True)
class _Prompt:
    """Some phrases of the vocabulary as one text of the detector, "chair . office chair ."."""

    inputs: dict[str, torch.Tensor]
    phrases: list[int]
    spans: list[slice]


class GroundedSam:
    """Open-vocabulary segmenter in two steps. The models are loaded when it is made; safe to use from threads.

    Labels: the detector scores every token of its text, and each token belongs to one phrase of the vocabulary. A box is given
    the phrase whose tokens have the highest mean probability, where tokens up to ``text_threshold`` count as 0 (so "chair" wins
    over "office chair" if "office" is not seen); of equal phrases the first; and none if no token is above it, then the box is
    dropped. The score of the box is the highest probability among the tokens of its phrase. Labels are therefore always whole
    phrases of the vocabulary.

    A vocabulary that is too long for one text of the detector is spread over several, each of which costs one pass. A thing may
    then be found under phrases of different texts; `EngineSettings.max_overlap` keeps the surer one.

    Args:
        detector: Grounding DINO, local folder or hub name, with weights as safetensors.
        sam: SAM or SAM 2, likewise. SAM 2 needs torchvision.
        vocabulary: Phrases to look for. Compared without case; "." and "?", which end a phrase for the detector, are read as
            spaces; of phrases that are then the same the first counts.
        box_threshold: Boxes of a score up to this are dropped.
        text_threshold: Tokens up to this probability do not name a box.
        max_overlap: Of two boxes of a phrase that overlap more (intersection over union) the one of lower score is dropped.
        device: "auto", "cpu", "cuda", "cuda:N".
        dtype: Dtype of the weights; None is float32, on CUDA float16 (bfloat16 is too coarse for coordinates).
        local_files_only: Never ask the hub.

    Raises:
        ValueError: If a threshold is out of its range.
        Mosaic3DError: If the vocabulary is empty, or holds an empty phrase or one too long for the detector.
        MissingDependencyError: If transformers is not installed, or torchvision is not and an image processor needs it.
        CheckpointError: If a model cannot be loaded, or is of another kind.
    """

    def __init__(
        self,
        detector: str,
        sam: str,
        vocabulary: Sequence[str],
        box_threshold: float = 0.3,
        text_threshold: float = 0.25,
        max_overlap: float = 0.7,
        device: torch.device | str = "auto",
        dtype: torch.dtype | str | None = None,
        local_files_only: bool = False,
    ) -> None:
        for name, value in (("box_threshold", box_threshold), ("text_threshold", text_threshold), ("max_overlap", max_overlap)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {value}")
        self.box_threshold, self.text_threshold, self.max_overlap = box_threshold, text_threshold, max_overlap
        self.vocabulary, texts = _checked_vocabulary(vocabulary)
        common = (device, dtype, torch.float16, local_files_only)
        self._detector = load_pretrained(
            detector, "AutoModelForZeroShotObjectDetection", "Grounding DINO detector", *common, _DETECTORS
        )
        self._sam = load_pretrained(sam, "AutoModelForMaskGeneration", "SAM or SAM 2 model", *common, _MASK_MODELS)
        self._prompts = _prompts(texts, self._detector)
        self._lock = threading.Lock()

    def segment(self, image: NDArray[np.uint8]) -> ImageMasks:
        """Masks of what the vocabulary names.

        Args:
            image: (H, W, 3) uint8 RGB.

        Returns:
            Masks in the size of the image; labels are phrases of the vocabulary; scores are the detector's times the quality
            that SAM predicts for its mask, clipped to [0, 1].
        """
        picture = Image.fromarray(image)
        with self._lock, torch.inference_mode():
            boxes, scores, labels = self._detect(picture)
            masks, quality = self._masks(picture, boxes)
        sure = (scores * np.clip(quality, 0, 1)).astype(np.float32)
        return ImageMasks(masks, tuple(self.vocabulary[i] for i in labels), np.clip(sure, 0, 1))

    def _detect(self, picture: Image.Image) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
        """Boxes (K, 4) as x0, y0, x1, y1 in pixels, scores (K,) and indices of phrases (K,), duplicates removed."""
        pixels = self._detector.moved(self._detector.processor.image_processor(images=picture, return_tensors="pt"))
        found = []
        for prompt in self._prompts:
            output = self._detector.model(**pixels, **prompt.inputs)
            tokens = output.logits[0].float().sigmoid().cpu().numpy()
            phrases, scores = name_boxes(tokens, prompt.spans, self.text_threshold)
            boxes = _corners(output.pred_boxes[0].float().cpu().numpy(), picture.width, picture.height)
            kept = (phrases >= 0) & (scores > self.box_threshold) & (boxes[:, 2:] > boxes[:, :2]).all(1)
            found.append((boxes[kept], scores[kept], np.array(prompt.phrases)[phrases[kept]]))
        boxes, scores, labels = (np.concatenate(parts) for parts in zip(*found, strict=True))
        chosen = suppress_boxes(boxes, scores, labels, self.max_overlap)
        return boxes[chosen], scores[chosen], labels[chosen]

    def _masks(self, picture: Image.Image, boxes: NDArray[np.float32]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """The best mask (K, H, W) of each box, and the overlap with the truth (K,) that SAM expects of it."""
        size = (picture.height, picture.width)
        if not len(boxes):
            return np.zeros((0, *size), bool), np.zeros(0, np.float32)
        model, processor = self._sam.model, self._sam.processor
        inputs = processor(images=picture, input_boxes=[boxes.tolist()], return_tensors="pt")
        embeddings = model.get_image_embeddings(self._sam.moved({"pixel_values": inputs["pixel_values"]})["pixel_values"])
        sizes = {key: inputs[key] for key in ("original_sizes", "reshaped_input_sizes") if key in inputs}
        masks, quality = [], []
        # coordinates stay in float32: half precision would move them by up to half a pixel
        for part in inputs["input_boxes"].to(self._sam.device, torch.float32).split(_BOXES_AT_ONCE, dim=1):
            output = model(image_embeddings=embeddings, input_boxes=part.contiguous(), multimask_output=True)
            expected, best = output.iou_scores[0].float().max(1)  # (B, 3) over the proposals of each box
            chosen = output.pred_masks[0][torch.arange(len(best), device=best.device), best]
            masks.append(processor.post_process_masks([chosen[:, None].float().cpu()], **sizes)[0][:, 0].numpy())
            quality.append(expected.cpu().numpy())
        return np.concatenate(masks), np.concatenate(quality)


def _checked_vocabulary(vocabulary: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """The phrases without repetitions, and as the detector reads them."""
    if isinstance(vocabulary, str):
        raise Mosaic3DError(f'the vocabulary must be a list of phrases, got the text "{vocabulary[:50]}"')
    if not len(vocabulary):
        raise Mosaic3DError("the vocabulary is empty; give at least one phrase to look for")
    texts: dict[str, str] = {}
    for phrase in vocabulary:
        text = " ".join(re.sub(r"[.?]", " ", phrase).lower().split())
        if not text:
            raise Mosaic3DError(f'the vocabulary holds the phrase "{phrase}" without a word')
        texts.setdefault(text, phrase)
    return tuple(texts.values()), list(texts)


def _prompts(texts: list[str], detector: Pretrained) -> list[_Prompt]:
    """Phrases packed in their order into as few texts as the detector's limit of tokens allows."""
    config, tokenizer = detector.model.config, detector.processor.tokenizer
    room = min(config.max_text_len, config.text_config.max_position_embeddings, tokenizer.model_max_length) - 2  # [CLS], [SEP]
    stop = tokenizer(".", add_special_tokens=False)["input_ids"]
    packed: list[tuple[list[int], list[list[int]]]] = []
    used = room
    for number, text in enumerate(texts):
        tokens = tokenizer(text, add_special_tokens=False)["input_ids"] + stop
        if not len(stop) < len(tokens) <= room:
            raise Mosaic3DError(f'the phrase "{text}" has {len(tokens)} tokens, expected {len(stop) + 1} to {room}: rephrase it')
        if used + len(tokens) > room:
            packed.append(([], []))
            used = 0
        packed[-1][0].append(number)
        packed[-1][1].append(tokens)
        used += len(tokens)
    return [_prompt(numbers, tokens, len(stop), detector) for numbers, tokens in packed]


def _prompt(numbers: list[int], tokens: list[list[int]], stop: int, detector: Pretrained) -> _Prompt:
    tokenizer = detector.processor.tokenizer
    ids = torch.tensor([[tokenizer.cls_token_id, *(t for part in tokens for t in part), tokenizer.sep_token_id]])
    ends = 1 + np.cumsum([len(part) for part in tokens])
    spans = [slice(int(end) - len(part), int(end) - stop) for end, part in zip(ends, tokens, strict=True)]
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    return _Prompt(detector.moved(inputs), numbers, spans)


def name_boxes(
    tokens: NDArray[np.float32], spans: Sequence[slice], text_threshold: float
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The phrase of each box, by the rule of `GroundedSam`.

    Args:
        tokens: Probability of each token for each box. Shape (K, T), float32.
        spans: The tokens of each phrase. Length P.
        text_threshold: Tokens up to this probability count as 0.

    Returns:
        Index of the phrase of each box, -1 for none, (K,) int64; and the highest probability of its tokens, (K,) float32.
    """
    heard = np.where(tokens > text_threshold, tokens, 0)
    means = np.stack([heard[:, span].mean(1) for span in spans], 1)
    peaks = np.stack([tokens[:, span].max(1) for span in spans], 1)
    best = means.argmax(1)
    rows = np.arange(len(tokens))
    return np.where(means[rows, best] > 0, best, -1), peaks[rows, best]


def _corners(boxes: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    """Boxes (K, 4) as centre and size in shares of the image, to x0, y0, x1, y1 in pixels within the image."""
    corners = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], 1)
    return np.clip(corners, 0, 1) * np.array([width, height, width, height], np.float32)


def suppress_boxes(
    boxes: NDArray[np.floating], scores: NDArray[np.floating], labels: NDArray[np.integer], max_overlap: float
) -> NDArray[np.int64]:
    """Non-maximum suppression within each label: greedy, by score, of equal scores the first.

    Args:
        boxes: x0, y0, x1, y1 with x1 >= x0 and y1 >= y0. Shape (K, 4).
        scores: Shape (K,).
        labels: Boxes of different labels do not compete. Shape (K,).
        max_overlap: Largest allowed intersection over union of two kept boxes of a label.

    Returns:
        Indices of the kept boxes, ascending, int64.
    """
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    waiting = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while len(waiting):
        first, waiting = waiting[0], waiting[1:]
        kept.append(int(first))
        sides = np.minimum(boxes[first, 2:], boxes[waiting, 2:]) - np.maximum(boxes[first, :2], boxes[waiting, :2])
        both = np.maximum(sides, 0).prod(1)
        # as a product: no division by the area of empty boxes
        rival = both > max_overlap * (area[first] + area[waiting] - both)
        waiting = waiting[~(rival & (labels[waiting] == labels[first]))]
    return np.sort(np.array(kept, np.int64))
