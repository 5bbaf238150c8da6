"""Small studies of the methods, from data to plots in one command; a second call goes on where the first stopped.

python training/reproduce.py mosaic3d --quick
python training/reproduce.py mosaic3d
python training/reproduce.py mask_decoder --encoder encoder.safetensors
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a clone that is not installed

from mosaic3d_core.errors import Mosaic3DError
from training.studies import mask_decoder, mosaic3d


def main(arguments: list[str] | None = None) -> int:
    """Command line; exit code 2 for bad input, 130 after Ctrl-C (the same command goes on)."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument(
        "study",
        choices=["mosaic3d", "mask_decoder"],
        help="mosaic3d: masks, scale and mixed data in stage 1; mask_decoder: objects of stage 2 against connected components",
    )
    parser.add_argument("--quick", action="store_true", help="a few minutes: shows that all works, proves little")
    parser.add_argument("--out", type=Path, help="folder for data, runs, results.json and plots (default out/reproduce/STUDY)")
    parser.add_argument("--encoder", type=Path, help="mask_decoder only: encoder to train on (default: the shipped one)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at a time (default: one per core)")
    args = parser.parse_args(arguments)
    if args.jobs < 1:
        parser.error("--jobs must be >= 1")
    if args.encoder is not None and args.study != "mask_decoder":
        parser.error(f"--encoder belongs to mask_decoder: {args.study} trains its own")
    out = args.out or Path("out/reproduce") / (args.study + ("-quick" if args.quick else ""))
    started = time.monotonic()
    try:
        out.mkdir(parents=True, exist_ok=True)
        if args.study == "mosaic3d":
            mosaic3d.run(out.resolve(), mosaic3d.QUICK if args.quick else mosaic3d.Scale(), args.jobs)
        else:
            scale = mask_decoder.QUICK if args.quick else mask_decoder.Scale()
            mask_decoder.run(out.resolve(), scale, args.jobs, args.encoder)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    except (Mosaic3DError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(f"{(time.monotonic() - started) / 60:.1f} minutes; results and plots in {out}")
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: trainings end as well
    raise SystemExit(main())
