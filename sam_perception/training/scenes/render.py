"""From a stage to a picture: ray casting into per-pixel surface buffers, then one pass of shading."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_perception.frame import CameraIntrinsics
from sam_perception.training.scenes.bodies import Body, Matrix, Part
from sam_perception.training.scenes.materials import LEVELS, Atlas
from sam_perception.training.scenes.occlusion import crevices, ground_shadow
from sam_perception.training.scenes.raycast import FAR, Floats
from sam_perception.training.scenes.values import pixel_rays

Box = tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels, the end excluded


@dataclass(frozen=True, eq=False)
class Actor:
    """A body with its motion. Instance 0 is scenery and clutter."""

    body: Body
    world_from_body: NDArray[np.float64]  # (T, 4, 4)
    instance: int = 0


@dataclass(frozen=True, eq=False)
class Light:
    """One far lamp, a sky, and how soft and dark shadows are."""

    towards: NDArray[np.float64]  # (3,) unit, from the scene to the lamp, world
    lamp: NDArray[np.float32]  # (3,) RGB strength on a surface that faces the lamp
    sky: NDArray[np.float32]  # (3,) RGB strength on a surface that faces up
    shade: NDArray[np.float32]  # (3,) RGB strength on a surface that faces down
    shadow: float  # 0: none, 1: black
    shadow_blur: float  # standard deviation as a share of the picture's width
    crevice: float  # darkening where surfaces meet


@dataclass(frozen=True, eq=False)
class Stage:
    """All that a clip shows."""

    actors: tuple[Actor, ...]
    atlas: Atlas
    camera: CameraIntrinsics
    world_from_camera: NDArray[np.float64]  # (T, 4, 4)
    ticks: NDArray[np.float64]  # (T,) time of each frame
    light: Light
    grounds: frozenset[int]  # materials of the surfaces at z = 0 on which shadows fall


@dataclass(eq=False)
class Buffers:
    """What is nearest in every pixel."""

    depth: Floats  # (H, W) metres; FAR: nothing
    instance: NDArray[np.uint8]  # (H, W)
    material: NDArray[np.uint16]  # (H, W)
    u: Floats  # (H, W)
    v: Floats  # (H, W)
    normal: Floats  # (3, H, W) world, any length
    amodal: NDArray[np.bool_] | None  # (N, H, W) for instances 1 to N


class Renderer:
    """Renders the frames of one stage."""

    def __init__(self, stage: Stage, instances: int, amodal: bool) -> None:
        self._stage = stage
        self._rays = pixel_rays(stage.camera)
        self._cast = [(part, actor) for actor in stage.actors for part in actor.body.parts]
        self._hulls = np.stack([part.hull for part, _ in self._cast])
        self._amodal = instances if amodal else 0

    def frame(self, t: int) -> tuple[NDArray[np.uint8], Buffers]:
        """(H, W, 3) picture as an ideal camera takes it, and the buffers behind it."""
        buffers, poses = self._trace(t)
        return self._shade(t, buffers, poses), buffers

    def _trace(self, t: int) -> tuple[Buffers, NDArray[np.float64]]:
        stage, camera = self._stage, self._stage.camera
        tick = float(stage.ticks[t])
        poses = np.stack([actor.world_from_body[t] @ part.pose(tick) for part, actor in self._cast])
        part_from_world = np.linalg.inv(poses)
        part_from_camera = (part_from_world @ stage.world_from_camera[t]).astype(np.float32)
        boxes = self._boxes(poses, np.linalg.inv(stage.world_from_camera[t]))
        shape = (camera.height, camera.width)
        out = Buffers(
            np.full(shape, FAR, np.float32),
            np.zeros(shape, np.uint8),
            np.zeros(shape, np.uint16),
            np.zeros(shape, np.float32),
            np.zeros(shape, np.float32),
            np.zeros((3, *shape), np.float32),
            np.zeros((self._amodal, *shape), np.bool_) if self._amodal else None,
        )
        for k, (part, actor) in enumerate(self._cast):
            if boxes[k] is not None:
                self._cast_part(out, part, actor, boxes[k], part_from_camera[k], part_from_world[k])
        return out, poses

    def _boxes(self, poses: NDArray[np.float64], camera_from_world: Matrix) -> list[Box]:
        """The pixels that each part may cover."""
        camera = self._stage.camera
        from_part = camera_from_world @ poses
        points = np.einsum("pij,pkj->pki", from_part[:, :3, :3], self._hulls) + from_part[:, None, :3, 3]
        z = points[..., 2]
        safe = np.maximum(z, 1e-3)
        x = points[..., 0] / safe * camera.fx + camera.cx
        y = points[..., 1] / safe * camera.fy + camera.cy
        x0, y0 = np.floor(x.min(axis=1)), np.floor(y.min(axis=1))
        x1, y1 = np.ceil(x.max(axis=1)) + 1, np.ceil(y.max(axis=1)) + 1
        partly = z.min(axis=1) < 0.03
        for k in np.flatnonzero(partly):
            x0[k], y0[k], x1[k], y1[k] = _clipped_box(points[k], camera)
        corners = np.stack(
            [x0.clip(0, camera.width), y0.clip(0, camera.height), x1.clip(0, camera.width), y1.clip(0, camera.height)],
            axis=1,
        ).astype(int)
        return [(int(a), int(b), int(c), int(d)) for a, b, c, d in corners]

    def _cast_part(
        self,
        out: Buffers,
        part: Part,
        actor: Actor,
        box: Box,
        part_from_camera: NDArray[np.float32],
        part_from_world: NDArray[np.float64],
    ) -> None:
        x0, y0, x1, y1 = box
        if x1 - x0 < 1 or y1 - y0 < 1:
            return
        view = (slice(y0, y1), slice(x0, x1))
        shape = (y1 - y0, x1 - x0)
        directions = part_from_camera[:3, :3] @ self._rays[:, y0:y1, x0:x1].reshape(3, -1)
        hit = part.cast(part_from_camera[:3, 3], directions)
        depth = hit.depth.reshape(shape)
        if out.amodal is not None and actor.instance:
            out.amodal[actor.instance - 1][view] |= depth < FAR
        nearer = depth < out.depth[view]
        if not nearer.any():
            return
        u, v = hit.u, hit.v
        if part.repeat != 1.0:
            u, v = _mirrored(u * np.float32(part.repeat)), _mirrored(v * np.float32(part.repeat))
        normal = part_from_world[:3, :3].T.astype(np.float32) @ hit.normal
        material = hit.face if isinstance(hit.face, int) else hit.face.reshape(shape)
        np.copyto(out.depth[view], depth, where=nearer)
        np.copyto(out.instance[view], np.uint8(actor.instance), where=nearer)
        np.copyto(out.material[view], np.uint16(part.material) + np.asarray(material, np.uint16), where=nearer)
        np.copyto(out.u[view], u.reshape(shape), where=nearer)
        np.copyto(out.v[view], v.reshape(shape), where=nearer)
        np.copyto(out.normal[:, y0:y1, x0:x1], normal.reshape(3, *shape), where=nearer)

    def _shade(self, t: int, buffers: Buffers, poses: NDArray[np.float64]) -> NDArray[np.uint8]:
        stage, atlas, light = self._stage, self._stage.atlas, self._stage.light
        normal = buffers.normal
        normal = normal / np.sqrt((normal * normal).sum(axis=0) + np.float32(1e-12))
        albedo = self._albedo(t, buffers, normal)
        lamp = light.towards.astype(np.float32)
        facing = np.maximum(normal[0] * lamp[0] + normal[1] * lamp[1] + normal[2] * lamp[2], 0)
        if light.shadow > 0 and stage.grounds:
            facing *= self._shadow(t, buffers, poses)
        up = normal[2] * np.float32(0.5) + np.float32(0.5)
        if light.crevice > 0:
            crevice = crevices(buffers.depth, light.crevice)
            up *= crevice
            facing *= crevice
        towards_camera = -stage.world_from_camera[t][:3, 2]
        halfway = light.towards + towards_camera
        halfway = (halfway / np.linalg.norm(halfway)).astype(np.float32)
        shine = np.maximum(normal[0] * halfway[0] + normal[1] * halfway[1] + normal[2] * halfway[2], 0)
        for _ in range(5):  # to the 32nd power
            shine *= shine
        shine *= atlas.gloss.take(buffers.material) * np.float32(200)
        tint = atlas.tint.take(buffers.material)
        facing *= tint
        up *= tint
        picture = np.empty(albedo.shape, np.float32)
        for c in range(3):
            strength = facing * light.lamp[c]
            strength += up * (light.sky[c] - light.shade[c])
            strength += tint * light.shade[c]
            picture[..., c] = albedo[..., c] * strength + shine
        return cv2.convertScaleAbs(picture)  # type: ignore[no-any-return]  # clips and rounds

    def _albedo(self, t: int, buffers: Buffers, normal: Floats) -> NDArray[np.uint8]:
        """(H, W, 3) colours of the surfaces, from the level whose texels are about as large as the pixels."""
        stage, atlas = self._stage, self._stage.atlas
        material = buffers.material
        forward = stage.world_from_camera[t][:3, 2].astype(np.float32)
        slant = np.abs(normal[0] * forward[0] + normal[1] * forward[1] + normal[2] * forward[2])
        footprint = (
            buffers.depth * atlas.texels_per_m.take(material) / np.float32(min(stage.camera.fx, stage.camera.fy))
        )
        footprint /= np.sqrt(np.maximum(slant, np.float32(0.15)))
        level = np.log2(np.maximum(footprint, 1)).astype(np.intp)
        index = material.astype(np.intp) * LEVELS + np.minimum(level, LEVELS - 1)
        size = atlas.size.take(index)
        half = np.float32(0.5)
        x = atlas.left.take(index) + np.clip(buffers.u, 0, 1) * size - half
        y = atlas.top.take(index) + np.clip(buffers.v, 0, 1) * size - half
        return cv2.remap(atlas.picture, x, y, cv2.INTER_LINEAR)  # type: ignore[no-any-return]

    def _shadow(self, t: int, buffers: Buffers, poses: NDArray[np.float64]) -> Floats:
        stage, light = self._stage, self._stage.light
        solid = np.array([actor.body.kind != "room" for _, actor in self._cast])
        corners = np.einsum("pij,pkj->pki", poses[solid, :3, :3], self._hulls[solid]) + poses[solid, None, :3, 3]
        camera_from_world = np.linalg.inv(stage.world_from_camera[t])
        blur_px = light.shadow_blur * stage.camera.width
        share = ground_shadow(stage.camera, camera_from_world, corners, light.towards, light.shadow, blur_px)
        share[~np.isin(buffers.material, list(stage.grounds))] = 1
        return share


def _clipped_box(points: NDArray[np.float64], camera: CameraIntrinsics) -> Box:
    """The pixels that the hull of points (K, 3) covers, of which some lie behind the camera."""
    near = 0.03
    front, behind = points[points[:, 2] >= near], points[points[:, 2] < near]
    if not len(front):
        return (0, 0, 0, 0)
    a, b = front[:, None], behind[None]
    share = (near - a[..., 2:]) / (b[..., 2:] - a[..., 2:])
    corners = np.concatenate([front, (a + share * (b - a)).reshape(-1, 3)])
    pixels = corners[:, :2] / corners[:, 2:] * [camera.fx, camera.fy] + [camera.cx, camera.cy]
    low, high = np.floor(pixels.min(axis=0)), np.ceil(pixels.max(axis=0)) + 1
    return (int(low[0]), int(low[1]), int(high[0]), int(high[1]))


def _mirrored(x: Floats) -> Floats:
    """Runs from 0 to 1 and back, so that a texture continues without a seam."""
    x = x % np.float32(2)
    return np.minimum(x, 2 - x)
