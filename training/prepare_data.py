"""Write training scenes to disk.

python training/prepare_data.py synthetic --rooms 1100 --out data/rooms
python training/prepare_data.py touching --rooms 300 --out data/touching
python training/prepare_data.py scannet --raw SCANNET --out data/mosaic3d/scannet
python training/prepare_data.py arkitscenes|scannetpp|matterport3d|structured3d --raw RAW --out data/mosaic3d/NAME
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable
from concurrent.futures import as_completed
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a clone that is not installed

from rich.progress import track

from mosaic3d_core.data.scene_folder import SceneFolderError, write_scene_folder
from mosaic3d_core.data.synthetic.record import SOURCE, record_room, record_touching
from mosaic3d_core.data.synthetic.staged import STAGED
from training.raw_data import CONVERTERS, convert, print_report
from training.worker_processes import worker_processes


def write_room(seed: int, split: str, out: Path) -> str:
    """Generate one room and write it, unless it is complete already; returns its name."""
    folder = out / f"{split}-{seed}"
    if not (folder / "coord.npy").exists():
        write_scene_folder(folder, record_room(seed, split), SOURCE)
    return folder.name


def write_touching(seed: int, split: str, out: Path) -> str:
    """Generate a small room in which two things touch, of the kind whose turn it is, and write it; returns its name."""
    kind = list(STAGED)[seed % len(STAGED)]
    folder = out / f"{split}-{kind.replace(' ', '-')}-{seed}"
    if not (folder / "coord.npy").exists():
        write_scene_folder(folder, record_touching(kind, seed, split), SOURCE)
    return folder.name


def generate(write: Callable[[int, str, Path], str], rooms: int, out: Path, split: str, first_seed: int, workers: int) -> None:
    """Generate rooms in parallel; a second call goes on where the first stopped."""
    out.mkdir(parents=True, exist_ok=True)
    with worker_processes(workers) as pool:
        jobs = [pool.submit(write, seed, split, out) for seed in range(first_seed, first_seed + rooms)]
        for job in track(as_completed(jobs), description=f"{split} rooms", total=len(jobs)):
            job.result()


#: Generated rooms by command: what they are, and what writes one.
GENERATED = {
    "synthetic": ("generated furnished rooms with captions", write_room),
    "touching": ("generated small rooms in which two things touch, with captions", write_touching),
}


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="Write training scenes to disk.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (what, _) in GENERATED.items():
        rooms = commands.add_parser(name, help=what, description=what)
        rooms.add_argument("--rooms", type=int, required=True, help="how many rooms")
        rooms.add_argument("--out", type=Path, required=True, help="folder to write scenes into")
        rooms.add_argument("--split", choices=["train", "val", "test"], default="train")
        rooms.add_argument("--first-seed", type=int, default=0, help="seed of the first room (default 0)")
        rooms.add_argument("--workers", type=int, default=2, help="processes (default 2)")
    for name, converter in CONVERTERS.items():
        raw = commands.add_parser(name, help=converter.title, description=f"{converter.title}: RAW/{converter.layout}")
        raw.add_argument("--raw", type=Path, required=True, help="folder of the raw data")
        if converter.labels is not None:
            raw.add_argument("--labels", type=Path, help=converter.labels)
        raw.add_argument("--out", type=Path, required=True, help="folder to write scenes into")
        raw.set_defaults(labels=None)
    args = parser.parse_args(arguments)
    if args.command in CONVERTERS:
        converter = CONVERTERS[args.command]
        return _run(lambda: print_report(convert(converter, args.raw, args.labels, args.out), converter.classes), args.out)
    if args.rooms < 1 or args.first_seed < 0 or args.workers < 1:
        print("error: --rooms and --workers must be >= 1 and --first-seed >= 0", file=sys.stderr)
        return 2
    write = GENERATED[args.command][1]
    return _run(lambda: generate(write, args.rooms, args.out, args.split, args.first_seed, args.workers), args.out)


def _run(work: Callable[[], None], out: Path) -> int:
    try:
        work()
    except KeyboardInterrupt:
        print("stopped; run the same command again to go on", file=sys.stderr)
        return 130
    except SceneFolderError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: cannot write to {out}: {error.strerror}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: workers end after the room that they are at
    raise SystemExit(main())
