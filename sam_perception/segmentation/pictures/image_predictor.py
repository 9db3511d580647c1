"""Prompts on single pictures: features once, then points, boxes and masks as often as one likes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from sam_perception.errors import EmptyPrompt, PromptError, PromptOutsideImage
from sam_perception.segmentation.hardware import inferring
from sam_perception.segmentation.pictures.image_models import load_image_model
from sam_perception.segmentation.pictures.image_networks import EncodedPicture, ModelPrompts, image_network
from sam_perception.segmentation.transfer import upload

Tensor = torch.Tensor

# A mask that is drawn counts as logits of +10 on the object and -10 beside it.
_DRAWN_SCALE, _DRAWN_BIAS = 20.0, -10.0


@dataclass(frozen=True, eq=False)
class Prediction:
    """Answers to one prompt, or to N at once: then every array has N in front."""

    masks: NDArray[np.bool_]  # ([N,] K, H, W) at the picture's size; K is 3, or 1 without multimask_output
    scores: NDArray[np.float32]  # ([N,] K) predicted intersection over union
    logits: NDArray[np.float32]  # ([N,] K, h, w) at the model's own size; one of them may be a `mask_input`

    @property
    def best(self) -> NDArray[np.bool_]:
        """([N,] H, W): the mask that the model is surest of."""
        at = self.scores.argmax(axis=-1)
        best: NDArray[np.bool_] = np.take_along_axis(self.masks, at[..., None, None, None], axis=-3)[..., 0, :, :]
        return best


class ImagePredictor:
    """Segments what is pointed at in one picture at a time.

    Args:
        model: as `load_image_model` or `load_model` returns it.

    Raises:
        ModelError: a model of another kind.
    """

    def __init__(self, model: Any) -> None:
        self._network = image_network(model)
        self._picture: EncodedPicture | None = None

    @classmethod
    def load(cls, name_or_dir: str | Path, device: str = "auto", dtype: str = "auto") -> ImagePredictor:
        """A predictor with a model by name or folder; see `load_image_model` for names and errors."""
        return cls(load_image_model(name_or_dir, device, dtype))

    @property
    def mask_input_size(self) -> tuple[int, int]:
        """Height and width of `Prediction.logits` and of `mask_input`."""
        return self._network.low_size

    def set_image(self, rgb: NDArray[np.uint8]) -> None:
        """Compute the features of a picture (H, W, 3) uint8, red first; prompts mean it from now on.

        Raises:
            MalformedImage: not such a picture; the one before stays.
        """
        self._picture = self._network.encode(rgb)

    def predict(
        self,
        points: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        box: ArrayLike | None = None,
        mask_input: NDArray[Any] | None = None,
        multimask_output: bool = True,
    ) -> Prediction:
        """Masks of what is pointed at; points, box and mask may come together.

        Args:
            points: (P, 2) x y in pixels, or (N, P, 2) for N prompts at once.
            labels: (P,) or (N, P): 1 on the object, 0 beside it; all on it when left out.
            box: (4,) or (N, 4) x_min, y_min, x_max, y_max in pixels.
            mask_input: (h, w) or (N, h, w) logits from an earlier `Prediction`, or bool (H, W) or (N, H, W).
            multimask_output: three masks, as a single click may mean a part, an object or the whole; else one.

        Raises:
            PromptError: no picture yet, wrong shapes or labels, or different numbers of prompts.
            PromptOutsideImage: a point or box beyond the picture.
            EmptyPrompt: nothing is given, or a box has no width or height.
        """
        if self._picture is None:
            raise PromptError("no picture yet: call set_image before predict")
        given = [a for a in (points, box, mask_input) if a is not None]
        if not given:
            raise EmptyPrompt("nothing to predict from: give points, a box or mask_input")
        at, marks = self._points(points, labels)
        prompts = ModelPrompts(at, marks, self._boxes(box), self._masks(mask_input))
        counts = {len(t) for t in (prompts.points, prompts.boxes, prompts.masks) if t is not None}
        if len(counts) > 1:
            raise PromptError(f"different numbers of prompts at once, {sorted(counts)}: give as many of each kind")
        single = np.ndim(given[0]) == (1 if given[0] is box else 2)
        return self._answer(prompts, multimask_output, single=single)

    @inferring()
    def _answer(self, prompts: ModelPrompts, many: bool, *, single: bool) -> Prediction:
        assert self._picture is not None  # noqa: S101 - predict has looked
        logits, scores = self._network.decode(self._picture, prompts, many=many)
        full = self._network.scaling.enlarged(logits.flatten(0, 1), self._picture.size) > 0
        masks = full.view(*logits.shape[:2], *self._picture.size).cpu().numpy()
        answer = (masks, scores.cpu().numpy(), logits.cpu().numpy())
        return Prediction(*(a[0] for a in answer)) if single else Prediction(*answer)

    def _points(self, points: ArrayLike | None, labels: ArrayLike | None) -> tuple[Tensor | None, Tensor | None]:
        if points is None:
            if labels is not None:
                raise PromptError("labels without points: give the points that they belong to")
            return None, None
        at = np.array(points, np.float32)
        at = at[None] if at.ndim == 2 else at
        if at.ndim != 3 or at.shape[2] != 2 or not at.size:
            raise PromptError(f"points have shape {np.shape(points)}: pass (P, 2) or (N, P, 2), x y in pixels")
        marks = np.ones(at.shape[:2], np.int32) if labels is None else np.array(labels, np.int32)
        marks = marks[None] if marks.ndim == 1 else marks
        if marks.shape != at.shape[:2] or not np.isin(marks, (0, 1)).all():
            raise PromptError(
                f"labels have shape {marks.shape} for points of {at.shape[:2]}: pass one per point, 1 on the "
                "object, 0 beside it"
            )
        return self._scaled(at, "points"), upload(marks, self._network.device)

    def _boxes(self, box: ArrayLike | None) -> Tensor | None:
        if box is None:
            return None
        corners = np.array(box, np.float32)
        if corners.ndim not in (1, 2) or corners.shape[-1] != 4 or not corners.size:
            raise PromptError(f"box has shape {corners.shape}: pass (4,) or (N, 4), x_min y_min x_max y_max in pixels")
        corners = corners.reshape(-1, 2, 2)
        if (corners[:, 1] <= corners[:, 0]).any():
            raise EmptyPrompt("a box is empty: x_max must exceed x_min and y_max must exceed y_min")
        return self._scaled(corners, "box").flatten(1)

    def _scaled(self, points: NDArray[np.float32], name: str) -> Tensor:
        """Points (N, P, 2) of the picture as the model counts pixels."""
        assert self._picture is not None  # noqa: S101 - predict has looked
        height, width = self._picture.size
        # Edges of boxes go from 0 to width, a pixel's area half a pixel beyond its centre.
        if not ((points >= -0.5) & (points <= (width, height))).all():
            raise PromptOutsideImage(
                f"{name} {points.reshape(-1).tolist()[:8]} leaves the {width} x {height} picture: give pixels of it"
            )
        return upload(self._network.scaling.points(points, (height, width)), self._network.device)

    def _masks(self, mask_input: NDArray[Any] | None) -> Tensor | None:
        if mask_input is None:
            return None
        masks = np.asarray(mask_input)
        masks = masks[None] if masks.ndim == 2 else masks
        assert self._picture is not None  # noqa: S101 - predict has looked
        low, size = self._network.low_size, self._picture.size
        if masks.dtype == np.bool_ and masks.shape[1:] == size:
            return self._network.scaling.mask(masks, low) * _DRAWN_SCALE + _DRAWN_BIAS
        if masks.dtype.kind != "f" or masks.shape[1:] != low:
            raise PromptError(
                f"mask_input is {masks.dtype} of shape {np.shape(mask_input)}: pass logits of an earlier prediction, "
                f"float and {low}, or bool of the picture's size {size}"
            )
        return upload(masks.astype(np.float32), self._network.device)
