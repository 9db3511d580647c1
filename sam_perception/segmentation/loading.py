"""The tracker that a configuration asks for."""

from __future__ import annotations

import logging
from typing import Any

from sam_perception.config import PerceptionConfig
from sam_perception.errors import ConfigError
from sam_perception.segmentation.backend import Backend
from sam_perception.segmentation.compiled import CompiledNetwork
from sam_perception.segmentation.current_device import on_device
from sam_perception.segmentation.guarded import GuardedTracker
from sam_perception.segmentation.memory_ladder import Place
from sam_perception.segmentation.models import load_model, resolve_device, resolve_dtype

_log = logging.getLogger(__name__)


def load_tracker(config: PerceptionConfig) -> GuardedTracker:
    """A tracker with the model that `config` names, and ways out where the device's memory does not suffice.

    Raises:
        ModelError: the model cannot be loaded, or not be tracked with.
        DeviceMemoryError: there is no memory for it.
        ConfigError: the device or the number format is not there, or the model cannot be compiled here.
    """

    def load(place: Place) -> Any:
        device = "cpu" if place is Place.CPU else config.device
        dtype = config.dtype if place is Place.CONFIGURED else "auto"
        return load_model(config.model, device=device, dtype=dtype)

    def compiled(model: Any) -> Backend:
        if getattr(model, "is_backend", False):
            raise ConfigError(f"compile is true, but {config.model} is an exported model: set compile to false")
        _log.info("compiling %s for up to %d objects", config.model, config.max_objects)
        with on_device(model.device):
            return CompiledNetwork(model, config.max_objects).ready(config.tracker, _log.info)

    compile_ = compiled if config.compile else None
    return GuardedTracker(load, config.max_objects, config.tracker, _ways_out(config), compile_=compile_)


def _ways_out(config: PerceptionConfig) -> tuple[Place, ...]:
    try:
        device = resolve_device(config.device)
        configured, automatic = resolve_dtype(config.dtype, device), resolve_dtype("auto", device)
    except ConfigError:  # a device that only another runtime knows
        return ()
    if device.type != "cuda":
        return ()
    # What auto takes on a GPU has half of float32's size.
    return (Place.HALF, Place.CPU) if configured.itemsize > automatic.itemsize else (Place.CPU,)
