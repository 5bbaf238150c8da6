"""The viewer in a real headless browser: it loads without the internet, a person types words and sees the answer."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("viser", reason="the 3D view needs viser (extra 'viewer')")
pytest.importorskip("playwright", reason="the browser is driven by playwright (extra 'dev')")

import viewer_browser

from mosaic3d_core.mapping import load_map
from mosaic3d_core.models.text import get_text_encoder
from mosaic3d_core.query import QueryEngine
from mosaic3d_core.query.feature_store import unpack_features
from mosaic3d_core.visualization.viewer import MapViewer, ViewData

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(viewer_browser.BROWSER is None, reason="no chromium or google-chrome is installed"),
]

HOSTILE = "<img src=x onerror=\"document.title='owned'\"> chair"
PANEL_WIDTH = 350


@pytest.fixture(scope="module")
def encoded(encoded_map_file):
    return unpack_features(*load_map(encoded_map_file, with_extras=True))


@pytest.fixture(scope="module")
def engine(encoded):
    return QueryEngine(get_text_encoder(encoded.text_encoder_name))


@pytest.fixture(scope="module")
def browser():
    with viewer_browser.browser_context(800, 500) as context:
        yield context


@pytest.fixture
def viewer(encoded, engine):
    viewer = MapViewer(0)
    viewer.show(ViewData.of(encoded, engine.label(encoded, ["floor", "box", "chair"]), engine))
    yield viewer
    viewer.close()


def colored_pixels(page):
    """How many pixels of the scene are red, blue, and yellow (heat)."""
    image = viewer_browser.picture(page)[:, :-PANEL_WIDTH].astype(int)
    red, green, blue = image[..., 0], image[..., 1], image[..., 2]
    return {
        "red": int(((red > 120) & (green < 90) & (blue < 90)).sum()),
        "blue": int(((blue > 120) & (green < 90) & (red < 90)).sum()),
        "yellow": int(((red > 200) & (green > 180) & (blue < 180)).sum()),
    }


def wait_for_pixels(page, wanted, timeout_ms=60_000):
    """Pictures until they show what is wanted; software rendering takes its time."""
    for _ in range(timeout_ms // 250):
        pixels = colored_pixels(page)
        if wanted(pixels):
            return pixels
        page.wait_for_timeout(250)
    raise AssertionError(f"never seen; the last picture has {pixels}")


def test_typed_words_are_answered_in_the_picture_for_that_browser_alone(browser, viewer, tmp_path):
    page, other = (viewer_browser.open_page(browser, viewer.url) for _ in range(2))
    page.bring_to_front()
    wait_for_pixels(page, lambda seen: seen["red"] > 500 and seen["blue"] > 500)
    viewer_browser.find(page, "chair")
    page.get_by_text('"chair": 1 object, best').wait_for()
    page.get_by_role("button", name="chair #").wait_for()
    wait_for_pixels(page, lambda seen: seen["yellow"] > 500 and seen["red"] < 50 and seen["blue"] < 50)
    page.screenshot(path=tmp_path / "viewer.png")
    other.bring_to_front()
    wait_for_pixels(other, lambda seen: seen["red"] > 500 and seen["blue"] > 500)
    assert other.get_by_text('"chair"').count() == 0
    assert page.errors == other.errors == []
    assert browser.foreign == []
    page.close()
    other.close()


def test_an_object_is_flown_to_and_the_map_changes_while_one_looks(browser, viewer, encoded):
    page = viewer_browser.open_page(browser, viewer.url)
    before = wait_for_pixels(page, lambda seen: seen["blue"] > 500)
    viewer_browser.find(page, "box")
    page.get_by_role("button", name="box #").click()
    viewer_browser.choose(page, "Show", "Colour")
    wait_for_pixels(page, lambda seen: seen["blue"] > 2 * before["blue"])  # it fills the picture
    snapshot = encoded.snapshot
    colors = np.where(snapshot.colors[:, 2:] > 150, (200, 30, 30), snapshot.colors)  # somebody paints it red
    viewer.show(ViewData(replace(snapshot, colors=colors.astype(np.float32), generation=5)))
    page.get_by_text("generation 5").wait_for()
    wait_for_pixels(page, lambda seen: seen["red"] > 2 * before["blue"] and seen["blue"] < 50)
    assert page.errors == []
    page.close()


def test_typed_text_and_labels_are_never_markup(browser, viewer, encoded, engine):
    labelling = engine.label(encoded, ["floor", "box", "chair"])
    objects = [replace(found, text=HOSTILE) for found in labelling.objects]
    view = ViewData.of(encoded, replace(labelling, vocabulary=("floor", HOSTILE, "chair"), objects=objects), engine)
    viewer.show(replace(view, note=HOSTILE))
    page = viewer_browser.open_page(browser, viewer.url)
    title = page.title()
    viewer_browser.choose(page, "Show", "Labels")
    page.locator(".mosaic3d-legend").get_by_text("<img src=x").wait_for()
    viewer_browser.find(page, HOSTILE)
    page.get_by_text(f'"{HOSTILE[:20]}').first.wait_for()
    viewer_browser.find(page, "<script>document.title='owned'</script>" * 100)  # too long: an error
    page.locator(".mosaic3d-error").wait_for()
    page.wait_for_timeout(300)
    assert page.title() == title
    assert page.locator("img[src='x']").count() == 0
    assert page.locator(".mosaic3d-error img, .mosaic3d-plain img").count() == 0
    assert page.errors == []
    page.close()
