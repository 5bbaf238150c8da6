"""A browser without a picture: speaks the page's protocol, keeps what the page would show, and presses its controls."""

from __future__ import annotations

import time
from contextlib import contextmanager

import msgspec
import numpy as np
import viser
import zstandard
from scipy.spatial.transform import Rotation
from websockets.sync.client import connect

_CAMERA = {
    "type": "ViewerCameraMessage",
    "wxyz": (1.0, 0.0, 0.0, 0.0),
    "position": (3.0, 3.0, 3.0),
    "fov": 1.0,
    "near": 0.1,
    "far": 100.0,
    "image_height": 600,
    "image_width": 800,
    "look_at": (0.0, 0.0, 0.0),
    "up_direction": (0.0, 0.0, 1.0),
}


class ViewerClient:
    """One connection. ``nodes`` and ``controls`` are the scene and the panel by name and by uuid, as properties."""

    def __init__(self, socket):
        self._socket = socket
        self.nodes: dict[str, dict] = {}
        self.controls: dict[str, dict] = {}
        self.log: list[str] = []
        self.point_bytes = 0
        self.sent_nodes: list[str] = []
        self._send(_CAMERA)

    @classmethod
    @contextmanager
    def connected(cls, viewer, origin="own"):
        """Connect as a page of the viewer (``origin="own"``), of another site, or as a program (None)."""
        url = viewer.url.replace("http", "ws")
        headers = None if origin is None else {"Origin": viewer.url if origin == "own" else origin}
        protocol = f"viser-v{viser.__version__}"
        with connect(url, subprotocols=[protocol], additional_headers=headers, max_size=None, close_timeout=1) as socket:
            yield cls(socket)

    def _send(self, message):
        self._socket.send(msgspec.msgpack.encode(message))

    def pump(self, until=lambda: False, timeout_s=30.0):
        """Receive until a condition holds; True when it does."""
        end = time.monotonic() + timeout_s
        while not until():
            left = end - time.monotonic()
            if left <= 0:
                return False
            try:
                data = self._socket.recv(timeout=min(left, 0.05))
            except TimeoutError:
                continue
            for message in decode(data):
                self._take(message)
        return True

    def settle(self, quiet_s=0.5, timeout_s=30.0):
        """Receive until no points have come for a while."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            before = self.point_bytes
            self.pump(timeout_s=quiet_s)
            if self.point_bytes == before:
                return
        raise AssertionError("points kept coming")

    def _take(self, message):
        kind = message["type"]
        self.log.append(kind)
        if kind.startswith("Gui") and "props" in message and "uuid" in message:
            self.controls[message["uuid"]] = {"kind": kind, "value": message.get("value"), **message["props"]}
        elif kind == "GuiUpdateMessage" and message["uuid"] in self.controls:
            self.controls[message["uuid"]].update(message["updates"])
        elif kind == "GuiRemoveMessage":
            self.controls.pop(message["uuid"], None)
        elif "props" in message and "name" in message:
            self.nodes[message["name"]] = {"kind": kind, "visible": True, **message["props"]}
            self._note_points(message["name"], message["props"])
        elif kind == "SceneNodeUpdateMessage" and message["name"] in self.nodes:
            self.nodes[message["name"]].update(message["updates"])
            self._note_points(message["name"], message["updates"])
        elif kind == "SetPositionMessage" and message["name"] in self.nodes:
            self.nodes[message["name"]]["position"] = message["position"]
        elif kind == "SetSceneNodeVisibilityMessage" and message["name"] in self.nodes:
            self.nodes[message["name"]]["visible"] = message["visible"]
        elif kind == "RemoveSceneNodeMessage":
            self.nodes.pop(message["name"], None)

    def _note_points(self, name, props):
        if name.startswith("/map/"):
            size = sum(len(props[key]) for key in ("points", "colors") if key in props)
            self.point_bytes += size
            if size:
                self.sent_nodes.append(name)

    # What is seen -------------------------------------------------------------------------------------------

    def clouds(self, visible_only=False):
        """Point clouds as {name: (points in metres (n, 3), colours (n, 3), size)}."""
        found = {}
        for name, node in list(self.nodes.items()):
            placed = node["kind"] == "PointCloudMessage" and "position" in node
            if placed and not (visible_only and not node["visible"]):
                points = np.frombuffer(node["points"], np.float16).reshape(-1, 3).astype(float)
                colors = np.frombuffer(node["colors"], np.uint8).reshape(-1, 3)
                found[name] = points + np.array(node["position"]), colors, node["point_size"]
        return found

    def points(self):
        """All points and colours together."""
        clouds = list(self.clouds().values())
        if not clouds:
            return np.zeros((0, 3)), np.zeros((0, 3), np.uint8)
        return np.vstack([c[0] for c in clouds]), np.vstack([c[1] for c in clouds])

    def names(self):
        """Texts written into the scene."""
        return [node["text"] for name, node in self.nodes.items() if name.startswith("/names/")]

    def html(self):
        """What the panel says."""
        return " ".join(c["content"] for c in self.controls.values() if c["kind"] == "GuiHtmlMessage")

    def buttons(self):
        """Labels of the buttons."""
        return [c["label"] for c in self.controls.values() if c["kind"] == "GuiButtonMessage"]

    # What is pressed ----------------------------------------------------------------------------------------

    def set(self, label, value):
        """Change a control as a person does."""
        self._send({"type": "GuiUpdateMessage", "uuid": self._uuid(label), "updates": {"value": value}})

    def press(self, label):
        """Press a button."""
        self.set(label, True)

    def find(self, text):
        """Type words and press Enter."""
        self.set("Find", text)
        form = next(uuid for uuid, c in self.controls.items() if c["kind"] == "GuiFormMessage")
        self._send({"type": "GuiFormSubmitMessage", "uuid": form})

    def look(self, eye, target):
        """Move the camera: from a place (3,) towards another, z up."""
        forward = (target - eye) / np.linalg.norm(target - eye)
        right = np.cross(forward, [0, 0, 1.0])
        right /= np.linalg.norm(right)
        x, y, z, w = Rotation.from_matrix(np.stack([right, np.cross(forward, right), forward], axis=1)).as_quat().tolist()
        self._send({**_CAMERA, "wxyz": (w, x, y, z), "position": eye.tolist(), "look_at": target.tolist()})

    def send_raw(self, message):
        """Anything else a page can send."""
        self._send(message)

    def _uuid(self, label):
        return next(uuid for uuid, c in self.controls.items() if c.get("label") == label)


def decode(data):
    """Messages of one WebSocket frame, with the arrays as bytes."""
    packed = int.from_bytes(data[8:16], "little")
    content = msgspec.msgpack.decode(zstandard.ZstdDecompressor().decompress(data[16 : 16 + packed]))
    offset, buffers = 16 + packed, []
    for length in content["binaryBufferLengths"]:
        offset += -offset % 8
        buffers.append(data[offset : offset + length])
        offset += length
    return [_with_arrays(message, buffers) for message in content["messages"]]


def _with_arrays(value, buffers):
    if isinstance(value, dict):
        if "__binary_index" in value:
            return buffers[value["__binary_index"]]
        return {key: _with_arrays(one, buffers) for key, one in value.items()}
    if isinstance(value, list):
        return [_with_arrays(one, buffers) for one in value]
    return value
