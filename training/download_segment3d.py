"""Segment3D's weights as a start for the mask decoder: fetched, or from a file that you have.

python training/download_segment3d.py --out data/segment3d.safetensors
python training/download_segment3d.py --file segment3d.ckpt --out data/segment3d.safetensors
python training/train.py experiment=train_opensegment3d_scannet model.net.decoder_init=data/segment3d.safetensors ...
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a clone that is not installed

from safetensors.torch import save_file

from mosaic3d_core.data.caption_files import write_atomically
from mosaic3d_core.errors import CheckpointError, MissingDependencyError, Mosaic3DError
from mosaic3d_core.models.mask_decoder import MaskDecoder, MaskDecoderConfig
from mosaic3d_core.models.mask_decoder.segment3d import read_segment3d, take_over

#: Where the authors of Segment3D keep their checkpoint.
_FILE_ID = "1Swq9d7rjV2Q1lTuXiKh1z0OZPt9V4sgO"
_PAGE = f"https://drive.google.com/file/d/{_FILE_ID}"


def fetch(folder: Path) -> Path:
    """The checkpoint as its authors published it.

    Raises:
        MissingDependencyError: If gdown is not installed.
        CheckpointError: If it cannot be had.
    """
    try:
        import gdown
    except ImportError as error:
        raise MissingDependencyError(f"fetching needs gdown: pip install gdown, or get {_PAGE} and give --file") from error
    try:
        found = gdown.download(id=_FILE_ID, output=str(folder / "segment3d.ckpt"), quiet=False)
    except Exception as error:  # gdown and requests raise a dozen kinds here
        raise CheckpointError(f"Segment3D's checkpoint cannot be fetched ({error}); get {_PAGE} and give --file") from error
    if not found:
        raise CheckpointError(f"Segment3D's checkpoint cannot be fetched; get {_PAGE} with a browser and give --file")
    return Path(found)


def main(arguments: list[str] | None = None) -> int:
    """Command line; exit code 2 for what cannot be had or read."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--file", type=Path, help="segment3d.ckpt that you have already (default: fetch it)")
    parser.add_argument("--out", type=Path, required=True, help="file to write, .safetensors")
    args = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as folder:
            weights = read_segment3d(args.file or fetch(Path(folder)))
        result = take_over(MaskDecoder(MaskDecoderConfig()), weights)
        args.out.parent.mkdir(parents=True, exist_ok=True)
        tensors = {name: value.contiguous() for name, value in weights.items()}
        write_atomically(args.out, lambda p: save_file(tensors, str(p), metadata={"format": "segment3d"}))
    except (Mosaic3DError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(f"{len(result.taken)} weights fit the mask decoder, {len(result.random)} start at random:")
    print(f"  {', '.join(result.random)}")
    print(args.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
