"""Requests about objects, by service and by topic; answered at once, done with the next frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rclpy.lifecycle import LifecycleNode
from std_srvs.srv import Trigger

from sam_perception import messages
from sam_perception.detections import Detection
from sam_perception.discovery.discovery import check_words
from sam_perception.errors import FrameIdMismatch, PerceptionError, PromptError
from sam_perception.messages import Message
from sam_perception.prompts import AnyPrompt, Prompt, TextPrompt
from sam_perception.ros.convert import prompt_from_msg
from sam_perception.ros.detections import DetectionInput
from sam_perception.ros.message_types import RosTypes, message_class
from sam_perception.ros.pipeline import Pipeline
from sam_perception.ros.qos import SERVICE_QUEUE
from sam_perception.ros.region_desk import RegionDesk
from sam_perception.ros.regions import RegionService
from sam_perception.srv import AddObject, ListObjects, RemoveObject, RenameObject

_TYPES = RosTypes()
_PROMPT_QUEUE = 32  # clicks of a person or boxes of a detector that may come at once


class Services:
    """`~/add_object`, `~/remove_object`, `~/rename_object`, `~/list_objects`, `~/reset`; `~/prompt`, `~/detections`.

    Args:
        node: to serve with.
        pipeline: returns what serves requests now, or None while the node is not configured.
        on_error: called with what is wrong with a prompt that came by topic.
    """

    def __init__(
        self,
        node: LifecycleNode,
        pipeline: Callable[[], Pipeline | None],
        on_error: Callable[[Exception], None],
    ) -> None:
        self._node, self._pipeline, self._on_error = node, pipeline, on_error
        node.create_service(AddObject, "~/add_object", self._safe(self._add), qos_profile=SERVICE_QUEUE)
        node.create_service(RemoveObject, "~/remove_object", self._safe(self._remove), qos_profile=SERVICE_QUEUE)
        node.create_service(RenameObject, "~/rename_object", self._safe(self._rename), qos_profile=SERVICE_QUEUE)
        node.create_service(ListObjects, "~/list_objects", self._safe(self._list), qos_profile=SERVICE_QUEUE)
        node.create_service(Trigger, "~/reset", self._safe(self._reset), qos_profile=SERVICE_QUEUE)
        RegionService(node, self._working)
        DetectionInput(node, self._on_detections, on_error)
        node.create_subscription(message_class("sam_perception/Prompt"), "~/prompt", self._on_prompt, _PROMPT_QUEUE)

    def answer(self, request: Any) -> Any:
        """The response to a service's request, without a call over DDS; from any thread.

        Raises:
            TypeError: no service of the node takes such a request.
        """
        for kind, take in (
            (AddObject, self._add),
            (RemoveObject, self._remove),
            (RenameObject, self._rename),
            (ListObjects, self._list),
            (Trigger, self._reset),
        ):
            if isinstance(request, kind.Request):
                return take(request, kind.Response())
        raise TypeError(f"no service of the node takes a {type(request).__name__}")

    def _safe(self, take: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        """`take`, but with an answer also where it fails by a defect: nobody is to wait in vain."""

        def answer(request: Any, response: Any) -> Any:
            try:
                return take(request, response)
            except Exception as error:
                self._on_error(error)
                if hasattr(response, "success"):
                    response.success = False
                    response.message = f"the node failed to do this ({type(error).__name__}: {error}): see its log"
                return response

        return answer

    def _on_detections(self, found: Sequence[Detection], stamp_ns: int, frame_id: str) -> None:
        pipeline = self._pipeline()
        if pipeline is not None:  # else nothing is tracked yet, and they would be old by then
            pipeline.detections(found, stamp_ns, frame_id)

    def _on_prompt(self, msg: Message) -> None:
        try:
            self._take(msg)
        except Exception as error:
            self._on_error(error)

    def _add(self, request: Any, response: Any) -> Any:
        try:
            prompt = self._take(request.prompt)
        except PerceptionError as error:
            return _refuse(response, error)
        response.success = True
        response.object_id = prompt.object_id
        started = self._working().newest() is not None
        response.message = f"object {prompt.object_id} " + (
            "is taken up with the next frame"
            if started
            else f"waits for the first frame: the node is {self._node.state_label}, no pair of images was processed yet"
        )
        return response

    def _remove(self, request: Any, response: Any) -> Any:
        try:
            self._working().desk.remove(request.object_id)
        except PerceptionError as error:
            return _refuse(response, error)
        response.success = True
        response.message = f"object {request.object_id} is forgotten"
        return response

    def _rename(self, request: Any, response: Any) -> Any:
        try:
            self._working().desk.rename(request.object_id, request.label)
        except PerceptionError as error:
            return _refuse(response, error)
        response.success = True
        response.message = f"object {request.object_id} is called {request.label.strip()!r} from the next frame on"
        return response

    def _reset(self, _: Any, response: Any) -> Any:
        try:
            desk = self._working().desk
        except PerceptionError as error:
            return _refuse(response, error)
        known = desk.ids
        desk.reset()
        response.success = True
        response.message = f"{len(known)} objects are forgotten"
        return response

    def _list(self, _: Any, response: Any) -> Any:
        pipeline = self._pipeline()
        if pipeline is None:
            return response
        desk = pipeline.desk
        response.waiting = list(desk.waiting)
        newest = pipeline.newest(lifted=True)
        if newest is not None:
            listed = messages.tracked_object_array(_TYPES, newest.scene, with_masks=False)
            response.header = listed.header
            known = desk.ids
            response.objects = [entry for entry in listed.objects if entry.id in known]
        return response

    def _take(self, msg: Message) -> AnyPrompt:
        pipeline = self._working()
        newest = pipeline.newest()

        def make(object_id: int) -> AnyPrompt:
            if msg.region:
                return _region_prompt(msg, object_id, pipeline.region_desk)
            prompt = prompt_from_msg(msg, object_id)
            if isinstance(prompt, TextPrompt):
                check_words(pipeline.config)
            if newest is not None:
                frame_id = msg.header.frame_id
                if frame_id and frame_id != newest.frame.frame_id:
                    raise FrameIdMismatch(
                        f"prompt is for images in {frame_id!r}, the colour images are in {newest.frame.frame_id!r}: "
                        "send the header of the image that was looked at"
                    )
                prompt.check_inside(newest.frame.width, newest.frame.height)
            return prompt

        return pipeline.desk.prompt(msg.object_id, make)

    def _working(self) -> Pipeline:
        pipeline = self._pipeline()
        if pipeline is None:
            raise PerceptionError(
                f"the node is {self._node.state_label} and has no model: configure and activate it "
                f"(`ros2 lifecycle set {self._node.get_fully_qualified_name()} configure`)"
            )
        return pipeline


def _region_prompt(msg: Message, object_id: int, desk: RegionDesk) -> Prompt:
    if len(msg.points) or len(msg.box) or len(msg.mask.data):
        raise PromptError("prompt has a region and also points, a box or a mask: send one of them, then the other")
    return desk.prompt(msg.region, object_id, msg.label)


def _refuse(response: Any, error: PerceptionError) -> Any:
    response.success = False
    response.message = f"{error.kind}: {error}"
    return response
