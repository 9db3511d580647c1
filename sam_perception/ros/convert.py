"""Messages to values and back; the arithmetic is in `images` and `messages`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam_perception import messages
from sam_perception.errors import FrameError, FrameIdMismatch, PromptError
from sam_perception.frame import CameraIntrinsics, RgbdFrame
from sam_perception.images import depth_from_image, intrinsics_from_camera_info, rgb_from_image
from sam_perception.messages import Message
from sam_perception.prompts import FOREGROUND, AnyPrompt, BoxPrompt, MaskPrompt, PointPrompt, TextPrompt
from sam_perception.ros.message_types import RosTypes

_TYPES = RosTypes()


def frame_from_msgs(color: Message, depth: Message | None, info: Message) -> RgbdFrame:
    """One frame from a colour image, its depth image and the colour camera's camera_info.

    Stamp and frame are the colour image's. Without a depth image there is no return
    anywhere. An rgb8 image without padding is not copied.

    Raises:
        FrameIdMismatch: the three do not name one optical frame.
        FrameError: as `images` and `RgbdFrame` raise it for encodings, sizes, intrinsics and stamps.
    """
    frame_id = color.header.frame_id
    depth_frame_id = frame_id if depth is None else depth.header.frame_id
    for name, other, cure in (
        ("depth", depth_frame_id, "start realsense2_camera with align_depth.enable:=true and use its "
         "aligned_depth_to_color topic"),
        ("camera_info", info.header.frame_id, "use the camera_info topic beside the colour image"),
    ):  # fmt: skip
        if other != frame_id:
            raise FrameIdMismatch(f"{name} is in frame {other!r}, the colour image in {frame_id!r}: {cure}")
    rgb = rgb_from_image(*_image_fields(color))
    return RgbdFrame(
        rgb=rgb,
        depth_m=np.zeros(rgb.shape[:2], np.float32) if depth is None else depth_from_image(*_image_fields(depth)),
        intrinsics=intrinsics_from_msg(info),
        stamp_ns=messages.stamp_ns_of(color.header.stamp),
        frame_id=frame_id,
    )


def intrinsics_from_msg(info: Message) -> CameraIntrinsics:
    """The raw image's camera from `sensor_msgs/CameraInfo`.

    Raises:
        InvalidIntrinsics: zero, not finite, of an unknown lens model.
    """
    return intrinsics_from_camera_info(info.width, info.height, info.k, info.d, info.distortion_model)


def frame_to_msgs(frame: RgbdFrame) -> tuple[Message, Message, Message]:
    """Colour (rgb8), depth (16UC1) and camera_info; the inverse of `frame_from_msgs` to a millimetre."""
    return (
        messages.color_image(_TYPES, frame),
        messages.depth_image(_TYPES, frame),
        messages.camera_info(_TYPES, frame),
    )


def prompt_from_msg(msg: Message, object_id: int) -> AnyPrompt:
    """The prompt in `Prompt.msg`, for the object `object_id` (the message's own may be 0).

    Raises:
        EmptyPrompt: neither points nor box nor mask nor words, or one that marks nothing.
        PromptError: odd lengths, words beside anything else, a mask beside points or a box, a mask that is not
            mono8, choose without a single point.
    """
    stamp_ns = messages.stamp_ns_of(msg.header.stamp)
    common: dict[str, Any] = {"object_id": object_id, "label": msg.label, "stamp_ns": stamp_ns or None}
    points, labels = _points(msg)
    if msg.text:
        if len(points) or len(msg.box) or len(msg.mask.data) or msg.choose:
            raise PromptError(f"prompt has the words {msg.text!r} and also points, a box or a mask: send one of them")
        return TextPrompt(text=msg.text, max_instances=int(msg.max_instances) or 1, **common)
    if msg.choose and (len(msg.mask.data) or len(msg.box)):
        raise PromptError(f"prompt has choose {msg.choose} and a mask or a box: choose is for a single point")
    if len(msg.mask.data):
        if len(points) or len(msg.box):
            raise PromptError("prompt has a mask and also points or a box: send one of them, then the other")
        return MaskPrompt(mask=_mask(msg.mask), **common)
    if len(msg.box):
        if len(msg.box) != 4:
            raise PromptError(f"box has {len(msg.box)} numbers: send x_min, y_min, x_max, y_max, or none")
        x_min, y_min, x_max, y_max = (float(edge) for edge in msg.box)
        return BoxPrompt(box=(x_min, y_min, x_max, y_max), points=points, labels=labels, **common)
    return PointPrompt(points=points, labels=labels, choose=int(msg.choose), **common)


def prompt_to_msg(prompt: AnyPrompt, frame_id: str = "") -> Message:
    """`Prompt.msg` of a prompt; a stamp of zero means the next image."""
    fields: dict[str, Any] = {}
    if isinstance(prompt, MaskPrompt):
        pixels = np.where(prompt.mask, np.uint8(255), np.uint8(0))
        fields["mask"] = messages.image(_TYPES, messages.header(_TYPES, 0, frame_id), pixels, "mono8")
    elif isinstance(prompt, TextPrompt):
        fields |= {"text": prompt.text, "max_instances": prompt.max_instances}
    else:
        fields["points"] = [float(n) for n in prompt.points.reshape(-1)]
        fields["point_labels"] = [int(n) for n in prompt.labels]
    if isinstance(prompt, PointPrompt):
        fields["choose"] = prompt.choose
    if isinstance(prompt, BoxPrompt):
        fields["box"] = [float(edge) for edge in prompt.box]
    header = messages.header(_TYPES, prompt.stamp_ns or 0, frame_id)
    return _TYPES("sam_perception/Prompt", header=header, object_id=prompt.object_id, label=prompt.label, **fields)


def _image_fields(image: Message) -> tuple[str, int, int, int, int, Any]:
    return image.encoding, image.height, image.width, image.step, image.is_bigendian, image.data


def _points(msg: Message) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    if len(msg.points) % 2:
        raise PromptError(f"points has {len(msg.points)} numbers: send pairs x0 y0 x1 y1 ...")
    points = np.asarray(msg.points, np.float32).reshape(-1, 2)
    if len(msg.point_labels) == 0:
        return points, np.full(len(points), FOREGROUND, np.int32)
    # A uint8[] arrives as bytes or as an array, by distribution.
    return points, np.frombuffer(bytes(msg.point_labels), np.uint8).astype(np.int32)


def _mask(image: Message) -> NDArray[np.bool_]:
    if image.encoding != "mono8":
        raise PromptError(f"mask has encoding {image.encoding!r}: send mono8, not zero on the object")
    try:
        grey = rgb_from_image(*_image_fields(image))
    except FrameError as error:
        raise PromptError(f"mask of the prompt: {error}") from error
    return np.asarray(grey[..., 0] > 0)
