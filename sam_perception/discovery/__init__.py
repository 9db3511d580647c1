"""Objects that nobody points at with a finger: found by words or by a detector, and found again.

What the models say comes as `Detection`s; whether it is something new, something that is tracked already or
something that was lost is decided here, from overlap, place and looks.
"""

from __future__ import annotations

from sam_perception.discovery.association import Candidate, associate
from sam_perception.discovery.discovery import Discovery
from sam_perception.discovery.memory import ObjectMemory, Seen
from sam_perception.discovery.models import DepthModel, Models, SurfaceSegmenter, load_models

__all__ = [
    "Candidate",
    "DepthModel",
    "Discovery",
    "Models",
    "ObjectMemory",
    "Seen",
    "SurfaceSegmenter",
    "associate",
    "load_models",
]
