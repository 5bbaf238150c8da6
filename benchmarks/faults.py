"""Faults injected into a running node, again and again: does it crash, hang, lie, lose frames, and how soon is all well again?

python benchmarks/faults.py --json out/bench/faults.json [--quick] [--times 100] [--only "TF stops"]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rich.console import Console
from rich.progress import track
from rich.table import Table

from mosaic3d_ros.demo_processes import ChildDiedError, isolate_environment

if TYPE_CHECKING:
    from _fault_kinds import Fault, Outcome
    from _fault_rig import Rig

QUICK = 1
COLUMNS = ("injected", "crashed", "hung", "wrong", "lost_frames", "unaccounted_frames", "recovery_s_median", "recovery_s_max")


def repeat(name: str, fault: Fault, rig: Rig, times: int) -> Outcome:
    """Inject a fault so many times, each time waiting until all is well again."""
    from _fault_kinds import Outcome

    outcome = Outcome()
    before = rig.account()
    starts = rig.starts
    for _ in track(range(times), description=name):
        outcome.injected += 1
        try:
            fault(rig, outcome)
            outcome.recovery_s.append(rig.normal_again())
        except TimeoutError as error:
            print(f"{name}: {error}", file=sys.stderr)
            outcome.hung += 1
        except ChildProcessError as error:
            print(f"{name}: {error}", file=sys.stderr)
            outcome.crashed += 1
            rig.start_node()
            rig.learn()
    after = rig.account()
    outcome.unaccounted_frames = after["received"] - after["accounted"]
    if rig.starts == starts:  # else nobody knows what reached a process that is gone
        outcome.lost_frames = (after["sent"] - before["sent"]) - (after["received"] - before["received"])
    return outcome


def row(outcome: Outcome) -> dict[str, Any]:
    """The figures as plain values; None where there is none."""
    times = sorted(outcome.recovery_s)
    return {
        **{name: getattr(outcome, name) for name in COLUMNS[:6]},
        "recovery_s_median": round(times[len(times) // 2], 3) if times else None,
        "recovery_s_max": round(times[-1], 3) if times else None,
        **{name: round(value, 3) for name, value in outcome.extra.items()},
    }


def run(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All faults that were asked for; the file is written after each."""
    from _fault_kinds import FAULTS
    from _fault_rig import Rig

    names = args.only or list(FAULTS)
    unknown = sorted(set(names) - set(FAULTS))
    if unknown:
        raise ValueError(f"unknown fault {unknown[0]!r}: expected one of {', '.join(FAULTS)}")
    rig = Rig(folder, args.seed, args.checkpoint)
    results: dict[str, Any] = {}
    try:
        rig.learn()
        known = [one.name for one in rig.known]
        for name in names:
            try:
                results[name] = row(repeat(name, FAULTS[name], rig, args.times))
            except (subprocess.CalledProcessError, PermissionError) as error:
                results[name] = {"injected": 0, "not_possible": f"{error}"}
            if args.json is not None:
                save(args.json, results, known, args)
    finally:
        rig.close()
    return results


def save(file: Path, results: dict[str, Any], known: list[str], args: argparse.Namespace) -> None:
    """Write the figures so that a file is always whole."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    part.write_text(json.dumps({"seed": args.seed, "asked": known, "faults": results}, indent=2) + "\n", encoding="utf-8")
    os.replace(part, file)


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="each fault once")
    parser.add_argument("--times", type=int, default=None, help="injections of each fault (default 100)")
    parser.add_argument("--only", action="append", metavar="FAULT", help="this fault only; may be given several times")
    parser.add_argument("--seed", type=int, default=7, help="test room (default 7)")
    parser.add_argument("--checkpoint", default="", help="encoder checkpoint (default: the one that ships)")
    parser.add_argument("--logs", type=Path, help="keep the node's output in this folder")
    args = parser.parse_args(arguments)
    args.times = args.times or (QUICK if args.quick else 100)
    if args.times < 1:
        parser.error("--times must be >= 1")
    isolate_environment()
    began = time.monotonic()
    try:
        if args.logs is not None:
            args.logs.mkdir(parents=True, exist_ok=True)
            results = run(args, args.logs)
        else:
            with tempfile.TemporaryDirectory() as folder:
                results = run(args, Path(folder))
    except (ChildDiedError, ChildProcessError, TimeoutError, RuntimeError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    table = Table("fault", *COLUMNS, title=f"{args.times} injections each, {(time.monotonic() - began) / 60:.1f} minutes")
    for name, values in results.items():
        table.add_row(name, *(str(values.get(column, "-")) for column in COLUMNS))
    Console(width=160).print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
