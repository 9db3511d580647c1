"""The tracker that a configuration asks for."""

from __future__ import annotations

from typing import Any

from sam_perception.config import PerceptionConfig
from sam_perception.errors import ConfigError
from sam_perception.segmentation.guarded import GuardedTracker
from sam_perception.segmentation.memory_ladder import Place
from sam_perception.segmentation.models import load_model, resolve_device, resolve_dtype


def load_tracker(config: PerceptionConfig) -> GuardedTracker:
    """A tracker with the model that `config` names, and ways out where the device's memory does not suffice.

    Raises:
        ModelError: the model cannot be loaded, or not be tracked with.
        DeviceMemoryError: there is no memory for it.
        ConfigError: the device or the number format is not there.
    """

    def load(place: Place) -> Any:
        device = "cpu" if place is Place.CPU else config.device
        dtype = config.dtype if place is Place.CONFIGURED else "auto"
        return load_model(config.model, device=device, dtype=dtype)

    return GuardedTracker(load, config.max_objects, config.tracker, _ways_out(config))


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
