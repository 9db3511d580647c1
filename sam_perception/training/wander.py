"""How far the centroid of an object that stands still wanders in the world, on RGB-D recordings with poses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sam_perception.config import PerceptionConfig
from sam_perception.errors import SourceError
from sam_perception.frame import CameraIntrinsics, RgbdFrame
from sam_perception.perception import Perception
from sam_perception.prompts import BoxPrompt
from sam_perception.training.metrics import centroid_wander
from sam_perception.training.recordings import Recording

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Wander:
    """One object that stands still."""

    recording: str
    object_id: int
    frames: int  # of the recording
    seen: int  # frames with a centroid
    rms_m: float  # of the distance to the median position in the world
    p95_m: float


def measure_wander(model: Any, recording: Recording, boxes: Mapping[int, Box]) -> list[Wander]:
    """Track objects from boxes in the first picture, and place their centroids in the world.

    Raises:
        SourceError: the recording has no depth, intrinsics or poses.
    """
    from sam_perception.segmentation import StreamingTracker

    poses, values = recording.world_from_camera(), recording.intrinsics()
    if poses is None or not values:
        raise SourceError(f"{recording.path} has no poses.txt or intrinsics.json: wander is measured in the world")
    camera = CameraIntrinsics(**{k: values[k] for k in ("width", "height", "fx", "fy", "cx", "cy")})
    perception = Perception(PerceptionConfig(), tracker=StreamingTracker(model, max_objects=len(boxes)))
    for object_id, box in boxes.items():
        perception.prompt(BoxPrompt(object_id, box))
    centroids = {k: np.full((len(recording), 3), math.nan) for k in boxes}
    for index in range(len(recording)):
        depth = recording.depth_m(index)
        if depth is None:
            raise SourceError(f"{recording.path} has no depth for picture {recording.colors[index].stem}")
        frame = RgbdFrame(recording.rgb(index), depth, camera, (index + 1) * 33_333_333, "camera")
        for track in perception.step(frame).objects:
            if track.centroid is not None:
                centroids[track.id][index] = track.centroid
    results = []
    for object_id, positions in centroids.items():
        rms, p95 = centroid_wander(positions, poses)
        seen = int(np.isfinite(positions[:, 0]).sum())
        results.append(Wander(recording.name, object_id, len(recording), seen, rms, p95))
    return results
