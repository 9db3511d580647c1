"""Random surface textures without lettering: colours, noise with photographs' statistics, patterns.

All pictures are (S, S, 3) uint8 RGB. Natural pictures have amplitude spectra near 1/f
(Field 1987) and edges at all scales (dead leaves, Lee, Mumford and Huang 2001).
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Picture = NDArray[np.uint8]


def color(rng: np.random.Generator) -> Floats:
    """(3,) a colour of everyday things, 0 to 255: white, black, grey, strong, pale or brownish."""
    kind = rng.random()
    hue = rng.random()
    if kind < 0.16:
        hsv = (hue, rng.uniform(0, 0.08), rng.uniform(0.8, 1.0))
    elif kind < 0.28:
        hsv = (hue, rng.uniform(0, 0.3), rng.uniform(0.03, 0.2))
    elif kind < 0.4:
        hsv = (hue, rng.uniform(0, 0.12), rng.uniform(0.2, 0.8))
    elif kind < 0.72:
        hsv = (hue, rng.uniform(0.6, 1.0), rng.uniform(0.35, 1.0))
    elif kind < 0.88:
        hsv = (hue, rng.uniform(0.15, 0.5), rng.uniform(0.5, 0.95))
    else:
        hsv = (rng.uniform(0.02, 0.13), rng.uniform(0.2, 0.7), rng.uniform(0.2, 0.9))
    return np.array([255 * c for c in colorsys.hsv_to_rgb(*hsv)], np.float32)


def near_color(rng: np.random.Generator, base: Floats, spread: float) -> Floats:
    """(3,) a colour close to `base`."""
    return np.clip(base + rng.normal(0, spread, 3), 0, 255).astype(np.float32)


def fractal(rng: np.random.Generator, size: int, beta: float, channels: int = 1) -> Floats:
    """(S, S) or (S, S, C) noise with amplitude falling as 1/f**beta, mean 0, standard deviation 1."""
    out = np.zeros((1, 1, channels), np.float32)
    cells = 2
    while cells <= max(size // 2, 2):  # finer detail would not survive the lens
        finer = cv2.resize(out, (cells, cells), interpolation=cv2.INTER_CUBIC).reshape(cells, cells, channels)
        out = finer + rng.standard_normal(finer.shape, dtype=np.float32) * np.float32(cells**-beta)
        cells *= 2
    if cells // 2 != size:
        out = cv2.resize(out, (size, size), interpolation=cv2.INTER_CUBIC).reshape(size, size, channels)
    sample = out[:: max(size // 32, 1), :: max(size // 32, 1)].reshape(-1, channels)
    out -= sample.mean(axis=0)
    out /= sample.std(axis=0) + np.float32(1e-6)
    return out[..., 0] if channels == 1 else out


def blend(a: Floats, b: Floats, share: Floats) -> Picture:
    """Two colours mixed by a (S, S) share from 0 to 1."""
    return np.clip(a + (b - a) * np.clip(share, 0, 1)[..., None], 0, 255).astype(np.uint8)


def _grid(rng: np.random.Generator, size: int) -> tuple[Floats, Floats]:
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / np.float32(size)
    angle = rng.choice([0.0, np.pi / 2, rng.uniform(0, np.pi)])
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return x * c + y * s, y * c - x * s


def flat(rng: np.random.Generator, size: int) -> Picture:
    """One colour, perhaps with faint mottling."""
    base = color(rng)
    if rng.random() < 0.4:
        return np.full((size, size, 3), base, np.uint8)
    noise = fractal(rng, size, rng.uniform(0.3, 1.2)) * np.float32(rng.uniform(1, 7))
    out: Picture = np.clip(base + noise[..., None], 0, 255).astype(np.uint8)
    return out


def gradient(rng: np.random.Generator, size: int) -> Picture:
    """A soft run from one colour to another."""
    u, _ = _grid(rng, size)
    base = color(rng)
    other = color(rng) if rng.random() < 0.4 else near_color(rng, base, 40)
    return blend(base, other, (u - u.min()) / (np.ptp(u) + np.float32(1e-6)))


def stripes(rng: np.random.Generator, size: int) -> Picture:
    """Bars, hard or soft."""
    u, v = _grid(rng, size)
    wave = np.sin(u * np.float32(rng.uniform(8, 90)) + np.float32(rng.choice([0, 0, 2])) * np.sin(v * 6))
    return blend(color(rng), color(rng), wave * np.float32(rng.choice([0.5, 8.0])) + np.float32(0.5))


def checks(rng: np.random.Generator, size: int) -> Picture:
    """A chequered or tartan field."""
    u, v = _grid(rng, size)
    n = rng.uniform(2, 14)
    a, b = np.floor(u * n) % 2, np.floor(v * n) % 2
    share = (a != b).astype(np.float32) if rng.random() < 0.6 else (a + b) / 2
    return blend(color(rng), color(rng), share)


def dots(rng: np.random.Generator, size: int) -> Picture:
    """A regular field of spots."""
    u, v = _grid(rng, size)
    n = rng.uniform(3, 14)
    distance = np.hypot((u * n) % 1 - 0.5, (v * n) % 1 - 0.5)
    return blend(color(rng), color(rng), (np.float32(rng.uniform(0.15, 0.4)) - distance) * 12)


def mottle(rng: np.random.Generator, size: int) -> Picture:
    """Clouds between two colours: stone, cloth, foliage, carpet."""
    base = color(rng)
    other = near_color(rng, base, 45) if rng.random() < 0.6 else color(rng)
    return blend(base, other, fractal(rng, size, rng.uniform(0.0, 1.3)) * np.float32(rng.uniform(0.15, 0.6)) + 0.5)


def speckle(rng: np.random.Generator, size: int) -> Picture:
    """Grains of one colour on another."""
    grain = fractal(rng, size, rng.uniform(-0.3, 0.3))
    return blend(color(rng), color(rng), (grain - np.float32(rng.uniform(0.5, 1.8))) * 4)


def wood(rng: np.random.Generator, size: int) -> Picture:
    """Grain along one direction, perhaps in planks."""
    hue = rng.uniform(0.04, 0.12)
    value, saturation = np.sqrt(rng.uniform(0.06, 0.96)), rng.uniform(0.08, 0.6)
    light = np.asarray(colorsys.hsv_to_rgb(hue, saturation, value), np.float32) * 255
    dark = light * np.float32(rng.uniform(0.5, 0.93))
    coarse = fractal(rng, size, 1.2)
    stretch = cv2.resize(fractal(rng, size, 0.5)[:, : max(size // 16, 2)], (size, size), interpolation=cv2.INTER_CUBIC)
    y = np.arange(size, dtype=np.float32)[:, None] / size
    rings = np.sin(y * np.float32(rng.uniform(15, 60)) + coarse * np.float32(rng.uniform(0.3, 2)))
    share = np.float32(0.35) + stretch * np.float32(0.22) + rings * np.float32(rng.uniform(0, 0.3))
    if rng.random() < 0.4:
        planks = rng.integers(2, 7)
        tones = rng.normal(0, 0.2, planks).astype(np.float32)
        row = np.minimum((y * planks).astype(int), planks - 1)
        share = share + tones[row] + ((y * planks) % 1 < 0.02)
    picture = blend(light, dark, share)
    return np.ascontiguousarray(picture.transpose(1, 0, 2)) if rng.random() < 0.5 else picture


def clouds(rng: np.random.Generator, size: int) -> Picture:
    """Coloured 1/f noise, as in blurred photographs."""
    half = max(size // 2, 2)
    shared = fractal(rng, half, rng.uniform(0.9, 1.5))
    tint = fractal(rng, half, rng.uniform(0.9, 1.5), 3)
    picture = color(rng) + shared[..., None] * np.float32(rng.uniform(15, 50)) + tint * 18
    return cv2.resize(np.clip(picture, 0, 255).astype(np.uint8), (size, size))  # type: ignore[no-any-return]


def leaves(rng: np.random.Generator, size: int) -> Picture:
    """Overlapping discs, bars and polygons of all sizes: the edges of a cluttered photograph."""
    picture = clouds(rng, size)
    palette = [color(rng) for _ in range(5)]
    count = int(rng.integers(15, 70))
    radii = np.minimum(size * 0.02 / rng.random(count) ** 0.6, size * 0.35)
    for radius in np.sort(radii)[::-1]:
        tone = tuple(near_color(rng, palette[rng.integers(5)], 25).tolist())
        x, y = (int(c) for c in rng.uniform(0, size, 2))
        kind = rng.random()
        if kind < 0.35:
            cv2.circle(picture, (x, y), int(radius), tone, -1, cv2.LINE_AA)
        elif kind < 0.6:
            w, h = (int(c) for c in radius * rng.uniform(0.3, 1.6, 2))
            cv2.rectangle(picture, (x - w, y - h), (x + w, y + h), tone, -1)
        elif kind < 0.8:
            points = np.array([x, y]) + rng.normal(0, radius, (int(rng.integers(3, 6)), 2))
            cv2.fillPoly(picture, [points.astype(np.int32)], tone, cv2.LINE_AA)
        else:
            end = np.array([x, y]) + rng.normal(0, size * 0.4, 2)
            cv2.line(picture, (x, y), (int(end[0]), int(end[1])), tone, max(int(radius / 4), 1), cv2.LINE_AA)
    if rng.random() < 0.5:
        grain = fractal(rng, size, 0.5)[..., None] * np.float32(rng.uniform(2, 16))
        picture = np.clip(picture + grain, 0, 255).astype(np.uint8)
    return picture


Maker = Callable[[np.random.Generator, int], Picture]
PLAIN: tuple[Maker, ...] = (flat, flat, flat, gradient, mottle)
BUSY: tuple[Maker, ...] = (stripes, checks, dots, mottle, speckle, wood, clouds, leaves)


def surface(rng: np.random.Generator, size: int, busy: float) -> Picture:
    """Any of the textures; `busy` is the probability of one with strong contrast."""
    makers = BUSY if rng.random() < busy else PLAIN
    return makers[rng.integers(len(makers))](rng, size)
