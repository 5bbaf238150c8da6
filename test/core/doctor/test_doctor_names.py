"""Inputs are told camera by camera, images first."""

from mosaic3d_core.doctor.observations import CAMERA_ROLES, in_order


def test_inputs_are_in_the_order_of_a_camera():
    mixed = ["tf", "left/depth/camera_info", "right/rgb/image", "left/rgb/image", "odom", "left/depth/image"]
    ordered = ["left/rgb/image", "left/depth/image", "left/depth/camera_info", "right/rgb/image", "tf", "odom"]
    assert list(in_order({role: role for role in mixed})) == ordered
    assert list(in_order(dict.fromkeys(reversed(CAMERA_ROLES), "x"))) == list(CAMERA_ROLES)
    assert in_order({}) == {}
