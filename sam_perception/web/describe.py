"""Frames, objects, regions and reports in the words of the page: JSON, and pictures behind a header of it."""

from __future__ import annotations

import dataclasses
import json
import math
import struct
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_perception.geometry import deproject
from sam_perception.overlay import color_of
from sam_perception.scene import Region, Scene, Track
from sam_perception.web.backend import CutUp, Report, Seen
from sam_perception.web.pictures import Picture
from sam_perception.web.wire import Probe

_LEAST_PX = 8  # a smaller piece of a region's outline is nothing to click on
_OUTLINE_PX = 0.7  # how far an outline may be from the mask's edge


def text_of(kind: str, values: Mapping[str, Any]) -> str:
    """A message as text; numbers that are not finite become null."""
    return json.dumps({"type": kind, **_plain(values)}, allow_nan=False, separators=(",", ":"), ensure_ascii=False)


def picture_message(kind: str, values: Mapping[str, Any], jpeg: bytes) -> bytes:
    """A message with a picture: the header's length (uint32, little endian), the header as JSON, the JPEG."""
    header = text_of(kind, values).encode()
    return struct.pack("<I", len(header)) + header + jpeg


def frame_message(picture: Picture) -> bytes:
    """A frame with its objects."""
    scene = picture.scene
    values = {
        **_about(scene),
        "view": picture.view,
        "objects": [object_values(track, scene.stamp_ns) for track in scene.objects],
        "timings_ms": {stage: round(duration, 1) for stage, duration in scene.timings_ms.items()},
        "depth_range_m": picture.depth_range_m,
    }
    return picture_message("frame", values, picture.jpeg)


def regions_message(number: int, cut: CutUp, jpeg: bytes) -> bytes:
    """The regions of a frame, as outlines, smallest first: that is the order in which a cursor picks them."""
    listed = sorted(cut.regions.regions, key=lambda region: region.area_px)
    values = {**_about(cut.seen.scene), "ask": number, "regions": [region_values(region) for region in listed]}
    return picture_message("regions", values, jpeg)


def report_message(report: Report) -> str:
    """How the node is."""
    return text_of("report", dataclasses.asdict(report))


def object_values(track: Track, now_ns: int) -> dict[str, Any]:
    """One object as the list shows it."""
    box = track.box
    return {
        "id": track.id,
        "label": track.label,
        "color": "#{:02x}{:02x}{:02x}".format(*color_of(track.id)),
        "state": track.state.name,
        "score": track.score,
        "mask_score": track.mask_score,
        "pixels": int(np.count_nonzero(track.mask)),
        "roi": [int(n) for n in track.roi],
        "position_m": None if track.centroid is None else track.centroid.tolist(),
        "sigma_m": None if track.covariance is None else np.sqrt(np.diag(track.covariance)).tolist(),
        "size_m": None if box is None else box.size_m.tolist(),
        "unseen_s": (now_ns - track.last_seen_ns) * 1e-9 if track.last_seen_ns else None,
    }


def probe_values(probe: Probe, seen: Seen, scene: Scene) -> dict[str, Any]:
    """What is under the cursor: depth along the optical axis, the point in the camera's frame, the object."""
    frame = seen.frame
    column = min(max(round(probe.x), 0), frame.width - 1)
    row = min(max(round(probe.y), 0), frame.height - 1)
    depth_m = float(frame.depth_m[row, column])
    known = math.isfinite(depth_m) and depth_m > 0
    point = deproject(frame.intrinsics, [[column, row]], [depth_m])[0].tolist() if known else None
    under = [track for track in scene.objects if track.mask[row, column]]
    return {
        "stamp": str(probe.stamp_ns),
        "x": column,
        "y": row,
        "depth_m": depth_m if known else None,
        "position_m": point,
        "object_id": max(under, key=lambda track: track.mask_score).id if under else 0,
        "rgb": frame.rgb[row, column].tolist(),
    }


def region_values(region: Region) -> dict[str, Any]:
    """A region with its outlines: x0 y0 x1 y1 ... in pixels, to be filled by the even-odd rule."""
    return {
        "id": region.id,
        "area": region.area_px,
        "score": region.predicted_iou,
        "outlines": _outlines(region.mask, region.box),
    }


def _outlines(mask: NDArray[np.bool_], box: tuple[int, int, int, int]) -> list[list[int]]:
    x, y, width, height = box
    # A rim of zeros, so that contours along the box are closed.
    padded = np.pad(mask[y : y + height, x : x + width].astype(np.uint8), 1)
    found, _ = cv2.findContours(padded, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE, offset=(x - 1, y - 1))
    large = [contour for contour in found if cv2.contourArea(contour) >= _LEAST_PX] or list(found)
    return [cv2.approxPolyDP(contour, _OUTLINE_PX, closed=True).reshape(-1).tolist() for contour in large]


def _about(scene: Scene) -> dict[str, Any]:
    # The stamp as text: JavaScript's numbers are exact to 2^53 only.
    return {"stamp": str(scene.stamp_ns), "frame_id": scene.frame_id, "width": scene.width, "height": scene.height}


def _plain(value: Any) -> Any:
    """The value in JSON's own types; short numbers, none that are not finite."""
    if isinstance(value, float):
        return round(value, 5) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return value
