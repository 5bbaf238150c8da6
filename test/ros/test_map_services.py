"""Services that change or store the map, under requests of every kind."""

from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mosaic3d_msgs.srv import LoadMap, SaveMap, SetVocabulary

from mosaic3d_core.errors import MapFileError
from mosaic3d_core.query import QueryConfig
from mosaic3d_ros.map_files import MapFolder
from mosaic3d_ros.map_services import MapServices

pytestmark = pytest.mark.ros
TEXTS = st.lists(st.text(max_size=30) | st.sampled_from(["chair", "x" * 2000, " ", "\0", "sofa"]), max_size=8)
PATHS = st.text(max_size=60) | st.lists(
    st.sampled_from(["..", ".", "/", "~", "a", "maps", "\0", "x.m3dmap", "etc"]), max_size=9
).map("/".join)


@pytest.fixture
def services(tmp_path):
    """The handlers by name, with a folder that has a link out of it; the map is stood for by what takes it."""
    taken = {}
    engine = SimpleNamespace(config=QueryConfig())
    session = SimpleNamespace(engine=engine, encoded=None, set_vocabulary=lambda words: taken.update(words=words))

    def restore(snapshot, features, instances):
        raise AssertionError(f"a map was read: {snapshot}")

    perception = SimpleNamespace(session=session, default_vocabulary=["floor"], encode_soon=lambda: None, restore=restore)
    handlers = {}
    entities = SimpleNamespace(create_service=lambda _kind, name, handle, **_: handlers.update({name: handle}))
    folder = tmp_path / "maps"
    folder.mkdir()
    (folder / "out").symlink_to(tmp_path)
    MapServices(entities, perception, str(folder))
    return SimpleNamespace(handlers=handlers, taken=taken, folder=folder)


def test_no_vocabulary_is_too_hostile(services):
    answered = []

    @settings(max_examples=1500)
    @given(TEXTS, st.none() | TEXTS)
    def ask(texts, labels):
        services.taken.clear()
        request = SetVocabulary.Request(texts=texts, labels=labels or [])
        reply = services.handlers["~/set_vocabulary"](request, SetVocabulary.Response())
        assert reply.message
        assert "\n" not in reply.message
        assert reply.success == ("words" in services.taken)
        answered.append(reply.success)

    ask()
    assert 30 < sum(answered) < len(answered) - 30


def test_no_path_of_a_request_leaves_the_folder(services):
    folder = MapFolder(str(services.folder))
    inside = services.folder.resolve()

    @settings(max_examples=1500)
    @given(PATHS)
    def ask(path):
        try:
            target = folder.resolve(path)
        except (ValueError, MapFileError):
            target = None
        assert target is None or target.resolve().is_relative_to(inside)
        for kind, name in ((LoadMap, "~/load_map"), (SaveMap, "~/save_map")):
            reply = services.handlers[name](kind.Request(path=path), kind.Response())
            assert not reply.success
            assert reply.message

    ask()
    assert [one.name for one in services.folder.iterdir()] == ["out"]
