"""Ranked grasps for an object, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from sam_perception.config import GraspConfig, PerceptionConfig
from sam_perception.frame import CameraIntrinsics
from sam_perception.geometry.grid import PixelGrid, widened
from sam_perception.manipulation import checks
from sam_perception.manipulation.candidates import antipodal, side, top_down
from sam_perception.manipulation.grasps import Grasps
from sam_perception.manipulation.gripper import Gripper, gripper_of
from sam_perception.manipulation.rims import rim_grasps
from sam_perception.manipulation.space import Space, space_around
from sam_perception.scene import GraspKind, GraspTarget, ObjectState, Plane, Track

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

_LEAST_POINTS = 30
_LEAST_HELD = 0.5  # share of the fingers' width
_LEAST_GRIP_M = 0.008  # the object must reach this far in between the fingers
_GOOD_GRIP_M = 0.02
_CENTRE_M = 0.06  # distance of the grasp from the middle of the object that halves that part of the score
_SIDE_AWAY = 0.35  # cosine; how far from across the line of sight a grasp from the side may close
_UNSEEN_EXTENT = 0.5  # of the seen width, by which an object may go on unseen
_SAME_M, _SAME_COSINE = 0.015, 0.94  # grasps closer than this in place and direction are one


def scene_grasps(
    tracks: Iterable[Track],
    grid: PixelGrid,
    camera: CameraIntrinsics,
    planes: Iterable[Plane],
    config: PerceptionConfig,
) -> tuple[tuple[GraspTarget, ...], Mapping[int, str]]:
    """Grasps of all TRACKED objects, per object best first, and for each object without any the reason.

    `grid` and `planes` are what `navigation.ObstacleMap.update` found in the same frame.
    """
    targets: list[GraspTarget] = []
    reasons: dict[int, str] = {}
    gripper, planes = gripper_of(config.grasps), tuple(planes)
    for track in tracks:
        if track.state is not ObjectState.TRACKED:
            reasons[track.id] = f"the object is {track.state.name}: grasps are for TRACKED objects only"
            continue
        rim = grid.mask(widened([track.mask], track.mask.shape, config.navigation.target_dilation_px))
        space = space_around(track.lifted, rim, grid, camera, planes, gripper, config.geometry)
        found, reason = grasp_targets(track.id, space, config.grasps)
        targets += found
        if reason:
            reasons[track.id] = reason
    return tuple(targets), MappingProxyType(reasons)


def grasp_targets(object_id: int, space: Space, settings: GraspConfig) -> tuple[list[GraspTarget], str]:
    """Grasps of one object, best first and at most `max_targets`; none, and the reason why.

    Candidates from above, from the side, on opposite patches and across rims are measured on the object's
    visible points and kept if the object fits into the opening, is held within the friction cone, and neither
    the fingers nor the palm come into anything else that is seen. What the camera cannot see
    counts against a grasp: more than `max_unseen_share` of the fingers there rules it out.
    """
    gripper = gripper_of(settings)
    if len(space.own) < _LEAST_POINTS:
        return [], f"only {len(space.own)} points of the object have depth, at least {_LEAST_POINTS} are needed"
    grasps = _measured(space, gripper, settings)
    if len(grasps) == 0:
        return [], "no opposite sides are seen, and there is no ground to grasp along: check navigation.up_*"
    grasps, reason = _holding(grasps, gripper, settings)
    if not reason:
        grasps, reason = _holding(_measured_finely(space, grasps, gripper, settings), gripper, settings)
    rims = rim_grasps(space, gripper, settings.clearance_m)
    if rims is not None:
        rims = rims.only(rims.slants <= settings.friction)
        grasps, reason = grasps.joined(rims), "" if len(rims) else reason
    if reason:
        return [], reason
    grasps, reason = _free(space, grasps, gripper, settings)
    if reason:
        return [], reason
    targets = _ranked(_scored(object_id, space, grasps, gripper, settings), grasps.rims, settings)
    return targets, "" if targets else f"no grasp is scored {settings.min_score:.2f} (grasps.min_score) or better"


def _measured(space: Space, gripper: Gripper, settings: GraspConfig) -> Grasps:
    """All candidates, with what each has between its fingers."""
    clearance = settings.clearance_m
    groups = [
        top_down(space, gripper, clearance),
        side(space, gripper, clearance),
        antipodal(space, gripper, settings.friction),
    ]
    kinds = np.repeat([g.kind.value for g in groups], [len(g.tips) for g in groups])
    rotations, tips = np.concatenate([g.rotations for g in groups]), np.concatenate([g.tips for g in groups])
    held = checks.held(space, rotations, tips, gripper)
    tips = tips + held.shift_m[:, None] * rotations[:, :, 1]
    return Grasps(
        kinds=kinds,
        rotations=rotations,
        tips=tips,
        object_widths=held.width_m,
        widths=held.width_m + 2 * clearance,
        depths=held.depth_m,
        filled=held.filled,
        slants=held.slant,
        away=checks.unseen_ends(rotations, tips, held),
        unseen=np.zeros(len(tips)),
        palm_unseen=np.zeros(len(tips)),
        rims=np.zeros(len(tips), np.bool_),
    )


def _measured_finely(space: Space, grasps: Grasps, gripper: Gripper, settings: GraspConfig) -> Grasps:
    shift, width = checks.width_held(space, grasps.rotations, grasps.tips, gripper)
    tips = grasps.tips + shift[:, None] * grasps.rotations[:, :, 1]
    return replace(grasps, tips=tips, object_widths=width, widths=width + 2 * settings.clearance_m)


def _holding(grasps: Grasps, gripper: Gripper, settings: GraspConfig) -> tuple[Grasps, str]:
    """Those that hold the object, or what is wrong with most of them."""
    reached = (grasps.filled >= _LEAST_HELD) & (grasps.depths >= _LEAST_GRIP_M)
    # From above, the far edge of the top is seen. From the side nothing is seen of what lies behind.
    known = (grasps.kinds != GraspKind.SIDE.value) | (np.abs(grasps.away) <= _SIDE_AWAY)
    fits = reached & known & (grasps.widths <= gripper.max_opening_m)
    firm = fits & (grasps.slants <= settings.friction)
    if firm.any():
        return grasps.only(firm), ""
    if not (reached & known).any():
        return grasps.only(firm), "the fingers do not reach the object: it is too low, or too little of it is seen"
    if np.count_nonzero(fits) >= 0.5 * np.count_nonzero(reached & known):
        angle, limit = np.degrees(np.arctan([float(grasps.slants[fits].min()), settings.friction]))
        return grasps.only(firm), f"would slip: sides slant by {angle:.0f} degrees or more, friction holds {limit:.0f}"
    narrowest = float(np.median(grasps.object_widths[reached & known & ~fits]))
    return grasps.only(firm), (
        f"too wide: {1e3 * narrowest:.0f} mm in most directions; the fingers open "
        f"{1e3 * gripper.max_opening_m:.0f} mm with {1e3 * settings.clearance_m:.0f} mm to spare on each side"
    )


def _free(space: Space, grasps: Grasps, gripper: Gripper, settings: GraspConfig) -> tuple[Grasps, str]:
    """Those that touch nothing but the object as far as is seen, or why none is left."""
    grasps = _opened(grasps, gripper, settings)
    grasps = grasps.only(~checks.touches_support(space, *grasps.pose, gripper))
    if len(grasps) == 0:
        return grasps, "the gripper would touch what the object stands on"
    grasps = grasps.only(~checks.touches_own(space, grasps.rotations, grasps.tips, gripper))
    if len(grasps) == 0:
        return grasps, "the palm would touch the object before the fingers hold it"
    grasps = grasps.only(~checks.touches_others(space, *grasps.pose, gripper))
    if len(grasps) == 0:
        return grasps, "the gripper would touch other things around the object"
    unseen, palm = checks.unseen_shares(space, *grasps.pose, gripper)
    grasps = replace(grasps, unseen=unseen, palm_unseen=palm)
    least = float(unseen.min())
    grasps = grasps.only(grasps.unseen <= settings.max_unseen_share)
    if len(grasps) == 0:
        return grasps, f"{100 * least:.0f} % or more of the fingers would be where the camera cannot see"
    return grasps, ""


def _opened(grasps: Grasps, gripper: Gripper, settings: GraspConfig) -> Grasps:
    """With the opening to approach with: fully open where the far side is not seen.

    There the object is taken to go on by up to half of the width that is seen, and the gripper is moved
    so that it would be in the middle.
    """
    away = grasps.away
    widths = np.where(away != 0, gripper.max_opening_m, grasps.widths)
    room = gripper.max_opening_m - 2 * settings.clearance_m - grasps.object_widths
    shift = 0.5 * np.sign(away) * np.minimum(_UNSEEN_EXTENT * grasps.object_widths, room)
    return replace(grasps, widths=widths, tips=grasps.tips + shift[:, None] * grasps.rotations[:, :, 1])


def _scored(object_id: int, space: Space, grasps: Grasps, gripper: Gripper, settings: GraspConfig) -> list[GraspTarget]:
    middle = space.own.mean(axis=0, dtype=np.float64)
    grip = grasps.tips - 0.5 * np.minimum(grasps.depths, gripper.finger_depth_m)[:, None] * grasps.rotations[:, :, 0]
    off_centre = np.linalg.norm(grip - middle, axis=1)
    needed = grasps.object_widths + 2 * settings.clearance_m
    parts = {
        "contact": grasps.filled * (1.0 - 0.9 * grasps.slants / settings.friction),
        "centre": 1.0 / (1.0 + (off_centre / _CENTRE_M) ** 2),
        "opening": 0.4 + 0.6 * np.clip((gripper.max_opening_m - needed) / (0.25 * gripper.max_opening_m), 0.0, 1.0),
        "grip": np.clip(grasps.depths / _GOOD_GRIP_M, 0.0, 1.0),
        "seen": (1.0 - 0.8 * grasps.unseen) * (1.0 - 0.5 * grasps.palm_unseen),
        "known": np.where(grasps.away != 0, 0.3, 1.0),
    }
    scores = np.prod(list(parts.values()), axis=0) ** (1.0 / len(parts))
    targets = []
    for k in range(len(grasps)):
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = grasps.rotations[k], grasps.tips[k]
        targets.append(
            GraspTarget(
                object_id=object_id,
                camera_from_gripper=pose,
                width_m=float(grasps.widths[k]),
                object_width_m=float(grasps.object_widths[k]),
                width_is_lower_bound=bool(grasps.away[k] != 0),
                kind=GraspKind(int(grasps.kinds[k])),
                score=float(scores[k]),
                parts=MappingProxyType({name: float(part[k]) for name, part in parts.items()}),
            )
        )
    return targets


def _ranked(targets: list[GraspTarget], rims: Mask, settings: GraspConfig) -> list[GraspTarget]:
    """Best first, without those that nearly repeat a better one; the best across a rim has a place among them."""
    order = sorted(range(len(targets)), key=lambda k: -targets[k].score)
    chosen: list[int] = []
    for k in order:
        if targets[k].score >= settings.min_score and not any(_same(targets[k], targets[c]) for c in chosen):
            chosen.append(k)
    best = chosen[: settings.max_targets]
    rim = next((k for k in chosen if rims[k]), None)
    if rim is not None and rim not in best and len(best) > 1:
        best[-1] = rim
    return [targets[k] for k in best]


def _same(a: GraspTarget, b: GraspTarget) -> bool:
    near = float(np.linalg.norm(a.position_m - b.position_m)) < _SAME_M
    # The fingers are alike, so that a gripper turned by half a turn about its approach is the same.
    return near and bool(a.approach @ b.approach > _SAME_COSINE and abs(a.closing @ b.closing) > _SAME_COSINE)
