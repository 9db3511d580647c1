"""For the base and the motion planner: ground, obstacles, and the scene without its targets."""

from __future__ import annotations

from sam_perception.navigation.obstacles import ObstacleMap, Surroundings
from sam_perception.navigation.region_schedule import RegionSchedule

__all__ = ["ObstacleMap", "RegionSchedule", "Surroundings"]
