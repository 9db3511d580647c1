"""Printed things: packages' faces, book covers, labels around cans and bottles.

What is printed on a face must not be taken for an object's outline; so faces carry titles,
pictures, bands, logos, small print and bar codes, as groceries and books do.
"""

from __future__ import annotations

import string

import cv2
import numpy as np

from sam_perception.training.scenes import patterns
from sam_perception.training.scenes.patterns import Floats, Picture

_LETTERS = np.array(list(string.ascii_uppercase + string.ascii_lowercase + string.digits + "&!-"))
_FONTS = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
    cv2.FONT_HERSHEY_SCRIPT_COMPLEX,
)


def _tone(value: Floats) -> tuple[float, ...]:
    return tuple(float(c) for c in value)


def palette(rng: np.random.Generator) -> list[Floats]:
    """A brand's colours: ground, two accents, and an ink that shows on the ground."""
    ground = patterns.color(rng)
    ink = np.full(3, 255.0 if ground.mean() < 130 else 15.0, np.float32)
    return [ground, patterns.color(rng), patterns.color(rng), patterns.near_color(rng, ink, 12)]


def _title(rng: np.random.Generator, face: Picture, colors: list[Floats], y: float) -> None:
    size = face.shape[0]
    word = "".join(rng.choice(_LETTERS, int(rng.integers(3, 10))))
    font = int(rng.choice(_FONTS))
    thickness = max(1, round(size / 128 * int(rng.integers(1, 5))))
    (w, h), _ = cv2.getTextSize(word, font, 1.0, thickness)
    scale = min(size * rng.uniform(0.5, 0.95) / w, size * 0.3 / h)
    x = int(rng.uniform(0.02, max(1 - scale * w / size, 0.03)) * size)
    origin = (x, int(y * size + scale * h / 2))
    if rng.random() < 0.4:
        cv2.putText(face, word, origin, font, scale, _tone(colors[2]), thickness + 2, cv2.LINE_AA)
    cv2.putText(face, word, origin, font, scale, _tone(colors[3]), thickness, cv2.LINE_AA)


def _small_print(rng: np.random.Generator, face: Picture, colors: list[Floats]) -> None:
    size = face.shape[0]
    x0, y0 = (int(c) for c in rng.uniform(0.03, 0.6, 2) * size)
    w, h = (max(int(c), 6) for c in rng.uniform(0.2, 0.6, 2) * size)
    pitch = int(rng.integers(3, 6))
    block = face[y0 : y0 + h, x0 : x0 + w]
    marks = rng.random(block.shape[:2]) < 0.55
    marks[np.arange(block.shape[0]) % pitch >= max(pitch - 2, 1)] = False
    ends = rng.uniform(0.5, 1.0, block.shape[0] // pitch + 1)[np.arange(block.shape[0]) // pitch]
    marks[np.arange(block.shape[1])[None] > (ends * block.shape[1])[:, None]] = False
    block[marks] = colors[3].astype(np.uint8)


def _picture(rng: np.random.Generator, face: Picture) -> None:
    size = face.shape[0]
    w, h = (int(c) for c in rng.uniform(0.3, 0.95, 2) * size)
    x0, y0 = int(rng.uniform(0, size - w)), int(rng.uniform(0, size - h))
    maker = (patterns.leaves, patterns.clouds, patterns.dots, patterns.gradient)[rng.integers(4)]
    content = maker(rng, size // 2)
    content = cv2.resize(content, (w, h), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.5:
        face[y0 : y0 + h, x0 : x0 + w] = content
        return
    mask = np.zeros((h, w), np.uint8)
    cv2.ellipse(mask, (w // 2, h // 2), (w // 2, h // 2), 0, 0, 360, 1, -1)
    face[y0 : y0 + h, x0 : x0 + w][mask > 0] = content[mask > 0]


def _band(rng: np.random.Generator, face: Picture, colors: list[Floats]) -> None:
    size = face.shape[0]
    a, b = (int(c) for c in np.sort(rng.uniform(0, 1, 2)) * size)
    tone = _tone(colors[1 + int(rng.integers(2))])
    kind = rng.random()
    if kind < 0.45:
        cv2.rectangle(face, (0, a), (size, b), tone, -1)
    elif kind < 0.65:
        cv2.rectangle(face, (a, 0), (b, size), tone, -1)
    elif kind < 0.85:
        cv2.line(face, (0, a), (size, b), tone, max(int(size * rng.uniform(0.05, 0.3)), 1), cv2.LINE_AA)
    else:
        inset = int(size * rng.uniform(0.02, 0.12))
        cv2.rectangle(face, (inset, inset), (size - inset, size - inset), tone, max(size // 40, 1))


def _logo(rng: np.random.Generator, face: Picture, colors: list[Floats]) -> None:
    size = face.shape[0]
    x, y = (int(c) for c in rng.uniform(0.1, 0.9, 2) * size)
    axes = tuple(int(c) for c in rng.uniform(0.05, 0.25, 2) * size)
    cv2.ellipse(face, (x, y), axes, float(rng.uniform(0, 180)), 0, 360, _tone(colors[1]), -1, cv2.LINE_AA)
    if rng.random() < 0.5:
        cv2.ellipse(face, (x, y), axes, 0, 0, 360, _tone(colors[3]), max(size // 60, 1), cv2.LINE_AA)


def _bar_code(rng: np.random.Generator, face: Picture) -> None:
    size = face.shape[0]
    w, h = int(size * rng.uniform(0.2, 0.4)), int(size * rng.uniform(0.1, 0.25))
    x0, y0 = int(rng.uniform(0, size - w)), int(rng.uniform(0, size - h))
    face[y0 : y0 + h, x0 : x0 + w] = np.where(rng.random((1, w, 1)) < 0.5, 20, 245).astype(np.uint8)


def package_face(rng: np.random.Generator, size: int, colors: list[Floats], richness: float) -> Picture:
    """One face of a carton or a book cover; `richness` from 0 (plain) to 1 (a cereal box's front)."""
    ground = colors[0] if rng.random() < 0.85 else colors[1]
    face = np.empty((size, size, 3), np.uint8)
    face[:] = ground.astype(np.uint8)
    for _ in range(rng.binomial(3, 0.6 * richness)):
        _band(rng, face, colors)
    if rng.random() < 0.65 * richness:
        _picture(rng, face)
    if rng.random() < 0.5 * richness:
        _logo(rng, face, colors)
    for _ in range(rng.binomial(3, 0.55 * richness)):
        _title(rng, face, colors, float(rng.uniform(0.1, 0.9)))
    if rng.random() < 0.15 + 0.35 * richness:
        _small_print(rng, face, colors)
    if rng.random() < 0.12:
        _bar_code(rng, face)
    return face


def wrapper(rng: np.random.Generator, size: int, colors: list[Floats]) -> Picture:
    """A label that goes around a can or bottle: bands across, a title and pictures at places."""
    face = package_face(rng, size, colors, float(rng.uniform(0.2, 1)))
    if rng.random() < 0.6:  # the bare material above and below the label
        top, bottom = int(size * rng.uniform(0, 0.35)), int(size * rng.uniform(0.65, 1))
        bare = patterns.color(rng).astype(np.uint8)
        face[:top] = bare
        face[bottom:] = bare
    return face
