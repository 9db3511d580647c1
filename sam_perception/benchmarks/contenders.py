"""Our tracker and transformers' own session, each as a function of one picture."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sam_perception.benchmarks.pictures import HEIGHT, WIDTH, boxes
from sam_perception.config import TrackerConfig
from sam_perception.segmentation import StreamingTracker
from sam_perception.segmentation.preprocess import ImageScaler, masks_and_numbers

Step = Callable[[NDArray[np.uint8]], object]


def compiled(model: Any, most: int, progress: Callable[[str], None] | None = None) -> Any:
    """What `compile: true` runs, for up to `most` objects: every program is made here, before anything is timed.

    Args:
        model: a `Sam2VideoModel`.
        most: objects.
        progress: is told what was compiled, and how long that took.

    Raises:
        ConfigError: torch cannot compile here.
    """
    from sam_perception.segmentation.compiled import CompiledNetwork

    return CompiledNetwork(model, most).ready(TrackerConfig(), progress)


def ours(model: Any, objects: int) -> Step:
    """`StreamingTracker` with a box for each object; a picture to masks of its size on the host.

    Args:
        model: a `Sam2VideoModel`, or it `compiled` for as many objects or more.
        objects: how many.
    """
    tracker = StreamingTracker(model, max_objects=objects)
    for prompt in boxes(objects):
        tracker.prompt(prompt)
    return tracker.step


def theirs(model: Any, objects: int) -> Step:
    """The session of transformers, `Sam2VideoInferenceSession`: same boxes, same resizing, same masks on the host.

    It keeps every frame; nothing of that is changed here.
    """
    from transformers import Sam2VideoInferenceSession

    model = _in_one_format(model)
    parameter = next(model.parameters())
    scaler = ImageScaler(model.image_size, parameter.device, parameter.dtype)
    session = Sam2VideoInferenceSession(
        dtype=parameter.dtype, inference_device=parameter.device, inference_state_device=parameter.device
    )
    labels = torch.tensor([2, 3], dtype=torch.int32, device=parameter.device)  # a box's corners
    for prompt in boxes(objects):
        corners = scaler.points(np.array(prompt.box, np.float32).reshape(2, 2), HEIGHT, WIDTH)
        row = session.obj_id_to_idx(prompt.object_id)
        inputs = {"point_coords": corners[None, None], "point_labels": labels[None, None]}
        session.add_point_inputs(row, 0, inputs)
    session.obj_with_new_inputs = list(range(1, objects + 1))

    @torch.inference_mode()
    def step(picture: NDArray[np.uint8]) -> object:
        out = model(session, frame=scaler.pixels(picture))
        numbers = out.object_score_logits.reshape(objects, -1)
        return masks_and_numbers(out.pred_masks[:, 0], numbers, *picture.shape[:2])

    return step


def _in_one_format(model: Any) -> Any:
    """The model, or a copy all of whose weights have the format of the most: theirs does not go with a mixture.

    `load_model` leaves what encodes coordinates in float32, whatever the format.
    """
    if all(parameter.dtype == model.dtype for parameter in model.parameters()):
        return model
    return copy.deepcopy(model).to(model.dtype)
