"""Inputs are told camera by camera, images first; what anybody writes into diagnostics is survived."""

from hypothesis import given
from hypothesis import strategies as st

from mosaic3d_core.doctor.observations import CAMERA_ROLES, in_order
from mosaic3d_core.doctor.self_report import read_report, since


def test_inputs_are_in_the_order_of_a_camera():
    mixed = ["tf", "left/depth/camera_info", "right/rgb/image", "left/rgb/image", "odom", "left/depth/image"]
    ordered = ["left/rgb/image", "left/depth/image", "left/depth/camera_info", "right/rgb/image", "tf", "odom"]
    assert list(in_order({role: role for role in mixed})) == ordered
    assert list(in_order(dict.fromkeys(reversed(CAMERA_ROLES), "x"))) == list(CAMERA_ROLES)
    assert in_order({}) == {}


KEYS = st.sampled_from(
    ["fused", "received depth/image", "dropped no_pose", "shared memory bytes", "topic tf", "paused", "lifecycle"]
)


@given(
    st.dictionaries(KEYS | st.text(max_size=20), st.text(max_size=20) | st.just("9" * 5000) | st.integers().map(str), max_size=8)
)
def test_no_text_in_diagnostics_breaks_the_reader(values):
    report = read_report("/n", values)
    assert report.state.fused >= 0
    assert all(count >= 0 for count in report.state.dropped.values())
    assert since(report.state, report.state).fused == 0
