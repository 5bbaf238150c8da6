"""Readers: every style from real files, and a clear sentence for every kind of damage."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mosaic3d_core.data.sequences import open_sequence
from mosaic3d_core.data.sequences.pose_tree import PoseTree
from mosaic3d_core.errors import FrameError, SequenceError

H, W = 12, 16
DEPTH_MM = np.arange(H * W, dtype=np.uint16).reshape(H, W) + 1000
COLOR = np.dstack([np.full((H, W), v, np.uint8) for v in (200, 30, 5)])
CAMERA = {"fx": 20.0, "fy": 20.0, "cx": 7.5, "cy": 5.5, "width": W, "height": H}


def pose(k: int) -> np.ndarray:
    out = np.eye(4)
    out[:3, 3] = 0.1 * k, 0.2, 0.3
    return out


def images(color: Path, depth: Path) -> None:
    color.parent.mkdir(parents=True, exist_ok=True)
    depth.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(COLOR).save(color)
    Image.fromarray(DEPTH_MM).save(depth)


def calibration(folder: Path, **more) -> None:
    (folder / "calibration.json").write_text(
        json.dumps({"camera": {**CAMERA, "depth_unit": "millimetre"}, "color_registered_to_depth": True, **more})
    )


@pytest.fixture
def sevenscenes(tmp_path) -> Path:
    for k in range(3):
        images(tmp_path / f"frame-{k:06d}.color.png", tmp_path / f"frame-{k:06d}.depth.png")
        np.savetxt(tmp_path / f"frame-{k:06d}.pose.txt", pose(k))
    calibration(tmp_path)
    return tmp_path


@pytest.fixture
def open3d(tmp_path) -> Path:
    for k in range(3):
        images(tmp_path / "color" / f"{k:05d}.png", tmp_path / "depth" / f"{k:05d}.png")
    (tmp_path / "trajectory.log").write_text(
        "".join(f"{k} {k} {k + 1}\n" + "\n".join(" ".join(map(str, r)) for r in pose(k)) + "\n" for k in range(3))
    )
    calibration(tmp_path)
    return tmp_path


@pytest.fixture
def tum(tmp_path) -> Path:
    for k in range(3):
        images(tmp_path / "rgb" / f"{k}.png", tmp_path / "depth" / f"{k}.png")
    (tmp_path / "rgb.txt").write_text("# time file\n" + "".join(f"{10 + 0.1 * k + 0.01:.3f} rgb/{k}.png\n" for k in range(3)))
    (tmp_path / "depth.txt").write_text("".join(f"{10 + 0.1 * k:.3f} depth/{k}.png\n" for k in range(3)))
    (tmp_path / "groundtruth.txt").write_text(
        "".join(f"{9.95 + 0.1 * k:.3f} {0.1 * k - 0.05} 0.2 0.3 0 0 0 1\n" for k in range(5))
    )
    calibration(tmp_path, camera={**CAMERA, "depth_unit": "millimetre"})
    return tmp_path


@pytest.fixture
def scannet(tmp_path) -> Path:
    """Colour images are larger than depth images, as ScanNet's are."""
    for k in range(3):
        images(tmp_path / "color" / f"{k}.png", tmp_path / "depth" / f"{k}.png")
        Image.fromarray(np.kron(COLOR, np.ones((2, 2, 1), np.uint8))).save(tmp_path / "color" / f"{k}.png")
        (tmp_path / "pose").mkdir(exist_ok=True)
        np.savetxt(tmp_path / "pose" / f"{k}.txt", pose(k))
    (tmp_path / "intrinsic").mkdir()
    for name, scale in (("depth", 1.0), ("color", 2.0)):
        matrix = np.eye(4)
        matrix[:2, :3] = np.array([[20.0, 0, 7.5], [0, 20.0, 5.5]]) * scale
        np.savetxt(tmp_path / "intrinsic" / f"intrinsic_{name}.txt", matrix)
    return tmp_path


def test_a_scannet_export_delivers_both_cameras_and_counts_lost_poses(scannet):
    (scannet / "pose" / "1.txt").write_text(" ".join(["-inf"] * 16))
    (scannet / "color" / "2.png").unlink()
    sequence = open_sequence(scannet)
    (frame,) = list(sequence)
    assert sequence.skipped == {"nan_pose": 1, "missing_color": 1}
    assert np.allclose(frame.depth, DEPTH_MM / 1000.0)
    assert (frame.depth_camera.fx, frame.color_camera.fx) == (20.0, 40.0)
    assert frame.color.shape == (2 * H, 2 * W, 3)
    assert np.allclose(frame.T_world_camera, pose(0))
    assert np.allclose(sequence.gravity_up, (0, 0, 1))


def test_a_scannet_export_without_intrinsics_is_named(scannet):
    (scannet / "intrinsic" / "intrinsic_color.txt").unlink()
    with pytest.raises(SequenceError, match=r"intrinsic_color.txt is missing"):
        open_sequence(scannet)
    (scannet / "intrinsic" / "intrinsic_color.txt").write_text("1 2 3")
    with pytest.raises(SequenceError, match="must be a 4x4 matrix"):
        open_sequence(scannet)


@pytest.mark.parametrize("style", ["sevenscenes", "open3d", "tum"])
def test_each_folder_style_delivers_colour_depth_camera_and_pose(style, request):
    sequence = open_sequence(request.getfixturevalue(style))
    frames = list(sequence)
    assert len(sequence) == len(frames) == 3
    assert sequence.skipped == {}
    for k, frame in enumerate(frames):
        assert np.array_equal(frame.color, COLOR)
        assert np.allclose(frame.depth, DEPTH_MM / 1000.0)
        assert np.allclose(frame.T_world_camera, pose(k), atol=1e-9)
        assert frame.depth_camera.fx == 20.0
        assert frame.registered
    assert [f.stamp_ns for f in frames] == sorted({f.stamp_ns for f in frames})


def test_two_cameras_gravity_and_invalid_values_come_from_the_calibration(sevenscenes):
    (sevenscenes / "calibration.json").write_text(
        json.dumps(
            {
                "depth": {**CAMERA, "unit": "millimetre", "invalid": [0, 1005]},
                "color": {**CAMERA, "fx": 18.0, "translation_of_depth_origin_in_color_frame_m": [-0.025, 0, 0]},
                "gravity_direction_in_world": [0, 1, 0],
            }
        )
    )
    frame = open_sequence(sevenscenes)[1]
    assert not frame.registered
    assert frame.color_camera.fx == 18.0
    assert frame.T_color_depth[0, 3] == -0.025
    assert frame.depth[0, 5] == 0
    # y pointed down: the world is turned so that z points up
    assert np.allclose(frame.T_world_camera[:3, :3] @ [0, 1, 0], [0, 0, -1], atol=1e-9)
    assert np.allclose(open_sequence(sevenscenes).gravity_up, [0, 0, 1])
    kept = open_sequence(sevenscenes, align_gravity=False)
    assert np.allclose(kept[1].T_world_camera, pose(1))
    assert np.allclose(kept.gravity_up, [0, -1, 0])


def test_a_truncated_image_is_skipped_counted_and_named(sevenscenes, caplog):
    path = sevenscenes / "frame-000001.depth.png"
    path.write_bytes(path.read_bytes()[:60])
    sequence = open_sequence(sevenscenes)
    assert len(list(sequence)) == 2
    assert sequence.skipped == {"bad_image": 1}
    assert "frame-000001.depth.png is truncated or not an image" in caplog.text
    with pytest.raises(FrameError, match="copy it again"):
        sequence[1]


@pytest.mark.parametrize(
    ("text", "reason"), [("nan " * 16, "nan_pose"), ("2 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1", "non_rigid_pose"), ("1 2 3", "nan_pose")]
)
def test_poses_that_are_none_are_skipped_and_counted(sevenscenes, text, reason):
    (sevenscenes / "frame-000000.pose.txt").write_text(text)
    sequence = open_sequence(sevenscenes)
    assert len(list(sequence)) == 2
    assert sequence.skipped == {reason: 1}


def test_images_of_another_size_than_the_calibration_are_skipped(sevenscenes):
    Image.fromarray(COLOR[:6]).save(sevenscenes / "frame-000002.color.png")
    sequence = open_sequence(sevenscenes)
    assert len(list(sequence)) == 2
    assert sequence.skipped == {"size_mismatch": 1}


def test_a_sequence_of_damaged_frames_alone_is_an_error(sevenscenes):
    for path in sevenscenes.glob("*.depth.png"):
        path.write_bytes(b"broken")
    with pytest.raises(SequenceError, match="none of the 3 frames"):
        list(open_sequence(sevenscenes))


def test_missing_poses_are_named(sevenscenes, tmp_path_factory):
    for path in sevenscenes.glob("*.pose.txt"):
        path.unlink()
    with pytest.raises(SequenceError, match=r"no frame with colour, depth and a usable pose \(3 no_pose\)"):
        open_sequence(sevenscenes)


def test_a_tum_folder_without_groundtruth_and_an_open3d_folder_without_log_say_so(tum, tmp_path_factory):
    (tum / "groundtruth.txt").unlink()
    with pytest.raises(SequenceError, match=r"without poses: groundtruth\.txt is missing"):
        open_sequence(tum)
    other = tmp_path_factory.mktemp("open3d")
    images(other / "color" / "0.png", other / "depth" / "0.png")
    with pytest.raises(SequenceError, match="has depth images but no poses"):
        open_sequence(other)


def test_a_truncated_trajectory_is_named(open3d):
    log = open3d / "trajectory.log"
    log.write_text(log.read_text()[:-20])
    with pytest.raises(SequenceError, match=r"trajectory\.log is truncated"):
        open_sequence(open3d)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ('{"camera": {"fx": 1}}', "lacks 'fy'"),
        ('{"camera": {"fx": 0, "fy": 1, "cx": 1, "cy": 1, "width": 4, "height": 4}}', "fx must be > 0"),
        (
            '{"camera": {"fx": 1, "fy": 1, "cx": 1, "cy": 1, "width": 4, "height": 4, "depth_unit": "inch"}}',
            "depth unit 'inch' is unknown",
        ),
    ],
)
def test_a_wrong_calibration_file_says_what_is_wrong(sevenscenes, text, message):
    (sevenscenes / "calibration.json").write_text(text)
    with pytest.raises(SequenceError, match=message):
        open_sequence(sevenscenes)


def test_nothing_an_empty_folder_and_an_unknown_file_list_what_is_expected(tmp_path):
    with pytest.raises(SequenceError, match="does not exist: expected a 7-Scenes folder"):
        open_sequence(tmp_path / "none")
    with pytest.raises(SequenceError, match="is empty"):
        open_sequence(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(SequenceError, match="file of an unknown kind"):
        open_sequence(tmp_path / "notes.txt")


def test_generated_rooms_open_by_name():
    assert open_sequence("room:3", frames=2).scene.name == "test-3"
    assert len(open_sequence("room:3:train", frames=4)) == 4
    with pytest.raises(SequenceError, match="write room:SEED"):
        open_sequence("room:x")
    with pytest.raises(SequenceError, match="unknown split"):
        open_sequence("room:1:best")


def test_transform_chains_interpolate_and_refuse_what_is_not_connected():
    tree = PoseTree()
    for k in range(3):
        tree.add("map", "base", k * 100_000_000, pose(k))
    offset = np.eye(4)
    offset[2, 3] = 1.0
    tree.add("base", "camera", 0, offset, static=True)
    assert np.allclose(tree.lookup("map", "camera", 50_000_000), np.array(pose(0.5)) @ offset)  # type: ignore[arg-type]
    assert np.allclose(tree.lookup("camera", "map", 0), np.linalg.inv(pose(0) @ offset))
    with pytest.raises(FrameError, match=r"0\.700 s older"):
        tree.lookup("map", "camera", 900_000_000)
    with pytest.raises(FrameError, match="'odom' is unknown"):
        tree.lookup("odom", "camera", 0)


def test_the_real_sequences_open_whole(shared_data):
    kitchen, living = (open_sequence(shared_data / n) for n in ("7scenes_redkitchen", "icl_livingroom"))
    assert (len(kitchen), len(living)) == (100, 106)
    assert not kitchen[0].registered
    assert living[0].registered
