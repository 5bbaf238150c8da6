"""The published Mosaic3D encoders by name: what they are, and how to get them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mosaic3d_core.errors import CheckpointError, MissingDependencyError

REPOSITORY = "junhalee/Mosaic3D"


@dataclass(frozen=True)
class PublishedEncoder:
    """One file of the model zoo.

    Attributes:
        name: Name to load it by; the file is ``NAME.ckpt``.
        architecture: Its net.
        trained_on: Its conditions, in the order of its embedding table.
        size_gb: Size of the file; most of it is the text encoder, which is not needed here.
        reported_f_miou: Foreground mIoU on ScanNet200 in percent as its authors report it (not measured here).
    """

    name: str
    architecture: str
    trained_on: tuple[str, ...]
    size_gb: float
    reported_f_miou: float

    @property
    def file_name(self) -> str:
        """Name of the file in the repository."""
        return f"{self.name}.ckpt"

    @property
    def page(self) -> str:
        """Where a person finds the file."""
        return f"https://huggingface.co/{REPOSITORY}/blob/main/{self.file_name}"


_SN, _AR, _PP, _MA, _ST = "ScanNet", "ARKitScenes", "ScanNetPP", "Matterport3D", "Structured3D"
_THREE = (_SN, _AR, _PP)

PUBLISHED: dict[str, PublishedEncoder] = {
    one.name: one
    for one in (
        PublishedEncoder("sc", "spunet34c+ppt", (_SN,), 2.74, 13.0),
        PublishedEncoder("sc+ar", "spunet34c+ppt", (_SN, _AR), 2.74, 14.8),
        PublishedEncoder("sc+ar+sc++", "spunet34c+ppt", _THREE, 2.74, 15.5),
        PublishedEncoder("sc+ar+sc+++ma", "spunet34c+ppt", (_SN, _AR, _MA, _PP), 2.74, 15.4),
        PublishedEncoder("sc+ar+sc+++ma+st", "spunet34c+ppt", (_SN, _AR, _MA, _ST, _PP), 2.74, 15.7),
        PublishedEncoder("spunet14a", "spunet14a+ppt", _THREE, 2.61, 13.2),
        PublishedEncoder("spunet18a", "spunet18a+ppt", _THREE, 2.64, 14.5),
        PublishedEncoder("spunet34c", "spunet34c+ppt", _THREE, 2.74, 15.5),
        PublishedEncoder("spunet50", "spunet50+ppt", _THREE, 2.97, 15.8),
        PublishedEncoder("spunet101", "spunet101+ppt", _THREE, 3.59, 16.0),
    )
}


def download(name: str, only_cached: bool = False) -> Path:
    """The file of a published encoder in the cache of huggingface_hub; fetched (resumable, with progress) when it is not there.

    Args:
        name: A key of `PUBLISHED`.
        only_cached: Never use the network.

    Returns:
        Path of the file.

    Raises:
        CheckpointError: If the name is unknown, or the file cannot be had; the message says how to get it by hand.
        MissingDependencyError: If huggingface_hub is not installed.
    """
    if name not in PUBLISHED:
        raise CheckpointError(f'no published encoder is called "{name}"; known are {", ".join(PUBLISHED)}')
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise MissingDependencyError(
            "fetching a published checkpoint needs huggingface_hub: pip install huggingface_hub"
        ) from error
    one = PUBLISHED[name]
    try:
        return Path(hf_hub_download(REPOSITORY, one.file_name, local_files_only=only_cached))
    except Exception as error:  # huggingface_hub, httpx and the OS raise a dozen kinds here
        reason = "it is not in the cache" if only_cached else (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"checkpoint {name} cannot be fetched ({reason}); download {one.file_name} ({one.size_gb:.2f} GB) from {one.page} "
            "on a machine with a network and give its path instead"
        ) from error
