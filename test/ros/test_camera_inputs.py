"""Camera topics over DDS: what a driver sends in any encoding and transport arrives as the frame that it was."""

import numpy as np
import pytest
import rclpy
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image
from tf2_msgs.msg import TFMessage

from mosaic3d_core.frame import RGBDFrame
from mosaic3d_core.geometry.camera import PinholeCamera
from mosaic3d_ros import conversions as convert
from mosaic3d_ros import parameters, qos
from mosaic3d_ros.camera_inputs import CameraInputs
from mosaic3d_ros.camera_settings import camera_settings
from mosaic3d_ros.frame_counters import FrameCounters
from mosaic3d_ros.frames import assemble
from mosaic3d_ros.matched_subscription import MatchedSubscription
from mosaic3d_ros.pose_inputs import PoseInputs
from mosaic3d_ros.rgbd_player import FramePublisher

from .conftest import wait_until

pytestmark = pytest.mark.ros
SECOND = 1_000_000_000
CAMERA = PinholeCamera(60.0, 60.0, 31.5, 23.5, 64, 48)
COLOR_CAMERA = PinholeCamera(70.0, 70.0, 39.5, 29.5, 80, 60)


def picture(camera):
    v, u = np.mgrid[0 : camera.height, 0 : camera.width]
    return np.stack([40 + 2 * u, 30 + 3 * v, 200 - u - v], -1).astype(np.uint8)


def slope(camera):
    v, u = np.mgrid[0 : camera.height, 0 : camera.width]
    return (1.0 + 0.004 * u + 0.006 * v).astype(np.float32)


def frame(stamp_ns=SECOND, x=0.5, color_camera=None, between=None):
    pose = np.eye(4)
    pose[0, 3] = x
    return RGBDFrame(stamp_ns, picture(color_camera or CAMERA), slope(CAMERA), CAMERA, pose, color_camera, between)


def values_of(table, **changes):
    return {spec.name: spec.default for spec in table} | changes


class Listener:
    """The inputs of the node, and drivers that feed them."""

    def __init__(self, remaps=(), **values):
        self.context = rclpy.Context()
        arguments = ["--ros-args", *(part for remap in remaps for part in ("-r", remap))] if remaps else []
        rclpy.init(args=[], context=self.context)
        self.node = Node("listener", context=self.context, cli_args=arguments, use_global_arguments=False)
        self.robot = Node("driver", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.executor.add_node(self.robot)
        self.counters, self.frames, self.drops = FrameCounters(), [], []
        self._stamp_ns = SECOND
        settings = values_of(parameters.PERCEPTION, **values)
        group = MutuallyExclusiveCallbackGroup()
        self.poses = PoseInputs(self.node, settings, group, self.poll, lambda reason, text: self.drops.append((reason, text)))
        self.inputs = CameraInputs(
            self.node, settings, group, self.poses, self.counters, self.frames.append, self._drop, lambda _seconds: None
        )

    def _drop(self, reason, text, camera):
        self.counters.dropped(reason, camera)
        self.drops.append((reason, text))

    def poll(self):
        if hasattr(self, "inputs"):
            self.inputs.poll()

    def driver(self, **values):
        return FramePublisher(self.robot, values_of(parameters.PLAYER, **values))

    def spin(self):
        self.executor.spin_once(timeout_sec=0.02)

    def connect(self, *drivers):
        for driver in drivers:
            wait_until(lambda d=driver: all(p.get_subscription_count() for p in d._images.values()), self.spin, 20.0, "discovery")

    def send_until(self, driver, condition, *frames, what="a frame"):
        """Frames with growing stamps until something holds; the first may come before TF and the other topics connect."""

        def step():
            self._stamp_ns += SECOND // 20
            driver.publish(frames[0] if frames else frame(), self._stamp_ns)
            for _ in range(12):  # all that one frame brings, and a little time for what is to be connected
                self.executor.spin_once(timeout_sec=0.004)

        wait_until(condition, step, 20.0, what)

    def first(self, driver, *frames):
        self.connect(driver)
        self.send_until(driver, lambda: self.frames or self.drops, *frames)
        assert self.frames, self.drops
        return assemble(self.frames[0])

    def close(self):
        self.inputs.destroy()
        self.poses.destroy()
        self.executor.shutdown()
        self.node.destroy_node()
        self.robot.destroy_node()
        rclpy.shutdown(context=self.context)


@pytest.fixture
def listen():
    opened = []

    def make(**values):
        opened.append(Listener(**values))
        return opened[-1]

    yield make
    for listener in opened:
        listener.close()


def grey(color):
    return np.repeat(np.rint(color @ np.array([0.299, 0.587, 0.114]))[..., None], 3, axis=2)


@pytest.mark.parametrize(
    ("encoding", "transport", "tolerance"),
    [
        ("bgr8", "raw", 0),
        ("rgba8", "raw", 0),
        ("bgra8", "raw", 0),
        ("mono8", "raw", 0),
        ("mono16", "raw", 0),
        ("bayer_rggb8", "raw", 2),  # the picture is linear but for its border, where it is mirrored
        ("bayer_gbrg8", "raw", 2),
        ("rgb8", "jpeg", 8),
        ("bgr8", "png", 0),
        ("bayer_grbg8", "png", 2),
        ("mono16", "png", 0),
    ],
)
def test_colors_arrive_in_every_encoding_and_transport(listen, encoding, transport, tolerance):
    listener = listen(rgb_transport="raw" if transport == "raw" else "compressed")
    found = listener.first(listener.driver(rgb_encoding=encoding, rgb_transport=transport))
    wanted = grey(picture(CAMERA)) if encoding.startswith("mono") else picture(CAMERA)
    assert np.abs(found.color.astype(float) - wanted).max() <= tolerance
    assert found.registered


@pytest.mark.parametrize(
    ("encoding", "transport", "tolerance"),
    [
        ("16UC1", "raw", 5.1e-4),
        ("32FC1", "raw", 0.0),
        ("16UC1", "png", 5.1e-4),
        ("16UC1", "compressedDepth png", 5.1e-4),
        ("16UC1", "compressedDepth rvl", 5.1e-4),
        ("32FC1", "compressedDepth png", 3e-4),  # z^2 / A of the quantisation at 1.6 m
        ("32FC1", "compressedDepth rvl", 3e-4),
    ],
)
def test_depth_arrives_in_every_encoding_and_transport(listen, encoding, transport, tolerance):
    listener = listen(depth_transport={"raw": "raw", "png": "compressed"}.get(transport, "compressedDepth"))
    found = listener.first(listener.driver(depth_encoding=encoding, depth_transport=transport))
    assert np.abs(found.depth - slope(CAMERA)).max() <= tolerance


@pytest.mark.parametrize(
    ("model", "coefficients"),
    [
        ("plumb_bob", [-0.25, 0.06, 0.001, -0.001, 0.0]),
        ("rational_polynomial", [0.4, -0.2, 0.0005, 0.0, 0.01, 0.3, -0.1, 0.0]),
        ("equidistant", [-0.02, 0.01, 0.0, 0.0]),
    ],
)
def test_images_through_a_lens_are_rectified(listen, model, coefficients):
    listener = listen()
    found = listener.first(listener.driver(distortion_model=model, distortion=coefficients))
    inner = (slice(8, -8), slice(8, -8))  # beyond, the lens may show what is outside of the ideal image
    assert np.abs(found.color[inner].astype(float) - picture(CAMERA)[inner]).max() <= 3  # two interpolations and roundings
    # nearest pixels twice: at most one pixel off, on a slope of 0.006 per pixel
    assert np.abs(found.depth[inner] - slope(CAMERA)[inner]).max() < 0.012
    assert found.depth_camera == CAMERA


def test_rectified_topics_are_not_undistorted_again(listen):
    """image_proc publishes image_rect beside the camera_info of the raw image, which has the lens in it."""
    listener = listen(remaps=["rgb/image:=/cam/image_rect_color", "depth/image:=/cam/depth/image_rect"])
    driver = listener.driver()
    for topic, name in (("rgb/image", "/cam/image_rect_color"), ("depth/image", "/cam/depth/image_rect")):
        driver._images[topic] = listener.robot.create_publisher(Image, name, qos.CAMERA_OUT)
    make_info = driver._driver.camera_info

    def with_lens(camera, header):
        message = make_info(camera, header)
        message.d = [-0.25, 0.06, 0.001, -0.001, 0.0]
        return message

    driver._driver.camera_info = with_lens
    found = listener.first(driver)
    assert np.array_equal(found.color, picture(CAMERA))


def test_compressed_topics_follow_the_remapping_of_their_base(listen):
    listener = listen(remaps=["rgb/image:=/cam/color/image_raw", "depth/image/compressedDepth:=/own/depth"],
                      rgb_transport="compressed", depth_transport="compressedDepth")  # fmt: skip
    assert listener.inputs.topics["rgb/image"] == "/cam/color/image_raw/compressed"
    assert listener.inputs.topics["depth/image"] == "/own/depth"


@pytest.mark.parametrize("best_effort", [True, False])
def test_both_kinds_of_publishers_are_heard_and_matched(listen, best_effort):
    listener = listen()
    driver = listener.driver(best_effort=best_effort)
    listener.first(driver)
    wanted = ReliabilityPolicy.BEST_EFFORT if best_effort else ReliabilityPolicy.RELIABLE
    subscriptions = listener.inputs.cameras[0]._subscriptions
    listener.send_until(
        driver, lambda: all(s.profile.reliability == wanted and s._before is None for s in subscriptions), what="the match"
    )
    before = len(listener.frames)
    listener.send_until(driver, lambda: len(listener.frames) > before + 3, what="frames after the match")
    counts = listener.counters.as_dict()
    assert counts["dropped"] == {}
    accounted = len(listener.frames) + sum(listener.inputs.waiting.values())
    assert counts["received"]["depth/image"] == accounted


def test_a_best_effort_camera_that_comes_later_is_heard_too(listen):
    listener = listen()
    driver = listener.driver()
    subscription = listener.inputs.cameras[0]._subscriptions[2]
    listener.connect(driver)

    def reliable():
        return subscription.profile.reliability == ReliabilityPolicy.RELIABLE

    listener.send_until(driver, lambda: reliable() and subscription._before is None, what="the match")
    listener.robot.destroy_publisher(driver._images["depth/image"])
    late = listener.driver(best_effort=True)
    before = len(listener.frames)
    listener.send_until(late, lambda: len(listener.frames) > before + 2, what="frames of the late camera")
    assert not reliable()


def test_a_publisher_that_leaves_while_the_subscription_changes_leaves_nothing_behind(listen):
    listener = listen()
    driver = listener.driver()
    subscription = listener.inputs.cameras[0]._subscriptions[2]
    listener.connect(driver)
    wait_until(
        lambda: subscription._before is not None, listener.spin, 20.0, "the change"
    )  # nothing was sent: not yet taken over
    listener.robot.destroy_publisher(driver._images["depth/image"])
    late = listener.driver(best_effort=True)
    listener.send_until(late, lambda: listener.frames and subscription._before is None, what="frames of the late camera")
    assert subscription.profile.reliability == ReliabilityPolicy.BEST_EFFORT


def test_a_calibration_that_was_sent_once_is_asked_for(listen):
    listener = listen()
    latched = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    publisher = listener.robot.create_publisher(CameraInfo, "latched_info", latched)
    publisher.publish(convert.camera_info_message(CAMERA, convert.make_header("camera", SECOND)))
    taken = []
    group = MutuallyExclusiveCallbackGroup()
    subscription = MatchedSubscription(listener.node, CameraInfo, "latched_info", taken.append, qos.camera_in(5, False), group)

    def step():
        subscription.match()
        for _ in range(10):
            listener.spin()

    wait_until(lambda: taken, step, 20.0, "the calibration")
    assert taken[0].width == CAMERA.width
    subscription.destroy()


def test_static_transforms_of_a_bag_that_does_not_keep_them_are_heard(listen):
    listener = listen()
    publisher = listener.robot.create_publisher(TFMessage, "/tf_static", qos.TF)
    wait_until(publisher.get_subscription_count, listener.spin, 20.0, "discovery")
    publisher.publish(TFMessage(transforms=[FramePublisher._transform("map", "camera", frame(x=2.0).T_world_camera, 0)]))
    wait_until(lambda: "camera" in listener.poses.buffer.frames(), listener.spin, 20.0, "the transform")
    np.testing.assert_allclose(listener.poses.source.pose_at("camera", 5 * SECOND)[0, 3], 2.0)


def test_a_camera_on_a_static_transform_alone_is_enough(listen):
    listener = listen()
    keeper = listener.robot.create_publisher(TFMessage, "/tf_static", qos.TF_STATIC)
    keeper.publish(
        TFMessage(transforms=[FramePublisher._transform("map", "camera_depth_optical_frame", frame(x=3.0).T_world_camera, 0)])
    )
    found = listener.first(listener.driver(pose_output="none"))
    assert found.T_world_camera[0, 3] == pytest.approx(3.0)


def test_fixed_pose_and_extrinsics_need_no_tf_at_all(listen):
    listener = listen(pose_source="static", static_pose=[1.0, 2.0, 3.0, 0.0, 0.0, 0.0, 1.0],
                      T_color_depth=[0.025, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0])  # fmt: skip
    driver = listener.driver(pose_output="none")
    driver._publish_extrinsics = lambda *_: None
    found = listener.first(driver, frame(color_camera=COLOR_CAMERA))
    assert found.T_world_camera[:3, 3].tolist() == [1.0, 2.0, 3.0]
    assert found.T_color_depth[:3, 3].tolist() == [0.025, 0.0, 0.0]
    assert found.color_camera == COLOR_CAMERA


def test_extrinsics_come_from_tf_between_the_optical_frames(listen):
    between = np.eye(4)
    between[0, 3] = 0.05
    listener = listen()
    found = listener.first(listener.driver(), frame(color_camera=COLOR_CAMERA, between=between))
    np.testing.assert_allclose(found.T_color_depth, between, atol=1e-9)


def test_several_cameras_fill_one_map_each_with_its_own_rate_and_counts(listen):
    listener = listen(cameras=["front", "/arm/wrist/"])
    front = listener.driver(camera="front", depth_frame="front")
    wrist = listener.driver(camera="arm/wrist", depth_frame="wrist", depth_encoding="32FC1")
    listener.connect(front, wrist)
    tick = [0]

    def step():
        tick[0] += 1
        stamp = SECOND + tick[0] * SECOND // 30
        front.publish(frame(x=1.0), stamp)
        if tick[0] % 3 == 0:
            wrist.publish(frame(x=2.0), stamp + 7_000_000)
        for _ in range(8):
            listener.spin()

    def of(camera):
        return [f for f in listener.frames if f.raw.camera == camera]

    wait_until(lambda: len(of("front")) >= 12 and len(of("arm/wrist")) >= 4, step, 20.0, "frames of both")
    assert {assemble(f).T_world_camera[0, 3] for f in of("front")} == {1.0}
    assert {assemble(f).T_world_camera[0, 3] for f in of("arm/wrist")} == {2.0}
    counts = listener.counters.as_dict()
    by_camera = counts["cameras"]
    assert set(by_camera) == {"front", "arm/wrist"}
    for topic, total in counts["received"].items():
        assert total == sum(camera["received"].get(topic, 0) for camera in by_camera.values())
    for name in by_camera:
        waiting = listener.inputs.waiting[name]
        assert by_camera[name]["received"]["depth/image"] == len(of(name)) + sum(by_camera[name]["dropped"].values()) + waiting


def test_inputs_that_were_taken_down_take_nothing_more_and_can_be_made_again(listen):
    listener = listen()
    driver = listener.driver()
    listener.first(driver)
    listener.inputs.destroy()
    before = dict(listener.counters.as_dict()["received"])
    for k in range(5):
        driver.publish(frame(), 100 * SECOND + k)
        listener.spin()
    assert listener.counters.as_dict()["received"] == before
    assert sum(listener.inputs.waiting.values()) == 0


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"cameras": ["a", "/a"]}, "names a camera twice"),
        ({"cameras": ["my camera"]}, "'my camera', which cannot be part of a topic"),
        ({"cameras": ["a//b"]}, "cannot be part of a topic"),
        ({"cameras": ["a", "b"], "pose_source": "pose"}, "pose_child_frame"),
        ({"pose_source": "static"}, "static_pose"),
        ({"static_pose": [1.0, 2.0, 3.0], "pose_source": "static"}, "expected 7"),
        ({"T_color_depth": [0.0] * 7}, "quaternion of length 1"),
        ({"T_color_depth": [0.0] * 13 + [1.0], "cameras": ["a", "b", "c"]}, "expected 7"),
    ],
)
def test_settings_that_cannot_be_name_the_parameter(changes, text):
    with pytest.raises(ValueError, match=text):
        camera_settings(values_of(parameters.PERCEPTION, **changes))
