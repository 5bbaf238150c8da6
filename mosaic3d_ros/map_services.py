"""Services that change or store the map: vocabulary, reset, pause, saving and loading."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mosaic3d_msgs.srv import LoadMap, SaveMap, SetVocabulary
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from std_srvs.srv import SetBool, Trigger

from mosaic3d_core.errors import Mosaic3DError, QueryError
from mosaic3d_core.query.requests import check_vocabulary
from mosaic3d_ros.entities import Entities
from mosaic3d_ros.map_files import MapFolder, load_map_reply, save_map_reply

if TYPE_CHECKING:
    from mosaic3d_ros.perception import Perception


class MapServices:
    """``~/set_vocabulary``, ``~/reset_map``, ``~/pause``, ``~/save_map`` and ``~/load_map``.

    Args:
        entities: Creates the services.
        perception: What they act on.
        map_folder: Folder that paths may not leave; "" for no such limit.
    """

    def __init__(self, entities: Entities, perception: Perception, map_folder: str) -> None:
        self._perception = perception
        self._folder = MapFolder(map_folder)
        group = MutuallyExclusiveCallbackGroup()
        for kind, name, handle in (
            (SetVocabulary, "~/set_vocabulary", self._set_vocabulary),
            (Trigger, "~/reset_map", self._reset_map),
            (SetBool, "~/pause", self._pause),
            (SaveMap, "~/save_map", self._save_map),
            (LoadMap, "~/load_map", self._load_map),
        ):
            entities.create_service(kind, name, handle, callback_group=group)

    def _set_vocabulary(self, request: SetVocabulary.Request, response: SetVocabulary.Response) -> SetVocabulary.Response:
        session, texts, labels = self._perception.session, list(request.texts), list(request.labels)
        try:
            if labels and len(labels) != len(texts):
                raise QueryError(f"{len(labels)} labels for {len(texts)} texts: give each text its label, or no labels at all")
            vocabulary: dict[str, list[str]] = {}
            for text, label in zip(texts, labels or texts, strict=True):
                vocabulary.setdefault(label, []).append(text)
            words = check_vocabulary(vocabulary or self._perception.default_vocabulary, session.engine.config)
        except Mosaic3DError as error:
            response.message = str(error)
            return response
        session.set_vocabulary(words)
        self._perception.encode_soon()
        response.success, response.message = True, f"{len(words)} words are in use."
        return response

    def _reset_map(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._perception.reset()
        response.success, response.message = True, "The map is empty."
        return response

    def _pause(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._perception.paused = request.data
        response.success, response.message = True, "Fusion is paused." if request.data else "Fusion goes on."
        return response

    def _save_map(self, request: SaveMap.Request, response: SaveMap.Response) -> SaveMap.Response:
        encoded = self._perception.session.encoded
        response.success, response.message = save_map_reply(encoded, request.path, request.overwrite, self._folder)
        return response

    def _load_map(self, request: LoadMap.Request, response: LoadMap.Response) -> LoadMap.Response:
        response.success, response.message = load_map_reply(request.path, self._folder, self._perception.restore)
        return response
