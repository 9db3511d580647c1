"""Everything mode for frames of a stream, with the model that tracks in it or with another one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from typing import Any

import torch

from sam_perception.config import EverythingConfig
from sam_perception.errors import ModelError
from sam_perception.frame import RgbdFrame
from sam_perception.scene import Regions
from sam_perception.segmentation.pictures.everything import MaskGenerator, regions_of
from sam_perception.segmentation.pictures.image_models import load_image_model
from sam_perception.segmentation.pictures.image_networks import ImageNetwork, image_network

_LOOK_S = 0.01  # at a model that is being loaded


class ModelRegions:
    """Cuts frames up as a whole.

    The tracker's state is neither read nor changed: a picture's features are computed anew, which is little
    beside asking about a grid of points.

    Args:
        shared: returns the model that tracks now; its weights are used, not copied.
        device: for a model of its own, which `EverythingConfig.model` may name.
        dtype: the same.
    """

    def __init__(self, shared: Callable[[], Any], device: str = "auto", dtype: str = "auto") -> None:
        self._shared, self._device, self._dtype = shared, device, dtype
        self._name, self._model = "", None  # of its own, as last asked for
        self._network: tuple[Any, ImageNetwork] | None = None  # with its model

    def search(self, frame: RgbdFrame, config: EverythingConfig) -> Generator[float, None, Regions]:
        """The regions of a frame's picture, in small steps: one batch of points before each share that is done.

        Raises:
            ModelError: the model cannot be loaded, or has no part for single pictures, as an exported one.
        """
        model = (yield from self._loaded(config.model)) if config.model else self._shared()
        if not isinstance(model, torch.nn.Module):
            raise ModelError(
                f"the model that tracks is a {type(model).__name__} and cannot cut pictures up: name one that can in "
                "everything.model, nano or sam2.1-hiera-tiny for instance"
            )
        if self._network is None or self._network[0] is not model:
            self._network = model, image_network(model)
        masks = yield from MaskGenerator(self._network[1], config).search(frame.rgb)
        return regions_of(masks, frame.stamp_ns, frame.frame_id, (frame.height, frame.width))

    def _loaded(self, name: str) -> Generator[float, None, Any]:
        """The model of this name; loaded beside what goes on meanwhile."""
        if name == self._name and self._model is not None:
            return self._model
        outcome: list[Any] = []

        def load() -> None:
            try:
                outcome.append(load_image_model(name, self._device, self._dtype))
            except Exception as error:
                outcome.append(error)

        loader = threading.Thread(target=load, name="sam_perception loads a model", daemon=True)
        loader.start()
        while loader.is_alive():
            loader.join(_LOOK_S)
            yield 0.0
        if isinstance(outcome[0], Exception):
            raise outcome[0]
        self._name, self._model = name, outcome[0]
        return self._model
