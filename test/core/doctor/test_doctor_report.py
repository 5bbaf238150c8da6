"""What is printed and written, the transport profile that is read, and the page that explains every code."""

import ast
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from doctor_scenes import healthy, with_topic
from rich.console import Console

from mosaic3d_core.doctor import CODES, examine, transport_of
from mosaic3d_core.doctor.report import as_json, print_report
from mosaic3d_core.doctor.transport import DEFAULT_SEGMENT_BYTES

ROOT = Path(__file__).resolve().parents[3]
SHM = """<?xml version="1.0"?><profiles xmlns="http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles">
<transport_descriptors><transport_descriptor><transport_id>shm</transport_id><type>SHM</type>
<segment_size>{size}</segment_size></transport_descriptor>
<transport_descriptor><transport_id>udp</transport_id><type>UDPv4</type></transport_descriptor></transport_descriptors>
<participant profile_name="p" is_default_profile="{default}"><rtps><userTransports>{used}</userTransports>
<useBuiltinTransports>{builtin}</useBuiltinTransports></rtps></participant></profiles>"""


def printed(seen, terminal):
    stream = io.StringIO()
    print_report(Console(file=stream, force_terminal=terminal, width=100, highlight=False), seen, examine(seen), "a graph")
    return stream.getvalue()


def test_a_file_gets_whole_lines_without_colour():
    seen = with_topic("rgb/image", encodings=("64FC1",), name="/a/very/long/name/of/a/topic/that/would/be/cut/off/in/a/terminal")
    text = printed(seen, terminal=False)
    assert "\x1b" not in text
    (finding,) = examine(seen)
    assert f"  {finding.problem}\n" in text
    assert f"  -> {finding.remedy}\n" in text
    assert re.search(rf"rgb/image +{seen.topics['rgb/image'].name} +1 +100 +20\.0 +64FC1 640x480 +camera", text)


def test_a_terminal_gets_colour():
    assert "\x1b[" in printed(with_topic("rgb/image", encodings=("64FC1",)), terminal=True)
    assert "All well." in printed(healthy(), terminal=True)


def test_names_with_brackets_are_no_markup():
    assert "/[red]x" in printed(with_topic("rgb/image", name="/[red]x"), terminal=False)


def test_json_holds_findings_inputs_and_transforms():
    seen = replace(with_topic("depth/image", rate_hz=float("nan")), edges=())
    answer = json.loads(json.dumps(as_json(seen, examine(seen)), allow_nan=False))
    assert answer["verdict"] == "errors"
    assert set(answer["findings"][0]) == {"code", "severity", "subject", "problem", "remedy"}
    assert answer["inputs"]["depth/image"]["rate_hz"] is None
    assert answer["transforms"] == []
    assert as_json(healthy(), ())["transforms"][0]["parent"] == "map"


def profile(tmp_path, size=1 << 24, default="true", used=("shm", "udp"), builtin="false"):
    path = tmp_path / "profile.xml"
    ids = "".join(f"<transport_id>{name}</transport_id>" for name in used)
    path.write_text(SHM.format(size=size, default=default, used=ids, builtin=builtin))
    return {"FASTDDS_DEFAULT_PROFILES_FILE": str(path)}


def test_the_profile_of_the_package_is_enough():
    transport = transport_of({"FASTDDS_DEFAULT_PROFILES_FILE": str(ROOT / "config" / "fastdds.xml")})
    assert transport.segment_bytes == 128 << 20
    assert examine(replace(healthy(), transports=(transport,))) == ()


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({}, 1 << 24),
        ({"default": "false"}, DEFAULT_SEGMENT_BYTES),
        ({"used": ("udp",)}, None),
        ({"used": ("udp",), "builtin": "true"}, DEFAULT_SEGMENT_BYTES),
    ],
    ids=["shared memory", "not the default profile", "UDP alone", "builtin beside UDP"],
)
def test_a_profile_counts_as_fast_dds_takes_it(tmp_path, options, size):
    assert transport_of(profile(tmp_path, **options)).segment_bytes == size


@pytest.mark.parametrize(
    ("environment", "size"),
    [
        ({}, DEFAULT_SEGMENT_BYTES),
        ({"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"}, None),
        ({"FASTDDS_BUILTIN_TRANSPORTS": "UDPv4"}, None),
        ({"FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA"}, DEFAULT_SEGMENT_BYTES),
    ],
)
def test_without_a_profile_the_default_holds(environment, size, tmp_path):
    assert transport_of(environment, folder=str(tmp_path)).segment_bytes == size


@pytest.mark.parametrize("content", [None, "<profiles", "<a>" + "x" * (1 << 20) + "</a>", SHM.replace("{size}", "much")])
def test_a_profile_that_cannot_be_read_is_told(tmp_path, content):
    path = tmp_path / "profile.xml"
    if content:
        path.write_text(content.replace("{default}", "true").replace("{used}", "").replace("{builtin}", "false"))
    transport = transport_of({"FASTDDS_DEFAULT_PROFILES_FILE": str(path)})
    assert transport.problem
    (finding,) = examine(replace(healthy(), transports=(transport,)))
    assert finding.code == "transport_profile"
    assert str(path) in finding.problem


def test_the_page_explains_every_code_in_the_order_of_the_checks():
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (error|warning) \| (.+?) \| (.+?) \|$", page, re.MULTILINE)
    assert [(code, severity) for code, severity, _, _ in rows] == [(entry.code, entry.severity) for entry in CODES]
    assert all(len(cause) > 10 and len(cure) > 10 for _, _, cause, cure in rows)


def reasons_in_the_code():
    """Reasons of errors that drop a frame, and of direct drops, as the sources name them."""
    reasons = set()
    for folder in ("mosaic3d_core/imaging", "mosaic3d_core/geometry", "mosaic3d_core/mapping", "mosaic3d_ros"):
        for path in (ROOT / folder).rglob("*.py"):
            for call in (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)):
                name = getattr(call.func, "attr", getattr(call.func, "id", ""))
                at = {"FrameError": 1, "dropped": 0, "on_drop": 0, "_on_drop": 0}.get(name)
                if at is not None and len(call.args) > at and isinstance(call.args[at], ast.Constant):
                    reasons.add(call.args[at].value)
    return reasons


def test_the_page_explains_every_reason_of_a_drop():
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    section = page[page.index("## Reasons for dropped frames") :]
    reasons = reasons_in_the_code()
    assert {"no_color", "bad_encoding", "queue_full"} <= reasons
    assert sorted(reasons - set(re.findall(r"`(\w+)`", section))) == []
