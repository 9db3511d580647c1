"""Random scenes: exact masks and depth, what happens in them, and the depth sensor's statistics."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from sam_perception.errors import ConfigError
from sam_perception.frame import CameraIntrinsics
from sam_perception.sources.synthetic import SyntheticSource
from sam_perception.training.scenes import Clip, SceneOptions, random_clip, raycast
from sam_perception.training.scenes.bodies import Body, affine, box, ellipsoid, frustum, rod, turn
from sam_perception.training.scenes.depth_sensor import DepthSensor, sense
from sam_perception.training.scenes.materials import Materials
from sam_perception.training.scenes.motion import look_at
from sam_perception.training.scenes.render import Actor, Light, Renderer, Stage
from sam_perception.training.scenes.scenarios import random_stage
from sam_perception.training.scenes.values import pixel_rays


def clip(seed: int, **options: object) -> Clip:
    return random_clip(np.random.default_rng(seed), SceneOptions(**{"frames": 4, "stride": 2, **options}))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    """Forty small clips with everything."""
    return [clip(seed, width=96, height=80, frames=12, depth=True, amodal=True) for seed in range(40)]


def test_the_same_seed_gives_the_same_bytes() -> None:
    a, b, other = (clip(seed, depth=True, width=128, height=96) for seed in (3, 3, 4))
    assert a.rgb.tobytes() == b.rgb.tobytes()
    assert a.ids.tobytes() == b.ids.tobytes()
    assert a.depth_m is not None
    assert b.depth_m is not None
    assert a.depth_m.tobytes() == b.depth_m.tobytes()
    assert a.rgb.tobytes() != other.rgb.tobytes()


def test_shapes_types_and_ids(clips: list[Clip]) -> None:
    for c in clips:
        n = len(c.object_ids)
        assert c.rgb.shape == (12, 80, 96, 3)
        assert c.rgb.dtype == np.uint8
        assert c.ids.dtype == np.uint8
        assert c.object_ids == tuple(range(1, n + 1))
        assert set(np.unique(c.ids)) - {0} == set(c.object_ids)  # nobody who is never seen
        assert n <= 8
        assert c.amodal is not None
        assert c.amodal.shape == (12, n, 80, 96)
        assert c.world_from_object.shape == (12, n, 4, 4)
        assert c.world_from_camera.shape == (12, 4, 4)
        rotations = c.world_from_camera[:, :3, :3]
        np.testing.assert_allclose(
            rotations @ rotations.transpose(0, 2, 1), np.broadcast_to(np.eye(3), (12, 3, 3)), atol=1e-9
        )
        assert (c.intrinsics.width, c.intrinsics.height) == (96, 80)


def test_what_is_visible_is_part_of_the_whole(clips: list[Clip]) -> None:
    for c in clips:
        assert c.amodal is not None
        for n, object_id in enumerate(c.object_ids):
            assert not (c.ids == object_id)[~c.amodal[:, n]].any()


def test_pictures_are_neither_black_nor_white_nor_all_alike(clips: list[Clip]) -> None:
    means = np.array([c.rgb.mean() for c in clips])
    assert 70 < np.median(means) < 170
    assert (means > 15).mean() > 0.95
    assert np.std(means) > 10
    objects = sum(len(c.object_ids) for c in clips) / len(clips)
    assert 1.5 < objects < 8


def test_objects_are_of_all_sizes() -> None:
    stills = [clip(seed, frames=1, width=128, height=128) for seed in range(60)]
    share = np.concatenate([np.bincount(c.ids.ravel(), minlength=2)[1:] / c.ids[0].size for c in stills])
    side_px = 256 * np.sqrt(share[share > 0])
    low, high = np.percentile(side_px, [10, 90])
    assert low < 20
    assert high > 70


def test_a_fair_share_of_clips_hides_an_object_and_shows_it_again(clips: list[Clip]) -> None:
    hidden_then_seen = 0
    for c in clips:
        area = np.stack([(c.ids == k).sum(axis=(1, 2)) for k in c.object_ids], axis=1) if c.object_ids else None
        if area is None:
            continue
        hidden_then_seen += any(
            any(
                a[i] > 20 and a[j] == 0 and a[k] > 20
                for i in range(12)
                for j in range(i + 1, 12)
                for k in range(j + 1, 12)
            )
            for a in area.T
        )
    assert 0.15 <= hidden_then_seen / len(clips) <= 0.8


def test_easy_clips_are_easier() -> None:
    easy, hard = ([clip(seed, difficulty=d, width=96, height=96) for seed in range(25)] for d in (0.0, 1.0))
    count = [np.mean([len(c.object_ids) for c in group]) for group in (easy, hard)]
    change = [np.mean([np.abs(np.diff(c.rgb.astype(int), axis=0)).mean() for c in group]) for group in (easy, hard)]
    assert count[0] < count[1]
    assert change[0] < change[1]


def test_stride_makes_motion_faster() -> None:
    def change(stride: int) -> float:
        steps = [
            np.diff(clip(s, stride=stride, width=96, height=96).ids.astype(bool), axis=0).mean() for s in range(25)
        ]
        return float(np.mean(steps))

    assert change(4) > 1.3 * change(1)


def test_wrong_options_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"difficulty is 1\.5"):
        SceneOptions(difficulty=1.5)
    with pytest.raises(ConfigError, match="no depth"):
        clip(0, width=64, height=64, frames=1).centroids_m()


def test_points_of_rigid_objects_stay_where_their_poses_say() -> None:
    """Exact depth taken to the object's frame must lie on the same surface in every frame."""
    source = SyntheticSource(1, width=160, height=120, frames=12)
    rays = pixel_rays(source.intrinsics).astype(np.float64)
    box_points = []
    for _, truth in source.with_truth():
        mask = truth.mask(2)
        seen = rays[:, mask] * truth.depth_m[mask]
        box_points.append(truth.world_from_camera[:3, :3] @ seen + truth.world_from_camera[:3, 3:4])
    lows, highs = (np.stack([f(p, axis=1) for p in box_points]) for f in (np.min, np.max))
    # The box is 0.20 x 0.07 x 0.23 m at (0.02, 0) and turned by 0.06 rad; pixels are about 5 mm.
    assert np.ptp(lows[:, 2]) < 0.01
    assert np.ptp(highs[:, 2]) < 0.01
    assert abs(highs[:, 2].max() - 0.2304) < 1e-4
    front = turn((0, 0, 1), -0.06) @ (np.concatenate(box_points, axis=1) - np.array([[0.02], [0.0], [0.0]]))
    assert np.all(np.abs(front[0]) < 0.1 + 1e-5)
    assert np.all(np.abs(front[1]) < 0.035 + 1e-5)
    on_front, on_top = np.abs(front[1] + 0.035) < 1e-5, np.abs(front[2] - 0.2304) < 1e-5
    on_side = np.abs(np.abs(front[0]) - 0.1) < 1e-5
    assert (on_front | on_top | on_side).all()


def _rays(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    origin = np.array([0.6, -0.9, 4.0], np.float32)
    targets = rng.uniform(-1.4, 1.4, (count, 3))
    directions = targets - origin
    return origin, (directions / -directions[:, 2:3]).T.astype(np.float32)


def _signed(kind: str, p: np.ndarray) -> np.ndarray:
    """Implicit functions, negative inside: another way to say what the shapes are."""
    rho, z = np.hypot(p[0], p[1]), p[2]
    if kind == "box":
        return np.abs(p).max(axis=0) - 1
    if kind == "ball":
        return np.sqrt((p**2).sum(axis=0)) - 1
    if kind == "capsule":
        return np.hypot(rho, z - np.clip(z, -0.7, 0.7)) - 1
    return np.maximum(rho - (0.75 + 0.25 * z), np.abs(z) - 1)


@pytest.mark.parametrize("kind", ["box", "ball", "capsule", "frustum"])
def test_rays_meet_shapes_where_marching_finds_them(kind: str) -> None:
    origin, directions = _rays(400, 5)
    hit = {
        "box": lambda: raycast.box(origin, directions),
        "ball": lambda: raycast.ellipsoid(origin, directions, -1, 1),
        "capsule": lambda: raycast.capsule(origin, directions, 0.7),
        "frustum": lambda: raycast.frustum(origin, directions, 0.5, 1.0, is_open=False),
    }[kind]()
    steps = np.arange(1.5, 7.0, 0.004)
    inside = np.stack([_signed(kind, origin[:, None] + t * directions.astype(np.float64)) < 0 for t in steps])
    marched = np.where(inside.any(axis=0), steps[inside.argmax(axis=0)], np.inf)
    cast = np.where(hit.depth < raycast.FAR, hit.depth, np.inf)
    both = np.isfinite(marched) & np.isfinite(cast)
    assert both.sum() > 100
    assert (np.isfinite(marched) != np.isfinite(cast)).mean() < 0.01  # rays that graze
    assert np.abs(marched[both] - cast[both]).max() < 0.0045
    assert (hit.normal * directions).sum(axis=0)[both].max() <= 1e-4  # towards the viewer
    assert hit.u[both].min() >= -1e-3
    assert hit.v[both].max() <= 1 + 1e-3


def test_one_looks_into_an_open_cup() -> None:
    origin = np.array([0, 0, 5], np.float32)
    down = np.array([[0.0], [0.05], [-1.0]], np.float32)
    closed = raycast.frustum(origin, down, 1.0, 1.0, is_open=False)
    opened = raycast.frustum(origin, down, 1.0, 1.0, is_open=True)
    assert closed.depth[0] == pytest.approx(4.0)
    assert opened.depth[0] == pytest.approx(5.93)


def test_every_hull_covers_its_shape() -> None:
    """Parts are cast only where their hulls project, so nothing may stick out."""
    kit = Materials(16)
    material = kit.add(np.zeros((16, 16, 3), np.uint8), 1.0)
    for _ in range(6):
        kit.add(0, 1.0)
    pose = affine((0, 0, 0.3), turn((1, 2, 3), 0.7), (0.2, 0.1, 0.3))
    parts = [
        box(pose, material),
        frustum(pose, material, 0.4, 1.0),
        ellipsoid(pose, material),
        ellipsoid(pose, material, -1.0, 0.1),
        rod((0, 0, 0.1), (0.2, 0.1, 0.4), 0.06, material),
    ]
    camera = CameraIntrinsics(120, 90, 110.0, 110.0, 59.5, 44.5)
    dark = np.zeros(3, np.float32)
    light = Light(np.array([0, 0, 1.0]), dark, dark, dark, 0.0, 0.0, 0.0)
    eye = look_at(np.array([1.0, 0.4, 0.9]), np.array([0, 0, 0.3]), 0.2)[None]
    for part in parts:
        actor = Actor(Body((part,), (0.3, 0.3, 0.3)), np.eye(4)[None], 1)
        stage = Stage((actor,), kit.atlas(), camera, eye, np.zeros(1), light, frozenset())
        renderer = Renderer(stage, 1, amodal=False)
        boxed = renderer.frame(0)[1].instance
        renderer._boxes = lambda *_: [(0, 0, 120, 90)]  # type: ignore[method-assign]
        whole = renderer.frame(0)[1].instance
        assert whole.sum() > 200
        np.testing.assert_array_equal(boxed, whole)


def test_the_nearest_surface_wins_whatever_the_order() -> None:
    options = SceneOptions(width=120, height=90, frames=1)
    hidden_px = 0
    for seed in range(15):
        stage, count = random_stage(np.random.default_rng(seed), options)
        backwards = dataclasses.replace(stage, actors=stage.actors[::-1])
        a, b = (Renderer(s, count, amodal=True).frame(0)[1] for s in (stage, backwards))
        np.testing.assert_array_equal(a.depth, b.depth)
        assert (a.instance != b.instance).mean() < 1e-3  # surfaces that touch may swap
        assert a.amodal is not None
        hidden_px += sum((m & (a.instance != k)).sum() for k, m in enumerate(a.amodal, start=1))
    assert hidden_px > 500  # things were in front of others


def test_depth_noise_follows_the_formula() -> None:
    """sigma = noise_m z^2, from the disparity; the step of the disparity adds its share."""
    sensor, grey = DepthSensor(drop_out=0.0), np.full((200, 200, 3), 128, np.uint8)
    for z in (0.6, 1.2, 2.4):
        measured = sense(np.random.default_rng(0), np.full((200, 200), z, np.float32), grey, 600.0, sensor)
        valid = measured[measured > 0].astype(np.float64)
        step_m = sensor.disparity_step_px * z * z / (600.0 * sensor.baseline_m)
        expected = np.hypot(sensor.noise_m * z * z, step_m / np.sqrt(12))
        assert len(valid) > 0.95 * measured.size
        assert valid.std() == pytest.approx(expected, rel=0.12)
        assert valid.mean() == pytest.approx(z, abs=0.25 * expected + 1e-4)


def test_depth_has_steps_of_disparity() -> None:
    sensor, grey = DepthSensor(drop_out=0.0), np.full((64, 64, 3), 128, np.uint8)
    measured = sense(np.random.default_rng(0), np.full((64, 64), 2.0, np.float32), grey, 600.0, sensor)
    steps = 600.0 * sensor.baseline_m / measured[measured > 0] / sensor.disparity_step_px
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)


def test_holes_are_zero_and_where_they_belong() -> None:
    sensor, grey = DepthSensor(drop_out=0.0), np.full((60, 200, 3), 128, np.uint8)
    depth = np.full((60, 200), 2.0, np.float32)
    depth[:, 100:150] = 0.8
    measured = sense(np.random.default_rng(0), depth, grey, 600.0, sensor)
    shadow_px = 600 * sensor.baseline_m * (1 / 0.8 - 1 / 2.0)  # 22.5: what the right imager cannot see
    assert (measured[:, round(100 - shadow_px) + 2 : 100] == 0).all()
    assert (measured[:, 20 : round(100 - shadow_px) - 2] > 0).all()
    assert (measured[:, 160:190] > 0).all()  # no shadow on the other side
    nothing = sense(np.random.default_rng(0), np.full((60, 200), raycast.FAR, np.float32), grey, 600.0, sensor)
    assert (nothing == 0).all()
    too_near = sense(np.random.default_rng(0), np.full((60, 200), 0.1, np.float32), grey, 600.0, sensor)
    assert (too_near == 0).all()


def test_clip_depth_agrees_with_exact_depth(clips: list[Clip]) -> None:
    for c in clips[:10]:
        assert c.depth_m is not None
        assert c.true_depth_m is not None
        assert c.depth_m.dtype == np.float32
        assert np.isfinite(c.depth_m).all()
        assert c.depth_m.min() >= 0
        valid = (c.depth_m > 0) & (c.true_depth_m < 2.0)
        if valid.sum() > 1000:
            error = np.abs(c.depth_m - c.true_depth_m)[valid] / c.true_depth_m[valid] ** 2
            assert np.median(error) < 0.02


def test_the_demo_hides_the_mug_for_about_ten_frames() -> None:
    source = SyntheticSource(width=160, height=120)
    areas = np.array([[truth.mask(k).sum() for k in truth.object_ids] for _, truth in source.with_truth()])
    mug = areas[:, 0]
    assert 8 <= (mug == 0).sum() <= 14
    hidden = np.flatnonzero(mug == 0)
    assert np.ptp(hidden) == len(hidden) - 1  # once, in one go
    assert mug[0] > 200
    assert mug[-1] > 200
    assert (areas[:, 1:] > 400).all()  # the others are seen all the time


def test_the_demo_s_frames_are_stamped_and_repeatable() -> None:
    source = SyntheticSource(0, width=96, height=72, frames=5)
    first, second = list(source), list(source)
    assert len(source) == len(first) == 5
    stamps = np.array([f.stamp_ns for f in first])
    np.testing.assert_allclose(np.diff(stamps), 1e9 / 15, atol=1)
    assert {f.frame_id for f in first} == {"camera_color_optical_frame"}
    for a, b in zip(first, second, strict=True):
        assert a.rgb.tobytes() == b.rgb.tobytes()
        assert a.depth_m.tobytes() == b.depth_m.tobytes()


def test_importing_the_synthetic_source_is_light() -> None:
    heavy = "('torch', 'open3d', 'rclpy', 'pyrealsense2')"
    code = f"import sys, sam_perception.sources.synthetic; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
