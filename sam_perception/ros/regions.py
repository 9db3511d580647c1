"""`~/segment_everything`: the newest picture cut up, without holding up anything else that the node does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.lifecycle import LifecycleNode
from rclpy.task import Future

from sam_perception import messages
from sam_perception.errors import PerceptionError
from sam_perception.messages import Message, MessageTypes
from sam_perception.ros.message_types import RosTypes
from sam_perception.ros.pipeline import Pipeline
from sam_perception.ros.qos import SERVICE_QUEUE
from sam_perception.ros.region_desk import RegionDesk
from sam_perception.scene import Region, Regions
from sam_perception.srv import SegmentEverything

_TYPES = RosTypes()


class RegionService:
    """Answers `~/segment_everything` when the regions are there.

    The callback gives way while it waits, so that one thread serves topics and other services meanwhile;
    a callback group of its own keeps it from locking out theirs.

    Args:
        node: to serve with.
        working: returns what serves requests now, or raises PerceptionError while nothing does.
    """

    def __init__(self, node: LifecycleNode, working: Callable[[], Pipeline]) -> None:
        self._node, self._working = node, working
        how: dict[str, Any] = {"qos_profile": SERVICE_QUEUE, "callback_group": ReentrantCallbackGroup()}
        node.create_service(SegmentEverything, "~/segment_everything", self._answer, **how)

    async def _answer(self, _: Any, response: Any) -> Any:
        try:
            desk = self._working().region_desk
            regions = await self._found(desk)
        except PerceptionError as error:
            response.success = False
            response.message = f"{error.kind}: {error}"
            return response
        return _filled(response, regions, desk)

    async def _found(self, desk: RegionDesk) -> Regions:
        executor = self._node.executor
        waiting = Future(executor=executor)
        asked = desk.ask()

        def pass_on(_: Any) -> None:
            waiting.set_result(None)
            if executor is not None:
                executor.wake()  # it may be waiting for the next message

        asked.add_done_callback(pass_on)
        await waiting
        return asked.result()


def _filled(response: Any, regions: Regions, desk: RegionDesk) -> Any:
    header = messages.header(_TYPES, regions.stamp_ns, regions.frame_id)
    objects = desk.objects_of(regions)
    response.success = True
    response.message = f"{len(regions.regions)} regions" if regions.regions else NOTHING_FOUND
    response.header = header
    response.width, response.height = regions.width, regions.height
    response.regions = [
        region_to_msg(_TYPES, region, header, object_id)
        for region, object_id in zip(regions.regions, objects, strict=True)
    ]
    return response


NOTHING_FOUND = (
    "no regions: the model is sure of no mask; set everything.pred_iou_thresh and everything.stability_score_thresh "
    "lower, or everything.model to a larger one"
)


def region_to_msg(types: MessageTypes, region: Region, header: Message, object_id: int) -> Message:
    """`Region.msg` of a region in the picture of `header`; `object_id` of the object that it is, or 0."""
    x, y, width, height = region.box
    crop = np.where(region.mask[y : y + height, x : x + width], np.uint8(255), np.uint8(0))
    return types(
        "sam_perception/Region",
        id=region.id,
        roi=types("sensor_msgs/RegionOfInterest", x_offset=x, y_offset=y, width=width, height=height),
        mask=messages.image(types, header, crop, "mono8"),
        area=region.area_px,
        predicted_iou=float(region.predicted_iou),
        stability_score=float(region.stability_score),
        point=np.array(region.point, np.float32),
        object_id=object_id,
    )
