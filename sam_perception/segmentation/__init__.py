"""Streaming segmentation: SAM 2.1 models, the memory bank and the tracker around them.

Importing this room is cheap too: torch and transformers come with the first name that is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sam_perception.segmentation.models import MODEL_NAMES, load_model
    from sam_perception.segmentation.policy import FifoPolicy, MemoryPolicy
    from sam_perception.segmentation.tracker import StreamingTracker
    from sam_perception.segmentation.tracks import Tracks

__all__ = ["MODEL_NAMES", "FifoPolicy", "MemoryPolicy", "StreamingTracker", "Tracks", "load_model"]

_HOMES = {
    "MODEL_NAMES": "models",
    "load_model": "models",
    "FifoPolicy": "policy",
    "MemoryPolicy": "policy",
    "StreamingTracker": "tracker",
    "Tracks": "tracks",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
