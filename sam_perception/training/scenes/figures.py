"""Makers of vehicles, creatures and cut-out shapes, as toys of a hand's size. Metres; z up, on z = 0."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_perception.training.scenes import bodies, patterns
from sam_perception.training.scenes.bodies import Body, Swing, affine, turn
from sam_perception.training.scenes.materials import Materials

_Z = (0.0, 0.0, 1.0)


def vehicle(rng: np.random.Generator, kit: Materials) -> Body:
    """A car or van as a toy: chassis, cabin with windows, four wheels."""
    x, y = rng.uniform(0.1, 0.25), rng.uniform(0.05, 0.1)
    z, wheel = y * rng.uniform(0.35, 0.6), y * rng.uniform(0.2, 0.3)
    gloss = float(rng.uniform(0.2, 1))
    paint = kit.add_picture(patterns.surface(rng, kit.texture_px // 2, 0.08))
    glass = kit.add_picture(_windows(rng, kit.texture_px // 2, patterns.color(rng)))
    body = kit.add(paint, x, gloss=gloss)
    for _ in range(5):
        kit.add(paint, x, gloss=gloss)
    cabin = kit.add(glass, y, gloss=gloss)
    for number in (glass, glass, glass, paint, paint):
        kit.add(number, y, gloss=gloss)
    tyre = kit.add(np.full((16, 16, 3), int(rng.integers(10, 50)), np.uint8), wheel)
    for shade in (110, 110, 40):
        kit.add(np.full((16, 16, 3), shade, np.uint8), wheel)
    long, back = x * rng.uniform(0.25, 0.42), x * rng.uniform(-0.12, 0.05)
    parts = [
        bodies.box(affine((0, 0, wheel + z / 2), None, (x / 2, y / 2, z / 2)), body),
        bodies.box(affine((back, 0, wheel + z * 1.45), None, (long, y * 0.44, z * 0.5)), cabin),
    ]
    for sx in (-0.3, 0.3):
        pose = affine((sx * x, 0, wheel), turn((1, 0, 0), np.pi / 2), (wheel, wheel, y * 0.52))
        parts.append(bodies.frustum(pose, tyre))
    return Body(tuple(parts), (x / 2, y / 2, wheel / 2 + z), False, "vehicle")


def _windows(rng: np.random.Generator, size: int, paint: NDArray[np.float32]) -> NDArray[np.uint8]:
    face = np.empty((size, size, 3), np.uint8)
    face[:] = paint.astype(np.uint8)
    glass = (int(rng.integers(15, 80)),) * 3
    edge, panes = size // 10, int(rng.integers(1, 4))
    for k in range(panes):
        left = edge + k * (size - edge) // panes
        cv2.rectangle(face, (left, edge), (left + (size - edge) // panes - edge, size - edge), glass, -1)
    return face


def creature(rng: np.random.Generator, kit: Materials) -> Body:
    """An animal: trunk, head, tail, ears and swinging legs."""
    x, r = rng.uniform(0.1, 0.2), rng.uniform(0.025, 0.05)
    leg = rng.uniform(0.06, 0.14)
    coat = kit.add(patterns.surface(rng, kit.texture_px, 0.3), x)
    other = coat if rng.random() < 0.5 else kit.add(patterns.surface(rng, kit.texture_px // 2, 0.2), x)
    h = leg + r
    rate, swing = rng.uniform(0.25, 1.2), rng.uniform(0.1, 0.7)
    parts = [bodies.rod((-x / 2, 0, h), (x / 2, 0, h + r * 0.2), r, coat)]
    nod = Swing(np.array([x / 2, 0, h]), (0, 1, 0), swing * 0.3, rate * 0.5, float(rng.uniform(0, 6)))
    neck = np.array([x / 2 + r * rng.uniform(0.8, 1.8), 0, h + r * rng.uniform(0.5, 2.5)])
    parts.append(bodies.rod((x / 2, 0, h), neck, r * 0.5, coat, nod))
    parts.append(bodies.rod(neck, neck + np.array([r * 1.2, 0, -r * 0.3]), r * 0.55, other, nod))
    wag = Swing(np.array([-x / 2, 0, h]), _Z, swing, rate * 1.5, float(rng.uniform(0, 6)))
    tail = (-x / 2 - x * rng.uniform(0.2, 0.6), 0, h + x * rng.uniform(-0.3, 0.4))
    parts.append(bodies.rod((-x / 2, 0, h), tail, r * 0.2, other, wag))
    for k, (sx, sy) in enumerate(((1, 1), (1, -1), (-1, 1), (-1, -1))):
        hip = np.array([sx * x * 0.45, sy * r * 0.6, h])
        step = Swing(hip, (0, 1, 0), swing, rate, np.pi * (k in (1, 2)) + float(rng.uniform(0, 0.5)))
        parts.append(bodies.rod(hip, hip - [0, 0, h - r * 0.25], r * 0.28, other, step))
    return Body(tuple(parts), (x * 0.8, r, (h + r) / 2), False, "creature")


def cutout(rng: np.random.Generator, kit: Materials) -> Body:
    """A thin upright sheet of random outline: leaf, sign, silhouette."""
    size = rng.uniform(0.05, 0.2)
    outline = random_outline(rng, 128)
    material = kit.add(patterns.surface(rng, kit.texture_px, 0.6), size)
    tilt = turn((1, 0, 0), np.pi / 2)  # the sheet's v axis points up
    part = bodies.plate(affine((0, 0, size / 2), tilt, (size / 2, size / 2, 1)), material, outline)
    return Body((part,), (size / 2, 0.02, size / 2), False, "cutout")


def random_outline(rng: np.random.Generator, size: int) -> NDArray[np.bool_]:
    """(S, S) a connected blob, star, ring or branching shape."""
    canvas = np.zeros((size, size), np.uint8)
    kind, c = rng.random(), size / 2
    if kind < 0.65:
        n = int(rng.choice([5, 7, 64]))
        angle = np.sort(rng.uniform(0, 2 * np.pi, n)) if n < 64 else np.linspace(0, 2 * np.pi, n)
        wave = sum(rng.uniform(0, 0.4) * np.sin(angle * k + rng.uniform(0, 6)) / k for k in range(2, 7))
        radius = (0.65 + wave) if n == 64 else rng.uniform(0.35, 1, n)
        radius = radius / np.max(radius) * size * 0.49
        points = np.stack([c + radius * np.cos(angle), c + radius * np.sin(angle)], axis=1)
        cv2.fillPoly(canvas, [points.astype(np.int32)], 1)
    else:
        tip = np.array([c, c])
        for _ in range(int(rng.integers(3, 8))):
            start = tip if rng.random() < 0.6 else np.array([c, c])
            tip = np.clip(start + rng.normal(0, size * 0.25, 2), size * 0.08, size * 0.92)
            a, b = (tuple(int(v) for v in p) for p in (start, tip))
            cv2.line(canvas, a, b, 1, max(int(size * rng.uniform(0.04, 0.16)), 2))
    if rng.random() < 0.15:
        cv2.circle(canvas, (int(c), int(c)), int(size * 0.12), 0, -1)
    return canvas > 0
