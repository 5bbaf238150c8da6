"""Files that services may touch: none outside of the configured folder, however the path is written."""

from __future__ import annotations

import pytest

from mosaic3d_ros.map_files import MapFolder, save_map_reply


def test_paths_inside_of_the_folder_are_taken(tmp_path):
    folder = MapFolder(str(tmp_path))
    assert folder.resolve("kitchen") == tmp_path / "kitchen.m3dmap"
    assert folder.resolve("a/../b.m3dmap") == tmp_path / "b.m3dmap"
    assert folder.resolve(str(tmp_path / "floor1" / "hall.m3dmap")) == tmp_path / "floor1" / "hall.m3dmap"


def test_paths_that_leave_the_folder_are_refused(tmp_path):
    inside = tmp_path / "maps"
    inside.mkdir()
    (inside / "link").symlink_to(tmp_path)
    folder = MapFolder(str(inside))
    for path in ("../x.m3dmap", "/etc/passwd", "link/x.m3dmap", "a/../../x", str(tmp_path / "mapsx" / "y")):
        with pytest.raises(ValueError, match="outside of the node's map_folder"):
            folder.resolve(path)
    with pytest.raises(ValueError, match="path is empty"):
        folder.resolve("  ")


def test_without_a_folder_any_path_is_taken(tmp_path):
    assert MapFolder("").resolve(str(tmp_path / "x")) == tmp_path / "x.m3dmap"


def test_saving_outside_of_the_folder_is_a_sentence(tmp_path):
    done, message = save_map_reply(object(), "../x", True, MapFolder(str(tmp_path / "maps")))
    assert not done
    assert "map_folder" in message
    assert not list(tmp_path.glob("*.m3dmap"))
