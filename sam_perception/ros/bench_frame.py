"""What a frame costs beside the model, on one core: messages in, pairing, geometry, messages out, serialisation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from rclpy.serialization import deserialize_message, serialize_message

from sam_perception import messages
from sam_perception.benchmarks.pictures import rgbd_scene
from sam_perception.benchmarks.timing import Cost, cpu_cost, cpu_cost_of_all
from sam_perception.config import GeometryConfig
from sam_perception.frame import RgbdFrame
from sam_perception.geometry import Sightings, lift, lift_scene
from sam_perception.ros.convert import frame_from_msgs, frame_to_msgs
from sam_perception.ros.message_types import RosTypes
from sam_perception.ros.synchronizer import PairSynchronizer
from sam_perception.scene import Track

OBJECTS, PIXELS = 8, 20_000
LIMIT_MS = 15.0  # what all of it may take per frame of 640 x 480
_PERIOD_NS, _SKEW_NS = 33_000_000, 3_000_000  # between frames; of depth against colour
_ACTIVATIONS_BYTES = 24 << 20
_TYPES = RosTypes()


def frame_costs(repeats: int = 30) -> list[Cost]:
    """CPU time of every part with 8 objects of 20 000 pixels; their sum is what a frame costs."""
    _free_much()
    frame, scene = rgbd_scene(OBJECTS, PIXELS)
    settings, sightings = GeometryConfig(), Sightings()
    incoming = frame_to_msgs(frame)
    raw = [serialize_message(msg) for msg in incoming]
    kinds = [type(msg) for msg in incoming]
    lifted = lift_scene(frame, scene, settings)
    sightings.remember(frame, lifted.objects, settings)

    costs = [
        cpu_cost("in: deserialise", lambda: [_deserialised(*pair) for pair in zip(raw, kinds, strict=True)], repeats),
        cpu_cost("in: to arrays, metres, camera", lambda: frame_from_msgs(*incoming), repeats),
        cpu_cost("in: synchroniser", _pairing(incoming), repeats),
        cpu_cost("geometry: depth where objects were", lambda: sightings.evidence(frame, settings), repeats),
        # Of copies of the tracks, which know nothing yet of their outline.
        cpu_cost_of_all(
            "geometry: places remembered",
            [partial(_remember, sightings, frame, track, settings) for track in lifted.objects],
            repeats,
        ),
        cpu_cost_of_all(
            "geometry: points, centroids, boxes",
            [partial(lift, frame, track.mask, settings, track.roi) for track in scene.objects],
            repeats,
        ),
    ]
    outputs: dict[str, Callable[[], Any]] = {
        "~/objects": lambda: messages.tracked_object_array(_TYPES, lifted),
        "~/mask": lambda: messages.id_mask_image(_TYPES, lifted),
        "~/object_points": lambda: messages.object_cloud(_TYPES, lifted),
    }
    for topic, make in outputs.items():
        costs.append(cpu_cost(f"out: {topic}", make, repeats))
        costs.append(cpu_cost(f"out: {topic} serialised", partial(_serialised, make()), repeats))
    return costs


def _free_much() -> None:
    """Free a large block, as models do in every frame: the C library then keeps what is freed after it.

    Without, it gives each message's memory back to the system and has every page of the next one made anew,
    which on virtual machines takes longer than filling it.
    """
    block = np.ones(_ACTIVATIONS_BYTES, np.uint8)
    del block


def _serialised(message: Any) -> Any:
    return serialize_message(message)


def _deserialised(raw: Any, kind: Any) -> Any:
    return deserialize_message(raw, kind)


def _remember(sightings: Sightings, frame: RgbdFrame, track: Track, settings: GeometryConfig) -> None:
    sightings.remember(frame, [replace(track)], settings)


def overlay_cost(repeats: int = 15) -> Cost:
    """CPU time of `~/overlay`, a picture for people, drawn only where somebody looks at it."""
    frame, scene = rgbd_scene(OBJECTS, PIXELS)
    return cpu_cost("out: ~/overlay", lambda: messages.overlay_image(_TYPES, frame.rgb, scene), repeats)


def _pairing(incoming: Any) -> Callable[[], None]:
    synchronizer: PairSynchronizer[Any] = PairSynchronizer(
        slop_ns=20_000_000, queue_size=10, on_pair=lambda *_: None, on_drop=lambda *_: None
    )
    stamp_ns = 0

    def one_pair() -> None:
        nonlocal stamp_ns
        stamp_ns += _PERIOD_NS
        synchronizer.add_color(stamp_ns, incoming[0])
        synchronizer.add_depth(stamp_ns + _SKEW_NS, incoming[1])

    return one_pair
