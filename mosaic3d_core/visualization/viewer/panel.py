"""The panel beside the map: its controls, and its texts as HTML in which nothing from outside is markup."""

from __future__ import annotations

import functools
import html
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from mosaic3d_core.visualization.viewer.scene import MODES

if TYPE_CHECKING:
    import viser

    from mosaic3d_core.query import DetectedObject
    from mosaic3d_core.query.relations import RelationalResult

_LONGEST_NAME = 60
_MOST_BUTTONS = 8
_DETAILS = (50_000, 200_000, 500_000, 1_000_000, 2_000_000, 5_000_000)
_MARGIN = 'style="margin:0.3em 0.9em;font-size:0.85em;overflow-wrap:anywhere"'


def shortened(text: str, longest: int = _LONGEST_NAME) -> str:
    """A text on one line, cut when it is long."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= longest else text[: longest - 1] + "…"


def age_text(seconds: float) -> str:
    """How long ago, in words."""
    if seconds < 2:
        return "now"
    return f"{seconds:.0f} s ago" if seconds < 120 else f"{seconds / 60:.0f} min ago"


def line_html(text: str, kind: str = "plain") -> str:
    """A line of text; kind "error" is red, "status" and "detail" are small print."""
    color = {"error": "color:#d6336c;", "status": "opacity:0.75;", "detail": "opacity:0.75;"}.get(kind, "")
    return f'<div class="mosaic3d-{kind}" {_MARGIN}><span style="{color}">{html.escape(text)}</span></div>' if text else ""


def answer_text(text: str, objects: Sequence[DetectedObject]) -> str:
    """One line about an answer."""
    if not objects:
        return f'"{shortened(text)}": nothing like that here'
    count = f"{len(objects)} object" + ("s" if len(objects) > 1 else "")
    return f'"{shortened(text)}": {count}, best {max(found.score for found in objects):.2f}'


def answer_details(answer: RelationalResult) -> tuple[str, ...]:
    """Lines about an answer to a text with relations: why each of the best objects answers, and what was not found."""
    reasons = zip(answer.result.objects, answer.reasons, strict=True)
    lines = [f"#{found.id}: {shortened(reason, 200)}" for found, reason in reasons if reason]
    return (*lines[:_MOST_BUTTONS], *(shortened(note, 200) for note in answer.notes))


def button_text(found: DetectedObject) -> str:
    """What the button that flies to an object says."""
    return f"{found.score:.2f}  {shortened(found.text or 'object', 28)}  #{found.id}"


def legend_html(legend: Iterable[tuple[str, tuple[int, int, int], float]]) -> str:
    """Words with their colours and shares."""
    rows = "".join(
        f'<div><span style="display:inline-block;width:0.9em;height:0.9em;margin-right:0.5em;vertical-align:middle;'
        f'background:rgb({color[0]},{color[1]},{color[2]})"></span>{html.escape(shortened(word) or "(no label)")} '
        f'<span style="opacity:0.6">{share:.1%}</span></div>'
        for word, color, share in legend
    )
    return f'<div class="mosaic3d-legend" {_MARGIN}>{rows}</div>'


def detail_choices(max_points: int) -> dict[str, int]:
    """Points that a viewer may choose to see at most, by name."""
    return {f"{count:,} points": count for count in (*(c for c in _DETAILS if c < max_points), max_points)}


class Panel:
    """The controls of one browser.

    Args:
        gui: That browser's own interface, nobody else sees it.
        max_points: Most points it may ask for.
        min_score: Least score to start with.
        on_change: Called with the name of a wish and its new value: "text", "min_score", "mode", "boxes", "names", "ceiling",
            "points".
        on_object: Called with an object whose button was pressed.
        on_overview: Called when the whole map is wanted.
    """

    def __init__(
        self,
        gui: viser.GuiApi,
        max_points: int,
        min_score: float,
        on_change: Callable[[str, Any], None],
        on_object: Callable[[DetectedObject], None],
        on_overview: Callable[[], None],
    ) -> None:
        self._gui = gui
        self._on_object = on_object
        self._shown: dict[str, object] = {}
        self._buttons: list[Any] = []
        self._best: tuple[DetectedObject, ...] = ()
        gui.configure_theme(show_logo=False, show_share_button=False, control_width="medium")
        gui.set_panel_label("Mosaic3D")
        self._status = gui.add_html("")
        with gui.add_form(None) as form:
            self._text = gui.add_text("Find", "", hint="Words or a short description, then Enter")
        form.on_submit(lambda _: on_change("text", self._text.value))
        score = gui.add_slider("Least score", 0.0, 1.0, 0.05, min_score, hint="Objects below are left out")
        score.on_update(lambda _: on_change("min_score", score.value))
        self._answer = gui.add_html("")
        self._found = gui.add_folder("Best objects", visible=False)
        self._mode: Any = gui.add_dropdown("Show", MODES)
        self._mode.on_update(lambda _: on_change("mode", self._mode.value))
        for name, label, value in (("boxes", "Boxes", True), ("names", "Names", True), ("ceiling", "Ceiling", False)):
            self._add_switch(name, label, value, on_change)
        choices = detail_choices(max_points)
        detail = gui.add_dropdown("Detail", tuple(choices), initial_value=list(choices)[-1])
        detail.on_update(lambda _: on_change("points", choices.get(detail.value, max_points)))
        gui.add_button("Whole map").on_click(lambda _: on_overview())
        self._legend_folder = gui.add_folder("Labels", expand_by_default=True, visible=False)
        with self._legend_folder:
            self._legend = gui.add_html("")

    def _add_switch(self, name: str, label: str, value: bool, on_change: Callable[[str, Any], None]) -> None:
        switch = self._gui.add_checkbox(label, value)
        switch.on_update(lambda _: on_change(name, bool(switch.value)))

    def show_mode(self, mode: str) -> None:
        """Set the choice of colours."""
        if self._mode.value != mode:
            self._mode.value = mode

    def show_status(self, text: str) -> None:
        """Set the status line."""
        if self._is_new("status", text):
            self._status.content = line_html(text, "status")

    def show_answer(
        self, text: str, objects: Sequence[DetectedObject] = (), details: Sequence[str] = (), error: bool = False
    ) -> None:
        """Set the line about the answer, more lines in small print, and a button per object, best first."""
        if self._is_new("answer", (text, tuple(details), error)):
            lines = [line_html(text, "error" if error else "plain"), *(line_html(line, "detail") for line in details)]
            self._answer.content = "".join(lines)
        best = tuple(objects[:_MOST_BUTTONS])
        labels = [button_text(found) for found in best]
        if self._is_new("buttons", tuple(labels)):
            for button in self._buttons:
                button.remove()
            self._found.visible = bool(best)
            with self._found:
                self._buttons = [self._gui.add_button(label, hint="Fly there") for label in labels]
            for number, button in enumerate(self._buttons):
                button.on_click(functools.partial(self._pressed, number))
        self._best = best

    def _pressed(self, number: int, _event: object) -> None:
        best = self._best
        if number < len(best):
            self._on_object(best[number])

    def show_legend(self, legend: Iterable[tuple[str, tuple[int, int, int], float]], visible: bool) -> None:
        """Set the list of labels."""
        content = legend_html(legend) if visible else ""
        if visible and self._is_new("legend", content):
            self._legend.content = content
        if self._is_new("legend_visible", visible):
            self._legend_folder.visible = visible

    def _is_new(self, name: str, value: object) -> bool:
        """Whether a value differs from the one that the browser has; then it is noted."""
        if self._shown.get(name) == value and name in self._shown:
            return False
        self._shown[name] = value
        return True
