"""Makers of random household things, vehicles and creatures. Metres; z up, standing on z = 0."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from sam_perception.training.scenes import bodies, patterns, prints
from sam_perception.training.scenes.bodies import Body, Part, affine
from sam_perception.training.scenes.figures import creature, cutout, vehicle
from sam_perception.training.scenes.materials import Materials

Maker = Callable[[np.random.Generator, Materials], Body]


def _gloss(rng: np.random.Generator) -> float:
    return float(rng.choice([0.0, 0.15, 0.5, 0.9]) * rng.uniform(0.5, 1.2))


def _plain(rng: np.random.Generator, kit: Materials, size_m: float, faces: int, busy: float = 0.25) -> int:
    """The same texture on every face, perhaps of another tone inside and on top."""
    number = kit.add_picture(patterns.surface(rng, kit.texture_px, busy))
    gloss = _gloss(rng)
    first = kit.add(number, size_m, gloss=gloss)
    contrast = rng.uniform(0.75, 1.1) if rng.random() < 0.5 else 1.0
    for _ in range(faces - 1):
        kit.add(number, size_m, gloss=gloss, tint=contrast)
    return first


def carton(
    rng: np.random.Generator,
    kit: Materials,
    shape: tuple[float, float, float] | None = None,
    rich: float | None = None,
) -> Body:
    """A printed package: cereal, tea, tools; standing or lying. `rich`: how much is printed on it, 0 to 1."""
    if shape is None:
        long, middle = rng.uniform(0.08, 0.3), rng.uniform(0.06, 0.2)
        size = np.sort([long, middle, rng.uniform(0.025, 0.12)])
        x, y, z = size[[1, 0, 2]] if rng.random() < 0.55 else size[[2, 1, 0]]
    else:
        x, y, z = shape
    colors, gloss = prints.palette(rng), _gloss(rng)
    if rich is None:
        rich = float(rng.choice([0.0, 0.5, 1.0, 1.0]))
    front = kit.add_picture(prints.package_face(rng, kit.texture_px, colors, rich))
    side = kit.add_picture(prints.package_face(rng, kit.texture_px, colors, rich * 0.7))
    top = kit.add_picture(prints.package_face(rng, kit.texture_px, colors, rich * float(rng.choice([0.3, 1.0]))))
    broad, narrow = (front, side) if x > y else (side, front)
    first = kit.add(narrow, y, gloss=gloss)
    for number, extent in ((narrow, y), (broad, x), (broad, x), (top, x), (top, x)):
        kit.add(number, extent, gloss=gloss)
    part = bodies.box(affine((0, 0, z / 2), None, (x / 2, y / 2, z / 2)), first)
    return Body((part,), (x / 2, y / 2, z / 2), True, "carton")


def book(rng: np.random.Generator, kit: Materials) -> Body:
    """A book, booklet or magazine lying flat: two covers, a spine, pale page edges."""
    x, y, z = rng.uniform(0.12, 0.3), rng.uniform(0.1, 0.22), rng.choice([0.004, rng.uniform(0.01, 0.05)])
    colors, gloss = prints.palette(rng), _gloss(rng)
    cover = kit.add_picture(prints.package_face(rng, kit.texture_px, colors, float(rng.uniform(0.2, 1))))
    spine = kit.add_picture(prints.package_face(rng, kit.texture_px, colors, 0.4))
    edges = np.full((kit.texture_px, kit.texture_px, 3), 225, np.uint8)
    edges[:: int(rng.integers(2, 5))] = int(rng.integers(150, 215))
    pages = kit.add_picture(edges)
    first = kit.add(spine, y, gloss=gloss)
    for number, extent in ((pages, y), (pages, x), (pages, x), (cover, x), (cover, x)):
        kit.add(number, extent, gloss=gloss if number == cover else 0.0)
    part = bodies.box(affine((0, 0, z / 2), None, (x / 2, y / 2, z / 2)), first)
    return Body((part,), (x / 2, y / 2, z / 2), True, "book")


def block(rng: np.random.Generator, kit: Materials) -> Body:
    """A plain box of any proportions."""
    x, y, z = rng.uniform(0.03, 0.22, 3)
    part = bodies.box(affine((0, 0, z / 2), None, (x / 2, y / 2, z / 2)), _plain(rng, kit, max(x, y, z), 6, 0.4))
    return Body((part,), (x / 2, y / 2, z / 2), True, "block")


def can(rng: np.random.Generator, kit: Materials) -> Body:
    """A tin, jar or roll, with a printed label or plain."""
    r = rng.uniform(0.025, 0.07)
    z = r * rng.choice([rng.uniform(0.6, 1.2), rng.uniform(2, 4)])
    taper = rng.choice([1.0, rng.uniform(0.75, 1.0)])
    gloss = _gloss(rng)
    if rng.random() < 0.65:
        first = kit.add(prints.wrapper(rng, kit.texture_px, prints.palette(rng)), 3 * r, gloss=gloss)
        lid = kit.add_picture(patterns.surface(rng, kit.texture_px // 2, 0.15))
        for _ in range(3):
            kit.add(lid, 2 * r, gloss=gloss)
    else:
        first = _plain(rng, kit, 3 * r, 4)
    part = bodies.frustum(affine((0, 0, z / 2), None, (r, r, z / 2)), first, float(taper), 1.0)
    parts: tuple[Part, ...] = (part,)
    if rng.random() < 0.25:  # a lid of another width
        lip = rng.uniform(0.9, 1.08)
        pose = affine((0, 0, z), None, (r * lip, r * lip, z * 0.06))
        parts = (part, bodies.frustum(pose, _plain(rng, kit, 2 * r, 4)))
    return Body(parts, (r, r, z / 2), True, "can")


def bottle(rng: np.random.Generator, kit: Materials) -> Body:
    """A bottle: body, shoulder, neck, cap; round or flattened."""
    r, z = rng.uniform(0.025, 0.045), rng.uniform(0.13, 0.3)
    deep = r * rng.choice([1.0, rng.uniform(0.5, 0.8)])
    neck, shoulder = r * rng.uniform(0.25, 0.5), z * rng.uniform(0.55, 0.75)
    gloss = _gloss(rng)
    wrap = kit.add(prints.wrapper(rng, kit.texture_px, prints.palette(rng)), 3 * r, gloss=gloss)
    bare = kit.add_picture(patterns.surface(rng, kit.texture_px // 2, 0.05))
    for _ in range(3):
        kit.add(bare, 2 * r, gloss=gloss)
    plain = kit.add(bare, 2 * r, gloss=gloss)
    for _ in range(3):
        kit.add(bare, 2 * r, gloss=gloss)
    cap = _plain(rng, kit, 2 * neck, 4, 0.0)
    bend = 0.85 * z
    parts = (
        bodies.frustum(affine((0, 0, shoulder / 2), None, (r, deep, shoulder / 2)), wrap),
        bodies.frustum(
            affine((0, 0, (shoulder + bend) / 2), None, (r, deep, (bend - shoulder) / 2)), plain, 1.0, neck / r
        ),
        bodies.frustum(affine((0, 0, (bend + z) / 2), None, (neck * 1.1, neck * 1.1, (z - bend) / 2)), cap),
    )
    return Body(parts, (r, deep, z / 2), False, "bottle")


def mug(rng: np.random.Generator, kit: Materials) -> Body:
    """An open cup, mostly with a handle."""
    r, z = rng.uniform(0.03, 0.05), rng.uniform(0.07, 0.14)
    base = float(rng.choice([1.0, rng.uniform(0.65, 0.95)]))
    gloss = _gloss(rng)
    if rng.random() < 0.5:
        outside = prints.wrapper(rng, kit.texture_px, prints.palette(rng))
    else:
        outside = patterns.surface(rng, kit.texture_px, 0.2)
    first = kit.add(outside, 3 * r, gloss=gloss)
    inner = kit.add_picture(patterns.flat(rng, kit.texture_px // 2) if rng.random() < 0.5 else outside)
    for tint in (1.0, 1.0, rng.uniform(0.7, 0.95)):
        kit.add(inner, 3 * r, gloss=gloss, tint=tint)
    parts = [bodies.frustum(affine((0, 0, z / 2), None, (r, r, z / 2)), first, base, 1.0, is_open=True)]
    if rng.random() < 0.75:
        material = kit.add(outside, 2 * r, gloss=gloss)
        reach, low, high, thick = r * rng.uniform(1.5, 1.9), z * 0.25, z * 0.8, z * rng.uniform(0.04, 0.075)
        knots = [(r * 0.9, 0, low), (reach, 0, low + z * 0.1), (reach, 0, high - z * 0.08), (r * 0.95, 0, high)]
        parts += [bodies.rod(a, b, thick, material) for a, b in itertools.pairwise(knots)]
    return Body(tuple(parts), (r * 1.3, r, z / 2), False, "mug")


def bowl(rng: np.random.Generator, kit: Materials) -> Body:
    """A bowl or dish whose inside is seen."""
    r = rng.uniform(0.05, 0.11)
    depth = r * rng.uniform(0.3, 1.0)
    cut = float(rng.uniform(-0.15, 0.1))
    number = kit.add_picture(patterns.surface(rng, kit.texture_px, 0.2))
    inner = number if rng.random() < 0.6 else kit.add_picture(patterns.surface(rng, kit.texture_px, 0.2))
    gloss = _gloss(rng)
    first = kit.add(number, 3 * r, gloss=gloss)
    kit.add(inner, 3 * r, gloss=gloss)
    foot = kit.add(number, r, gloss=gloss)
    for _ in range(3):
        kit.add(number, r, gloss=gloss)
    h = 0.1 * depth
    parts = (
        bodies.ellipsoid(affine((0, 0, depth + h / 2), None, (r, r, depth)), first, -1.0, cut),
        # Without a top, which would show through the bottom of the shell.
        bodies.frustum(affine((0, 0, 0.7 * h), None, (r * 0.45, r * 0.45, 0.7 * h)), foot, is_open=True),
    )
    return Body(parts, (r, r, (depth * (1 + cut) + h) / 2), False, "bowl")


def dish(rng: np.random.Generator, kit: Materials) -> Body:
    """A pan, tray or basket: low, open, wider at the top; perhaps with a handle."""
    r = rng.uniform(0.06, 0.13)
    z = r * rng.uniform(0.15, 0.7)
    parts = [
        bodies.frustum(
            affine((0, 0, z / 2), None, (r, r * rng.choice([1.0, rng.uniform(0.6, 1)]), z / 2)),
            _plain(rng, kit, 3 * r, 4, 0.3),
            float(rng.uniform(0.6, 1.0)),
            1.0,
            is_open=True,
        )
    ]
    if rng.random() < 0.35:
        material = _plain(rng, kit, r, 1, 0.0)
        end = (r * rng.uniform(1.8, 2.6), 0.0, z * rng.uniform(0.8, 1.4))
        parts.append(bodies.rod((r * 0.95, 0, z * 0.8), end, r * 0.09, material))
    return Body(tuple(parts), (r, r, z / 2), False, "dish")


def ball(rng: np.random.Generator, kit: Materials) -> Body:
    """A ball, fruit, egg or stone."""
    r = rng.uniform(0.02, 0.08)
    a, b, c = r * rng.choice([np.ones(3), rng.uniform(0.6, 1.3, 3)])
    part = bodies.ellipsoid(affine((0, 0, c), None, (a, b, c)), _plain(rng, kit, 3 * r, 2, 0.45))
    return Body((part,), (a, b, c), False, "ball")


def banana(rng: np.random.Generator, kit: Materials) -> Body:
    """A bent rod: fruit, hose, hook, handle."""
    radius, thick = rng.uniform(0.05, 0.12), rng.uniform(0.008, 0.025)
    angles = np.linspace(0, rng.uniform(0.8, 4.5), int(rng.integers(3, 6)))
    knots = np.stack([radius * np.cos(angles), radius * np.sin(angles), np.full_like(angles, thick)], axis=1)
    knots[:, :2] -= knots[:, :2].mean(axis=0)
    material = _plain(rng, kit, 0.1, 1, 0.2)
    parts = tuple(bodies.rod(a, b, thick, material) for a, b in itertools.pairwise(knots))
    half = np.abs(knots).max(axis=0)
    return Body(parts, (half[0] + thick, half[1] + thick, thick), False, "banana")


def tool(rng: np.random.Generator, kit: Materials) -> Body:
    """Pen, spoon, hammer, drill, gamepad: a few parts of different colours, lying or standing."""
    parts: list[Part] = []
    length, thick = rng.uniform(0.1, 0.25), rng.uniform(0.006, 0.022)
    parts.append(bodies.rod((-length / 2, 0, thick), (length / 2, 0, thick), thick, _plain(rng, kit, length, 1)))
    if rng.random() < 0.75:
        half = rng.uniform(1.0, 3.0, 3) * thick * np.array([1, 1.5, 1])
        material = _plain(rng, kit, 0.08, 6, 0.2)
        if rng.random() < 0.5:
            parts.append(bodies.box(affine((length / 2, 0, half[2]), None, tuple(half)), material))
        else:
            parts.append(bodies.ellipsoid(affine((length / 2, 0, half[2]), None, tuple(half)), material))
    if rng.random() < 0.4:
        across = length * rng.uniform(0.3, 0.7)
        side = rng.choice([-1, 1])
        start = (-length / 2 * rng.uniform(0, 1), 0.0, thick)
        end = (start[0] * 1.2, side * across, thick)
        parts.append(bodies.rod(start, end, thick * rng.uniform(0.8, 1.6), _plain(rng, kit, across, 1)))
    return Body(tuple(parts), (length * 0.6, length * 0.35, thick * 2), False, "tool")


Choices = tuple[tuple[Maker, float], ...]
HOUSEHOLD: Choices = (
    (carton, 5.0), (book, 2.5), (block, 0.8), (can, 2.0), (bottle, 1.6), (mug, 1.8), (bowl, 1.6),
    (dish, 0.8), (ball, 1.0), (banana, 0.5), (tool, 1.2), (vehicle, 0.4), (creature, 0.4), (cutout, 0.4),
)  # fmt: skip
ANYTHING: Choices = (
    (carton, 1.5), (book, 1.0), (block, 1.0), (can, 1.0), (bottle, 1.0), (mug, 1.0), (bowl, 1.0), (dish, 0.7),
    (ball, 1.5), (banana, 1.0), (tool, 1.2), (vehicle, 2.0), (creature, 2.5), (cutout, 2.5),
)  # fmt: skip


def random_thing(rng: np.random.Generator, kit: Materials, choices: Choices) -> Body:
    """One of the makers, by weight."""
    weights = np.array([w for _, w in choices])
    return choices[rng.choice(len(choices), p=weights / weights.sum())][0](rng, kit)
