"""Captions of image regions from a vision-language model."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from mosaic3d_core.data.engine.image_masks import ImageMasks
from mosaic3d_core.data.engine.pretrained import load_pretrained

_PROMPT = "Please give me a short description of the highlighted object."
_MIN_SIDE = 32  # pixels; image processors mistake the axes of slimmer crops


class RegionCaptioner:
    """Describes each mask with a vision-language model. The model is loaded when this is made; safe to use from threads.

    A region is shown as a crop of the image around its mask, wider than the box of the mask by a margin, in which everything
    outside of the mask is darkened: the surroundings help to tell what a thing is. (The published engine asked Osprey, which
    takes masks, for "a short description of <mask><pos>"; this way any model that takes an image will do.)

    A model with a chat template (LLaVA, Qwen-VL, SmolVLM ...) is asked the prompt. A plain captioner (BLIP, GIT) takes it as the
    beginning of its sentence. The caption is what the model adds to it, by greedy decoding, on one line.

    Args:
        model: Local folder or hub name of a model for images and text to text, with weights as safetensors.
        prompt: What is asked; None asks chat models for a short description, and plain captioners nothing.
        batch_size: Regions described at a time.
        max_new_tokens: Longest caption, in tokens.
        margin: Widening of the box on each side, as a share of its longer side.
        dim: Brightness of what lies outside of the mask, 0 (black) to 1 (as it is).
        device: "auto", "cpu", "cuda", "cuda:N".
        dtype: Dtype of the weights; None is float32, on CUDA bfloat16 (float16 on GPUs without).
        local_files_only: Never ask the hub.

    Raises:
        ValueError: If an argument is out of its range.
        MissingDependencyError: If transformers is not installed, or a package that this model's processor needs (torchvision
            for Qwen-VL and SmolVLM, num2words for SmolVLM).
        CheckpointError: If the model cannot be loaded, or is of another kind.
    """

    def __init__(
        self,
        model: str,
        prompt: str | None = None,
        batch_size: int = 8,
        max_new_tokens: int = 40,
        margin: float = 0.15,
        dim: float = 0.35,
        device: torch.device | str = "auto",
        dtype: torch.dtype | str | None = None,
        local_files_only: bool = False,
    ) -> None:
        for name, value in (("batch_size", batch_size), ("max_new_tokens", max_new_tokens)):
            if value < 1:
                raise ValueError(f"{name} must be >= 1, got {value}")
        if margin < 0 or not 0 <= dim <= 1:
            raise ValueError(f"margin must be >= 0 and dim in [0, 1], got {margin} and {dim}")
        self.batch_size, self.max_new_tokens, self.margin, self.dim = batch_size, max_new_tokens, margin, dim
        kind = ("AutoModelForImageTextToText", "vision-language model")
        self._loaded = load_pretrained(model, *kind, device, dtype, torch.bfloat16, local_files_only)
        processor = self._loaded.processor
        self._is_chat = bool(getattr(processor, "chat_template", None))
        self.prompt = prompt if prompt is not None else _PROMPT if self._is_chat else ""
        tokenizer = processor.tokenizer
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        generation = self._loaded.model.generation_config
        if generation.pad_token_id is None:
            generation.pad_token_id = tokenizer.pad_token_id
        if self._is_chat:
            tokenizer.padding_side = "left"  # the answer must follow the prompt without a gap
        # GIT's tokenizer gives these, GIT takes none
        self._unknown = {"token_type_ids"} - set(inspect.signature(self._loaded.model.forward).parameters)
        self._text = self._chat_text() if self._is_chat else self.prompt
        self._lock = threading.Lock()

    def _chat_text(self) -> str:
        content = [{"type": "image"}, {"type": "text", "text": self.prompt}]
        return self._loaded.processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)

    def caption(self, image: NDArray[np.uint8], masks: ImageMasks) -> list[str]:
        """One text for each mask; "" for a mask without pixels.

        Args:
            image: (H, W, 3) uint8 RGB.
            masks: Masks of the size of the image.
        """
        texts = [""] * len(masks)
        seen = [i for i, mask in enumerate(masks.masks) if mask.any()]
        for start in range(0, len(seen), self.batch_size):
            rows = seen[start : start + self.batch_size]
            crops = [Image.fromarray(show_region(image, masks.masks[i], self.margin, self.dim)) for i in rows]
            for i, text in zip(rows, self._describe(crops), strict=True):
                texts[i] = " ".join(text.split())
        return texts

    def _describe(self, crops: list[Image.Image]) -> list[str]:
        processor, model = self._loaded.processor, self._loaded.model
        with self._lock, torch.inference_mode():  # tokenizers keep padding state
            inputs = {key: value for key, value in self._loaded.moved(self._inputs(crops)).items() if key not in self._unknown}
            tokens = model.generate(**inputs, max_new_tokens=self.max_new_tokens, do_sample=False, num_beams=1)
            return processor.batch_decode(tokens[:, _prompt_length(tokens, inputs) :], skip_special_tokens=True)

    def _inputs(self, crops: list[Image.Image]) -> Any:
        more: dict[str, Any] = {"return_tensors": "pt"}
        processor = self._loaded.processor
        if not self._text:
            return processor(images=crops, **more)
        more |= {"text": [self._text] * len(crops), "padding": True}
        if not self._is_chat:
            return processor(images=crops, **more)
        bos = processor.tokenizer.bos_token
        if bos and self._text.startswith(bos):  # else the tokenizer would put a second one before it
            more["add_special_tokens"] = False
        return processor(images=[[crop] for crop in crops], **more)


def show_region(image: NDArray[np.uint8], mask: NDArray[np.bool_], margin: float, dim: float) -> NDArray[np.uint8]:
    """A crop of the image around a mask, darkened outside of it.

    Args:
        image: (H, W, 3) uint8.
        mask: (H, W) bool with at least one pixel.
        margin: Widening of the mask's box on each side, as a share of its longer side.
        dim: Brightness outside of the mask, 0 to 1.

    Returns:
        (h, w, 3) uint8, at least 32 pixels high and wide where the image is.
    """
    spans = [np.flatnonzero(mask.any(axis)) for axis in (1, 0)]
    widening = margin * max(span[-1] + 1 - span[0] for span in spans)
    rows, columns = (
        _widened(int(span[0]), int(span[-1]) + 1, widening, size) for span, size in zip(spans, mask.shape, strict=True)
    )
    crop, inside = image[rows, columns], mask[rows, columns, None]
    return np.where(inside, crop, np.rint(crop * dim)).astype(np.uint8)


def _widened(start: int, stop: int, widening: float, size: int) -> slice:
    more = max(round(widening), -(-(_MIN_SIDE - (stop - start)) // 2))
    start, stop = max(start - more, 0), min(stop + more, size)
    # what was cut off at one border of the image is added at the other side
    return slice(max(min(start, stop - _MIN_SIDE), 0), min(max(stop, start + _MIN_SIDE), size))


def _prompt_length(tokens: torch.Tensor, inputs: Mapping[str, Any]) -> int:
    """How many of the generated tokens (B, L) repeat the prompt: all of it, all but its end mark (BLIP), or nothing."""
    prompt = inputs.get("input_ids")
    if prompt is not None:
        for length in (prompt.shape[1], prompt.shape[1] - 1):
            # the first token is left out, some models replace it by their own
            if 1 < length <= tokens.shape[1] and torch.equal(tokens[:, 1:length], prompt[:, 1:length]):
                return length
    return 0
