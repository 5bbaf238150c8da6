"""Models of the transformers library, loaded from local folders or the hub."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mosaic3d_core.errors import CheckpointError, MissingDependencyError
from mosaic3d_core.models.precision import choose_device, choose_dtype

_PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")


@dataclass(frozen=True)
class Pretrained:
    """A model of the transformers library in eval mode, and what prepares its inputs."""

    processor: Any
    model: Any
    device: torch.device
    dtype: torch.dtype

    def moved(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Tensors on the device of the model, floating ones in its dtype."""
        return {key: value.to(self.device, self.dtype if value.is_floating_point() else None) for key, value in inputs.items()}


def load_pretrained(
    name: str,
    auto_class: str,
    what: str,
    device: torch.device | str,
    dtype: torch.dtype | str | None,
    half: torch.dtype,
    local_files_only: bool,
    families: Sequence[str] = (),
) -> Pretrained:
    """Load a model and its processor. Only safetensors are read, and no Python code that comes with a model is run.

    Args:
        name: Local folder or hub name.
        auto_class: The class of transformers that knows this kind of model, "AutoModelFor...".
        what: The kind of model in words, for errors.
        device: "auto", "cpu", "cuda", "cuda:N".
        dtype: Dtype of the weights; None is float32, on CUDA ``half``.
        half: float16, or bfloat16, which becomes float16 on GPUs that lack it.
        local_files_only: Never ask the hub.
        families: Accepted values of the model's `model_type`; none accepts all that the class knows.

    Raises:
        ValueError: If the device or dtype is unknown or not to be had.
        MissingDependencyError: If transformers is not installed, or a package that the processor needs.
        CheckpointError: If the model cannot be loaded, is incomplete or of another kind.
    """
    chosen = choose_device(device)
    precision = torch.float32 if dtype in (None, "auto") else choose_dtype(chosen, dtype)
    if dtype in (None, "auto") and chosen.type == "cuda":
        precision = half if torch.cuda.is_bf16_supported() else torch.float16
    try:
        import transformers
    except ImportError as error:
        raise MissingDependencyError(f"the {what} needs the transformers library: pip install transformers") from error
    source = _checked_source(name, what)
    hub: dict[str, Any] = {"local_files_only": local_files_only, "trust_remote_code": False}
    try:
        family = transformers.AutoConfig.from_pretrained(source, **hub).model_type
        if families and family not in families:
            raise CheckpointError(f'{name} holds a "{family}" model, expected a {what} ({", ".join(families)})')
        model, report = getattr(transformers, auto_class).from_pretrained(
            source, dtype=precision, use_safetensors=True, output_loading_info=True, **hub
        )
        # hub folders of SAM 2 name the processor of videos
        processors = transformers.Sam2Processor if family.startswith("sam2") else transformers.AutoProcessor
        processor = processors.from_pretrained(source, **hub)
    except CheckpointError:
        raise
    except Exception as error:  # transformers, huggingface_hub, safetensors and json raise a dozen kinds here
        raise _explained(error, name, what) from error
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise CheckpointError(
            f"{name} lacks {len(missing)} weights of its {what} ({missing[0]} ...): get a complete copy of the model"
        )
    if not hasattr(processor, "image_processor"):
        raise CheckpointError(
            f"{name} has no image processor ({' or '.join(_PROCESSOR_FILES)}): get a complete copy of the model"
        )
    return Pretrained(processor, model.to(chosen).eval().requires_grad_(False), chosen, precision)


def _checked_source(name: str, what: str) -> str:
    path = Path(name).expanduser()
    if not path.exists() and not (name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name):
        return name  # of the hub
    help_ = f"give the folder of a downloaded {what}"
    if not path.is_dir():
        raise CheckpointError(f"{path} is no folder: {help_}, or its name on the Hugging Face hub")
    lacking = [] if (path / "config.json").is_file() else ["config.json"]
    if not any(path.glob("*.safetensors")):
        lacking.append("*.safetensors (pickled weights such as pytorch_model.bin are not read)")
    if not any((path / file).is_file() for file in _PROCESSOR_FILES):
        lacking.append(" or ".join(_PROCESSOR_FILES))
    if lacking:
        raise CheckpointError(f"the folder {path} lacks {', '.join(lacking)}: {help_} with all its files")
    return str(path)


def _explained(error: Exception, name: str, what: str) -> Exception:
    text = " ".join(str(error).split())
    if "torchvision" in text.lower() and importlib.util.find_spec("torchvision") is None:
        return MissingDependencyError(f"the processor of {name} needs torchvision: pip install torchvision")
    if isinstance(error, ImportError):  # the library says which package, and how to install it
        return MissingDependencyError(f"{name} needs a package that is not installed: {text}")
    if "Unrecognized configuration class" in text:
        return CheckpointError(f"{name} holds a model of another kind, expected a {what}")
    return CheckpointError(
        f"the {what} {name} cannot be loaded ({text[:300]}): check the name, or download the model elsewhere "
        "(hf download NAME --local-dir FOLDER) and give its folder"
    )
