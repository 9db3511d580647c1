"""Which topics of a bag are the camera's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sam_perception.errors import SourceError
from sam_perception.images import is_color_encoding, is_depth_encoding

IMAGE = "sensor_msgs/msg/Image"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"


@dataclass(frozen=True)
class CameraTopics:
    """The three topics that make RGB-D frames."""

    color: str
    depth: str
    info: str


# realsense2_camera's names; those of its older releases; this package's own, relative names.
KNOWN = (
    CameraTopics(
        "/camera/camera/color/image_raw",
        "/camera/camera/aligned_depth_to_color/image_raw",
        "/camera/camera/color/camera_info",
    ),
    CameraTopics("/camera/color/image_raw", "/camera/aligned_depth_to_color/image_raw", "/camera/color/camera_info"),
    CameraTopics("/color/image_raw", "/depth/image_raw", "/color/camera_info"),
)


def choose_topics(
    types: Mapping[str, str],
    encoding_of: Callable[[str], str],
    *,
    color: str | None = None,
    depth: str | None = None,
    info: str | None = None,
) -> CameraTopics:
    """The camera's topics: those asked for, else known names, else the only ones of fitting type and encoding.

    Args:
        types: message type of each topic that has messages.
        encoding_of: encoding of an image topic's first message.
        color: colour topic asked for, or None.
        depth: depth topic asked for, or None.
        info: camera_info topic asked for, or None.

    Raises:
        SourceError: a topic asked for is not there, or what is there leaves no or several choices.
    """
    for name, kind in ((color, IMAGE), (depth, IMAGE), (info, CAMERA_INFO)):
        if name is not None and types.get(name) != kind:
            raise SourceError(f"the bag has no topic {name} of type {kind}; it has {_listing(types)}")
    images = [name for name, kind in types.items() if kind == IMAGE]
    infos = [name for name, kind in types.items() if kind == CAMERA_INFO]
    color = color or _choose(
        "colour", "--color-topic", [k.color for k in KNOWN], images, encoding_of, is_color_encoding
    )
    depth = depth or _choose("depth", "--depth-topic", [k.depth for k in KNOWN], images, encoding_of, is_depth_encoding)
    # image_transport's convention: camera_info beside the image.
    beside = color.rpartition("/")[0] + "/camera_info"
    return CameraTopics(color, depth, info or _only("camera_info", "--info-topic", [beside], infos, infos, types))


def _choose(
    role: str,
    option: str,
    known: Sequence[str],
    images: Sequence[str],
    encoding_of: Callable[[str], str],
    fits: Callable[[str], bool],
) -> str:
    encodings = {name: encoding_of(name) for name in images}
    fitting = [name for name in images if fits(encodings[name])]
    return _only(role, option, known, images, fitting, encodings)


def _only(
    role: str,
    option: str,
    known: Sequence[str],
    present: Sequence[str],
    fitting: Sequence[str],
    shown: Mapping[str, str],
) -> str:
    for name in known:
        if name in present:
            return name
    if len(fitting) == 1:
        return fitting[0]
    found = "no" if not fitting else "more than one"
    raise SourceError(f"the bag has {found} topic that could be {role}; choose by {option}; it has {_listing(shown)}")


def _listing(shown: Mapping[str, str]) -> str:
    return ", ".join(f"{name} ({what})" for name, what in sorted(shown.items())) or "no messages"
