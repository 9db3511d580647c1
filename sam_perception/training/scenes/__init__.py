"""Random RGB-D scenes with exact masks and depth, rendered by ray casting in numpy and OpenCV."""

from sam_perception.training.scenes.clip import random_clip
from sam_perception.training.scenes.values import Clip, SceneOptions

__all__ = ["Clip", "SceneOptions", "random_clip"]
