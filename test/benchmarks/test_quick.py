"""Every benchmark runs in its quick form and writes the figures that the docs promise."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.slow


def quick(name, out, *arguments):
    file = out / f"{name}.json"
    command = [sys.executable, f"benchmarks/{name}.py", "--quick", "--json", str(file), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip()
    return json.loads(file.read_text())


def test_fusion_stands_beside_open3d(tmp_path):
    found = quick("fusion", tmp_path)
    assert found["ours_ms"] > 0
    assert found["open3d_ms"] > 0
    assert found["voxels"] > 1000


def test_accuracy_has_the_scores_of_the_demo(tmp_path):
    found = quick("accuracy", tmp_path, "--first-seed", "2000")
    for key in ("top1_by_name", "top1_by_synonym", "absent_rejected", "foreground_miou"):
        assert 0 <= found[key] <= 1
    # two rooms seen for 40 frames each: far above chance (one in 38), with room for an unlucky room
    assert found["top1_by_name"] > 0.4
    assert found["rooms"] == 2


def test_objects_have_a_column_per_source(tmp_path):
    found = quick("objects", tmp_path, "--first-seed", "2000")["sources"]["components"]
    for key in ("ap50", "ap25", "class_ap50", "class_ap25", "ids_stable", "ids_matched_last"):
        assert 0 <= found[key] <= 1
    assert found["ap25"] >= found["ap50"] > 0.2
    assert found["ids_followed"] > 0
    assert found["ms_per_map"] > 0
    kinds = {key.split(": ")[1] for key in found if key.startswith("separated: ")}
    assert kinds == {"chairs", "on table", "pillow on bed", "alike"}


def test_encode_has_a_row_per_net_and_dtype(tmp_path):
    found = quick("encode", tmp_path)
    assert {"speedup_34c_100k_bf16", "speedup_34c_100k_fp32", "cosine_min"} <= set(found)
    assert found["cosine_min"] > 0.99
    for row in found["rows"]:
        assert row["median_ms"] > 0
        assert {"variant", "voxels", "backend", "dtype", "threads", "p95_ms", "peak_mb"} <= set(row)


def test_the_training_loader_is_measured_by_workers(tmp_path):
    rows = quick("loader", tmp_path, "--workers", "0", "1")["rows"]
    assert [row["workers"] for row in rows] == [0, 1]
    assert all(row["scenes_per_s"] > 0 for row in rows)


def test_query_times_depend_on_voxels_and_texts(tmp_path):
    rows = quick("query", tmp_path)["query"]
    assert {(row["texts"], row["map_voxels"] > 50_000) for row in rows} == {(1, False), (8, False), (1, True), (8, True)}
    assert all(row["same_map_ms"] > 0 for row in rows)


@pytest.mark.alone
def test_latency_is_measured_over_real_processes(tmp_path):
    found = quick("latency", tmp_path)
    assert found["frames_published"] > 20
    assert found["frames_fused"] > 0
    assert found["first_labels_s"] > 0
    assert found["query_ms_cached"] > 0
    # the player is interrupted in the middle of a frame, and camera topics are best effort on a machine busy with other tests
    assert found["frames_lost_in_transport"] <= 1 + 0.05 * found["frames_published"]


@pytest.mark.alone
def test_no_fault_crashes_the_node_makes_it_hang_or_lie(tmp_path):
    found = quick("faults", tmp_path)
    assert found["asked"]
    assert len(found["faults"]) == 12
    for name, row in found["faults"].items():
        if "not_possible" in row:  # a small disk needs the right to mount one
            assert name == "full disk"
            continue
        assert (row["injected"], row["crashed"], row["hung"], row["wrong"]) == (1, 0, 0, 0), name
        assert row["unaccounted_frames"] == 0, name
        assert row["recovery_s_max"] < 15.0, name  # two seconds on a machine that does nothing else


@pytest.mark.alone
def test_publishing_a_map_is_timed_with_somebody_listening(tmp_path):
    found = quick("publishing", tmp_path)
    assert found["subscribers"] == 1
    assert found["voxels"] > 40_000
    assert 0 < found["cloud_ms"] <= found["cloud_ms_worst"]
    assert found["objects_ms"] > 0


def test_relations_are_timed_against_their_plain_queries(tmp_path):
    found = quick("relations", tmp_path)
    assert found["instances"] > 3
    assert len(found["texts"]) == 10
    assert all(row["plain_ms"] > 0 and row["whole_ms"] > 0 for row in found["texts"])
    assert any(row["answers"] for row in found["texts"])
