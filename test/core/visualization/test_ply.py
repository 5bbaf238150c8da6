"""PLY files: every common dialect is read, what is written is read back, and broken files say what is
broken."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mosaic3d_core.errors import Mosaic3DError
from mosaic3d_core.visualization.ply import read_ply, write_labelled_ply

POINTS = np.array([[0, 0, 0], [1.5, -2, 3], [4, 5, 6]], np.float32)
COLORS = np.array([[255, 0, 10], [1, 2, 3], [128, 64, 32]], np.uint8)


def ply(body, properties, count=3, form="ascii 1.0", extra=""):
    lines = ["ply", f"format {form}", "comment made by hand", f"element vertex {count}"]
    lines += [f"property {p}" for p in properties] + ([extra] if extra else []) + ["end_header"]
    return ("\n".join(lines) + "\n").encode() + body


def ascii_rows(*columns):
    return "\n".join(" ".join(str(v) for v in row) for row in np.column_stack(columns).tolist()).encode() + b"\n"


XYZ = ["float x", "float y", "float z"]
RGB = ["uchar red", "uchar green", "uchar blue"]


def save(tmp_path, data):
    path = tmp_path / "cloud.ply"
    path.write_bytes(data)
    return path


def test_ascii_is_read(tmp_path):
    cloud = read_ply(save(tmp_path, ply(ascii_rows(POINTS, COLORS), XYZ + RGB)))
    assert cloud.points == pytest.approx(POINTS)
    assert cloud.colors == pytest.approx(COLORS.astype(float))
    assert cloud.normals is None


@pytest.mark.parametrize(("form", "order"), [("binary_little_endian", "<"), ("binary_big_endian", ">")])
@pytest.mark.parametrize("double", [False, True])
def test_binary_of_both_byte_orders_is_read_with_normals_and_unknown_properties(tmp_path, form, order, double):
    kind = "f8" if double else "f4"
    names = [*"xyz", "nx", "ny", "nz"]
    dtype = np.dtype([(n, order + kind) for n in names] + [("quality", order + "i2")] + [(n, "u1") for n in "rgb"])
    rows = np.zeros(3, dtype)
    for k in range(3):
        rows["xyz"[k]], rows[names[3 + k]], rows["rgb"[k]] = POINTS[:, k], k == 2, COLORS[:, k]
    spelled = "double" if double else "float"
    properties = [f"{spelled} {n}" for n in names] + ["short quality", "uchar r", "uchar g", "uchar b"]
    cloud = read_ply(save(tmp_path, ply(rows.tobytes(), properties, form=f"{form} 1.0")))
    assert cloud.points == pytest.approx(POINTS)
    assert cloud.colors == pytest.approx(COLORS.astype(float))
    assert cloud.normals == pytest.approx(np.tile([0, 0, 1], (3, 1)))


def test_float_and_sixteen_bit_colours_are_scaled(tmp_path):
    body = ascii_rows(POINTS, np.array([[1.0, 0.5, 0], [0, 0, 1], [0.2, 0.2, 0.2]]))
    cloud = read_ply(save(tmp_path, ply(body, [*XYZ, "float red", "float green", "float blue"])))
    assert cloud.colors[0] == pytest.approx([255, 127.5, 0])
    body = ascii_rows(POINTS, np.full((3, 3), 65535))
    cloud = read_ply(save(tmp_path, ply(body, [*XYZ, "ushort red", "ushort green", "ushort blue"])))
    assert cloud.colors == pytest.approx(np.full((3, 3), 255.0))


def test_meshes_with_faces_after_the_vertices_are_read(tmp_path):
    data = ply(
        ascii_rows(POINTS, COLORS) + b"3 0 1 2\n",
        XYZ + RGB,
        extra="element face 1\nproperty list uchar int vertex_indices",
    )
    assert len(read_ply(save(tmp_path, data)).points) == 3


def test_points_that_are_not_finite_are_left_out(tmp_path):
    points = POINTS.copy()
    points[1, 2] = np.nan
    assert len(read_ply(save(tmp_path, ply(ascii_rows(points, COLORS), XYZ + RGB))).points) == 2


@given(st.integers(0, 40), st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_what_is_written_is_read_back(tmp_path_factory, count, seed):
    rng = np.random.default_rng(seed)
    path = tmp_path_factory.mktemp("ply") / "sub" / "out.ply"
    points = rng.normal(size=(count, 3)).astype(np.float32)
    colors = rng.integers(0, 256, (count, 3))
    labels, instances = rng.integers(0, 65536, count), rng.integers(0, 2**32, count)
    scores = rng.random(count, np.float32)
    write_labelled_ply(path, points, colors, labels, instances, scores, ("label 0 a chair\nwith a break",))
    cloud = read_ply(path)
    assert (cloud.points == points).all()
    assert (cloud.colors == colors).all()
    header, body = path.read_bytes().split(b"end_header\n", 1)
    assert b"comment label 0 a chair with a break" in header
    kinds = [(n, "<f4") for n in "xyz"] + [(n, "u1") for n in "rgb"] + [("l", "<u2"), ("i", "<u4"), ("s", "<f4")]
    rows = np.frombuffer(body, kinds)
    assert (rows["l"] == labels).all()
    assert (rows["i"] == instances).all()
    assert (rows["s"] == scores).all()
    assert [p.name for p in path.parent.iterdir()] == ["out.ply"]


GOOD = ply(ascii_rows(POINTS, COLORS), XYZ + RGB)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a PLY file"),
        (b"solid cube", "not a PLY file"),
        (b"ply\nformat ascii 1.0\nelement vertex 3\n", "not a PLY file"),
        (GOOD[: GOOD.index(b"end_header") + 10], "ends in the middle of its PLY header"),
        (GOOD[: GOOD.index(b"4.0 5.0")], "truncated: its header announces 3 points, it holds 2"),
        (GOOD.replace(b"4.0 5.0", b"four 5.0"), "not numbers"),
        (GOOD.replace(b"4.0 5.0", b"5.0"), "not numbers"),
        (GOOD.replace(b"format ascii", b"format ebcdic"), "makes no sense: 'format ebcdic 1.0'"),
        (GOOD.replace(b"format ascii 1.0\n", b""), "no format line"),
        (GOOD.replace(b"vertex 3", b"vertex -3"), "makes no sense"),
        (GOOD.replace(b"vertex 3", b"vertex many"), "makes no sense"),
        (GOOD.replace(b"element vertex", b"element corner"), "no vertices"),
        (GOOD.replace(b"float x", b"float u"), "no x, y, z"),
        (GOOD.replace(b"uchar red", b"uchar rouge"), "no colours"),
        (GOOD.replace(b"float y", b"float x"), "declares a vertex property twice"),
        (ply(b"\0" * 20, XYZ + RGB, form="binary_little_endian 1.0"), "announces 3 points, it holds 1"),
        (ply(b"", [*XYZ, "list uchar int faces"]), "list properties on its vertices"),
    ],
)
def test_broken_files_say_what_is_broken(tmp_path, data, message):
    with pytest.raises(Mosaic3DError, match=message):
        read_ply(save(tmp_path, data))


def test_lengths_that_disagree_are_refused(tmp_path):
    with pytest.raises(ValueError, match="must have 3 rows"):
        write_labelled_ply(tmp_path / "x.ply", POINTS, COLORS, [0], [0, 0, 0], [0, 0, 0])
