"""The viewer over real connections: what a browser is sent, what it can ask, and what it cannot do."""

import logging
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("viser", reason="the 3D view needs viser (extra 'viewer')")

from cli_scenes import furniture
from scipy.spatial import cKDTree
from viewer_client import ViewerClient

from mosaic3d_core.mapping import MapSnapshot, load_map
from mosaic3d_core.models.text import get_text_encoder
from mosaic3d_core.query import QueryEngine
from mosaic3d_core.query.feature_store import unpack_features
from mosaic3d_core.visualization.viewer import MapViewer, ViewData, ViewerError
from mosaic3d_core.visualization.viewer.scene import brightness_gain

WORDS = ("floor", "chair", "box")
STEP = 0.02 / 4 / 2  # positions are rounded to a quarter of a voxel
HALF = 2.0**-11  # ... and half precision, relative to the block: up to 1.28 m


@pytest.fixture(scope="module")
def encoded(encoded_map_file):
    return unpack_features(*load_map(encoded_map_file, with_extras=True))


@pytest.fixture(scope="module")
def engine(encoded):
    engine = QueryEngine(get_text_encoder(encoded.text_encoder_name))
    engine.warm_up()
    return engine


@pytest.fixture(scope="module")
def view(encoded, engine):
    """A labelled map with "chair" on the red cube, "box" on the blue one and "floor" below."""
    return ViewData.of(encoded, engine.label(encoded, WORDS), engine)


@pytest.fixture
def viewer():
    viewer = MapViewer(0)
    yield viewer
    viewer.close()


def shows_all(client, count):
    return lambda: len(client.points()[0]) == count


def colored(snapshot, color, where=None):
    """The map with another colour, everywhere or in some rows."""
    colors = snapshot.colors.copy()
    colors[slice(None) if where is None else where] = color
    return replace(snapshot, colors=colors, generation=snapshot.generation + 1)


# What is sent -----------------------------------------------------------------------------------------------


def test_a_browser_sees_every_voxel_where_and_as_it_is(viewer, view):
    viewer.show(view)
    snapshot = view.snapshot
    with ViewerClient.connected(viewer) as client:
        assert client.pump(shows_all(client, len(snapshot)))
        points, colors = client.points()
        sizes = {round(size, 4) for _, _, size in client.clouds().values()}
    distance, row = cKDTree(snapshot.centroids).query(points, p=np.inf)
    assert distance.max() <= STEP + 1.28 * HALF
    assert len(np.unique(row)) == len(snapshot)
    gain = brightness_gain(snapshot.colors)
    assert np.array_equal(colors, np.clip(np.rint(snapshot.colors[row] * gain), 0, 255))
    assert sizes == {snapshot.voxel_size_m}


def test_coarse_points_come_first(viewer, view):
    viewer.show(view)
    with ViewerClient.connected(viewer) as client:
        assert client.pump(shows_all(client, len(view.snapshot)))
        levels = [int(name.split("/")[2]) for name in client.sent_nodes]
    assert levels == sorted(levels, reverse=True)
    assert levels[0] == 3


def test_no_browser_is_sent_more_points_than_allowed(view):
    viewer = MapViewer(0, max_points=1234)
    try:
        viewer.show(view)
        with ViewerClient.connected(viewer) as client:
            assert client.pump(shows_all(client, 1234))
            client.settle()
            assert len(client.points()[0]) == 1234
            assert "1,234 of" in client.html()
    finally:
        viewer.close()


def test_an_update_sends_only_what_changed(viewer):
    """Two blocks 10 m apart, one of which changes colour: three bytes per voxel of that one, and nothing else."""
    points, colors = furniture()
    both = MapSnapshot.from_points(np.vstack([points, points + np.array([10.24, 0, 0])]), np.vstack([colors, colors]), 0.02)
    far = both.centroids[:, 0] > 5
    viewer.show(ViewData(both))
    with ViewerClient.connected(viewer) as client:
        assert client.pump(shows_all(client, len(both)))
        client.settle()
        client.point_bytes, client.sent_nodes = 0, []
        viewer.show(ViewData(colored(both, (1, 250, 1), far)))
        assert client.pump(lambda: (client.points()[1] == (1, 250, 1)).all(axis=1).sum() == far.sum())
        client.settle()
        assert client.point_bytes == 3 * far.sum()
        client.point_bytes = 0
        viewer.show(ViewData(colored(both, (1, 250, 1), far)))  # the same again
        client.settle()
        assert client.point_bytes == 0


def test_voxels_that_went_are_taken_away(viewer, view):
    rows = view.snapshot.centroids[:, 2] > 0.1  # the floor goes
    part = MapSnapshot.from_points(view.snapshot.centroids[rows], view.snapshot.colors[rows], 0.02)
    viewer.show(view)
    with ViewerClient.connected(viewer) as client:
        assert client.pump(shows_all(client, len(view.snapshot)))
        viewer.show(ViewData(part))
        assert client.pump(shows_all(client, len(part)))
        assert client.points()[0][:, 2].min() > 0.09
        viewer.show(None)
        assert client.pump(lambda: not client.clouds() and "Waiting for the first map" in client.html())


def test_the_ceiling_is_hidden_until_it_is_wanted(viewer):
    x, y = (a.ravel() for a in np.meshgrid(np.arange(0, 3, 0.02), np.arange(0, 3, 0.02)))
    floor, ceiling = np.stack([x, y, 0 * x], 1), np.stack([x, y, 0 * x + 2.5], 1)
    normals = np.repeat([[0.0, 0, 1], [0, 0, -1]], len(x), axis=0)
    room = MapSnapshot.from_points(np.vstack([floor, ceiling]), np.full((2 * len(x), 3), 120.0), 0.02, normals)
    viewer.show(ViewData(room))
    with ViewerClient.connected(viewer) as client:
        assert client.pump(shows_all(client, len(room)))

        def highest():
            return max(points[:, 2].max() for points, _, _ in client.clouds(visible_only=True).values())

        client.settle()
        assert highest() < 1
        client.set("Ceiling", True)
        assert client.pump(lambda: highest() > 2.4)


# Modes, boxes, queries --------------------------------------------------------------------------------------


def test_labels_have_colours_a_legend_boxes_and_names(viewer, view):
    viewer.show(view)
    with ViewerClient.connected(viewer) as client:
        assert client.pump(shows_all(client, len(view.snapshot)))
        client.set("Show", "Labels")
        assert client.pump(lambda: all(word in client.html() for word in WORDS))
        assert client.pump(lambda: {"chair", "box"} <= set(client.names()))
        assert "floor" not in client.names()  # its box would frame everything
        client.settle()
        points, colors = client.points()
        inside = {
            "chair": (np.abs(points - [0.5, 0.5, 0.3]) < 0.12).all(axis=1) | (points[:, 2] > 0.1) & (points[:, 0] < 0.9),
            "box": (points[:, 2] > 0.1) & (points[:, 0] > 1.1),
            "floor": points[:, 2] < 0.015,
        }
        main = {word: tuple(np.median(colors[rows], axis=0)) for word, rows in inside.items()}
        assert len(set(main.values())) == 3
        assert len(client.nodes["/boxes"]["points"]) == 2 * 12 * 2 * 3 * 4  # two boxes of twelve edges, float32
        client.set("Boxes", False)
        assert client.pump(lambda: "/boxes" not in client.nodes and not client.names())


def test_typed_words_bring_heat_the_best_objects_and_a_flight_to_them(viewer, view):
    viewer.show(view)
    with ViewerClient.connected(viewer) as client:
        assert client.pump(shows_all(client, len(view.snapshot)))
        client.find("  chair ")
        assert client.pump(lambda: "&quot;chair&quot;: 1 object, best" in client.html())
        assert client.pump(lambda: any("chair" in text for text in client.buttons()))
        (label,) = [text for text in client.buttons() if "chair" in text]
        (found,) = view.ask("chair", 0.4, np.eye(4)).result.objects
        assert label.startswith(f"{found.score:.2f}")
        assert label.endswith(f"#{found.id}")
        client.settle()
        points, colors = client.points()
        red_cube = (points[:, 2] > 0.1) & (points[:, 0] < 0.9)
        saturation = np.ptp(colors.astype(int), axis=1)
        assert np.median(saturation[red_cube]) > 60  # heat
        assert saturation[points[:, 0] > 1.1].max() < 10  # grey
        client.press(label)
        assert client.pump(lambda: client.log.count("SetCameraPositionMessage") > 10)
        client.set("Least score", 1.0)
        assert client.pump(lambda: "nothing like that here" in client.html())
        assert client.pump(lambda: not [text for text in client.buttons() if "chair" in text])


@pytest.mark.parametrize(("side", "found"), [(-1.0, "1 object"), (1.0, "nothing like that here")])
def test_relations_are_meant_as_seen_in_the_page(viewer, view, side, found):
    """The red chair lies at (0.5, 0.5), the blue box at (1.5, 1.4): left and right change with the side one looks from."""
    viewer.show(view)
    with ViewerClient.connected(viewer) as client:
        assert client.pump(shows_all(client, len(view.snapshot)))
        eye = np.array([1.0, 0.95, 1.0]) + side * 3 * np.array([-0.7, 0.7, 0])  # on either side of the line between them
        client.look(eye, np.array([1.0, 0.95, 0.2]))
        client.find("the chair left of the box")
        assert client.pump(lambda: found in client.html())
        if found == "1 object":
            assert "box" in client.html().split("mosaic3d-detail")[1]  # the reason


def test_two_browsers_have_questions_of_their_own(viewer, view):
    viewer.show(view)
    with ViewerClient.connected(viewer) as one, ViewerClient.connected(viewer) as other:
        assert one.pump(shows_all(one, len(view.snapshot)))
        assert other.pump(shows_all(other, len(view.snapshot)))
        assert viewer.viewers == 2
        one.find("chair")
        other.find("box")
        assert one.pump(lambda: "&quot;chair&quot;: 1 object" in one.html())
        assert other.pump(lambda: "&quot;box&quot;: 1 object" in other.html())
        one.pump(timeout_s=0.3)
        assert "box&quot;" not in one.html()
        assert "chair&quot;" not in other.html()


def test_an_answer_follows_the_map_while_the_robot_maps(viewer, view, encoded, engine):
    """The red cube is taken away: its answer goes without anybody asking again."""
    viewer.show(view)
    with ViewerClient.connected(viewer) as client:
        assert client.pump(shows_all(client, len(view.snapshot)))
        client.find("chair")
        assert client.pump(lambda: "1 object" in client.html())
        nothing = encoded.features.copy()
        nothing[nothing[:, 1] > 0] = (1, 0, 0)  # everything that was a chair is floor
        later = replace(encoded, features=nothing, snapshot=replace(encoded.snapshot, generation=7))
        viewer.show(ViewData.of(later, engine.label(later, WORDS), engine))
        assert client.pump(lambda: "nothing like that here" in client.html())
        assert client.pump(lambda: "generation 7" in client.html())


def test_a_question_waits_for_a_map_that_can_be_asked(viewer, view):
    viewer.show(ViewData(view.snapshot))
    with ViewerClient.connected(viewer) as client:
        assert client.pump(shows_all(client, len(view.snapshot)))
        client.find("chair")
        assert client.pump(lambda: "cannot be asked yet" in client.html())
        viewer.show(view)
        assert client.pump(lambda: "1 object" in client.html())


@pytest.mark.parametrize(("text", "says"), [("", "is empty"), ("   !", "is empty"), ("x" * 100_000, "100000 characters long")])
def test_a_bad_question_gets_one_sentence_in_the_page(viewer, view, text, says):
    viewer.show(view)
    with ViewerClient.connected(viewer) as client:
        assert client.pump(shows_all(client, len(view.snapshot)))
        client.find(text)
        assert client.pump(lambda: says in client.html())
        assert 'class="mosaic3d-error"' in client.html()
        client.find("chair")
        assert client.pump(lambda: "1 object" in client.html())


def test_an_unexpected_failure_is_reported_and_the_page_goes_on(view):
    errors = []
    viewer = MapViewer(0, on_error=errors.append)

    def ask(text, min_score, T_world_camera):
        if text == "boom":
            raise RuntimeError("out of something")
        return view.ask(text, min_score, T_world_camera)

    try:
        viewer.show(replace(view, ask=ask))
        with ViewerClient.connected(viewer) as client:
            assert client.pump(shows_all(client, len(view.snapshot)))
            client.find("boom")
            assert client.pump(lambda: "Something went wrong here (RuntimeError)" in client.html())
            client.find("chair")
            assert client.pump(lambda: "1 object" in client.html())
        assert [str(error) for error in errors] == ["out of something"]
    finally:
        viewer.close()


# Threads ----------------------------------------------------------------------------------------------------


def test_showing_never_waits_and_the_newest_map_wins(viewer):
    """From four threads, 200 maps: each call is far faster than preparing one map, and the last one is seen."""
    points, colors = furniture()
    base = MapSnapshot.from_points(points, colors, 0.02)
    longest = []

    def show_many():
        for k in range(50):
            began = time.perf_counter()
            viewer.show(ViewData(colored(base, (k, k, k))))
            longest.append(time.perf_counter() - began)

    with ViewerClient.connected(viewer) as client:
        threads = [threading.Thread(target=show_many) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        viewer.show(ViewData(colored(base, (9, 99, 9))))
        assert client.pump(
            lambda: len(client.points()[1]) == len(base) and (client.points()[1] * [1, 0, 1] == [[14, 0, 14]]).all()
        )
    assert np.median(longest) < 1e-3


@pytest.mark.alone
def test_closing_is_quick_with_browsers_looking(view):
    """And with connections that were opened in advance and never used, as browsers do."""
    viewer = MapViewer(0)
    viewer.show(view)
    host, port = viewer.url.removeprefix("http://").split(":")
    with ViewerClient.connected(viewer) as client, socket.create_connection((host, int(port))):
        assert client.pump(shows_all(client, len(view.snapshot)))
        began = time.monotonic()
        viewer.close()
        assert time.monotonic() - began < 2.0
    viewer.close()  # harmless
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith("viewer")]
    assert left == []


def test_a_browser_that_leaves_takes_its_thread_along(viewer, view):
    viewer.show(view)
    with ViewerClient.connected(viewer) as client:
        assert client.pump(shows_all(client, len(view.snapshot)))
        assert viewer.viewers == 1
    end = time.monotonic() + 5
    while [t for t in threading.enumerate() if t.name.startswith("viewer-0")] and time.monotonic() < end:
        time.sleep(0.02)
    assert viewer.viewers == 0
    assert not [t for t in threading.enumerate() if t.name.startswith("viewer-0")]


def test_a_program_that_ends_without_closing_ends_quietly():
    """A viewer that nobody closed, with a browser looking, leaves no message and no hanging process."""
    code = (
        "import sys; sys.path[:0] = sys.argv[1:2]\n"
        "from cli_scenes import furniture\n"
        "from mosaic3d_core.mapping import MapSnapshot\n"
        "from mosaic3d_core.visualization.viewer import MapViewer, ViewData\n"
        "viewer = MapViewer(0)\n"
        "viewer.show(ViewData(MapSnapshot.from_points(*furniture())))\n"
        "print(viewer.url, flush=True)\n"
        "input()\n"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parent.parent / "cli")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as program:
        page = SimpleNamespace(url=program.stdout.readline().strip())
        with ViewerClient.connected(page) as client:
            assert client.pump(lambda: len(client.points()[0]) > 1000)
            out, err = program.communicate("end\n", timeout=30)
    assert (program.returncode, out, err) == (0, "", "")


# What cannot be done ----------------------------------------------------------------------------------------


def test_a_port_in_use_or_a_strange_address_is_one_sentence(viewer):
    port = int(viewer.url.rsplit(":", 1)[1])
    with pytest.raises(ViewerError, match=f"port {port} of 127.0.0.1 is in use; choose another one"):
        MapViewer(port)
    with pytest.raises(ViewerError, match="is it an address of this machine"):
        MapViewer(0, "192.0.2.1")
    with pytest.raises(ViewerError, match="no address of this machine"):
        MapViewer(0, "no such host")
    with pytest.raises(ViewerError, match="between 0 and 65535"):
        MapViewer(70_000)


def test_only_this_machine_is_listened_to_unless_told(viewer):
    def listening(at):
        """Local addresses with a listening socket at the viewer's port, as in the kernel's table."""
        port = int(at.url.rsplit(":", 1)[1])
        with open("/proc/net/tcp", encoding="ascii") as table:
            rows = [line.split() for line in table][1:]
        return {row[1].split(":")[0] for row in rows if row[3] == "0A" and int(row[1].split(":")[1], 16) == port}

    assert listening(viewer) == {"0100007F"}
    public = MapViewer(0, "0.0.0.0")
    try:
        assert listening(public) == {"00000000"}
        assert public.url.startswith("http://127.0.0.1:")
    finally:
        public.close()


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "http://evil.example:80"])
def test_a_page_of_another_site_is_shown_nothing(viewer, view, origin, caplog):
    viewer.show(view)
    with caplog.at_level(logging.WARNING), ViewerClient.connected(viewer, origin) as client:
        client.pump(lambda: bool(client.clouds() or client.controls), timeout_s=1.0)
        assert not client.clouds()
        assert not client.controls
    assert "page of another site" in caplog.text


def test_a_program_without_an_origin_may_look(viewer, view):
    viewer.show(view)
    with ViewerClient.connected(viewer, None) as client:
        assert client.pump(shows_all(client, len(view.snapshot)))


def test_no_browser_can_share_the_map_on_the_internet(viewer, view, caplog):
    viewer.show(view)
    with caplog.at_level(logging.WARNING), ViewerClient.connected(viewer) as client:
        assert client.pump(shows_all(client, len(view.snapshot)))
        client.send_raw({"type": "ShareUrlRequest"})
        assert client.pump(lambda: "switched off" in caplog.text)
    assert viewer._server._share_tunnel is None


def test_the_server_gives_no_files(viewer):
    import http.client

    host, port = viewer.url.removeprefix("http://").split(":")
    for path in (
        "/../../../../../../../../etc/passwd",
        "/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/..\\..\\etc\\passwd",
        "//etc/passwd",
    ):
        connection = http.client.HTTPConnection(host, int(port), timeout=5)
        connection.request("GET", path)
        assert connection.getresponse().status == 404, path
        connection.close()


def test_more_browsers_than_allowed_are_told_so(view):
    viewer = MapViewer(0, max_viewers=1)
    try:
        viewer.show(view)
        with ViewerClient.connected(viewer) as one:
            assert one.pump(shows_all(one, len(view.snapshot)))
            with ViewerClient.connected(viewer) as other:
                assert other.pump(lambda: any("Close one" in str(c.get("_markdown", c)) for c in other.controls.values()))
                assert not other.clouds()
    finally:
        viewer.close()
