"""What a cheap camera does to an ideal picture."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_perception.training.scenes.patterns import Floats, Picture, fractal


@dataclass(frozen=True, eq=False)
class Camera:
    """The effects of one clip; `take` applies them to each frame."""

    curves: NDArray[np.uint8]  # (T, 1, 256, 3) exposure, white balance, gamma, contrast
    shading: Floats | None  # (H, W, 1) vignette and uneven light
    noise: Floats | None  # (H + p, W + p, 3) grain, cut at a random place for each frame
    offsets: NDArray[np.int64]  # (T, 2) that place
    blur: float  # pixels, of the lens
    streaks: tuple[Floats | None, ...]  # per frame a motion blur kernel
    shrink: float  # below 1: the picture was taken with fewer pixels
    jpeg: int  # quality; 0: not compressed

    def take(self, picture: Picture, t: int) -> Picture:
        """(H, W, 3) the picture as the camera delivers it."""
        h, w = picture.shape[:2]
        if self.shrink < 1:
            small = (max(int(w * self.shrink), 8), max(int(h * self.shrink), 8))
            picture = cv2.resize(cv2.resize(picture, small, interpolation=cv2.INTER_AREA), (w, h))
        if self.blur > 0.25:
            picture = cv2.GaussianBlur(picture, (0, 0), self.blur)
        streak = self.streaks[t]
        if streak is not None:
            picture = cv2.filter2D(picture, -1, streak)
        if self.shading is not None:
            picture = cv2.convertScaleAbs(picture * self.shading)
        picture = cv2.LUT(picture, self.curves[t])
        if self.noise is not None:
            y, x = self.offsets[t]
            picture = cv2.add(picture, self.noise[y : y + h, x : x + w], dtype=cv2.CV_8U)
        if self.jpeg:
            _, coded = cv2.imencode(".jpg", picture, (cv2.IMWRITE_JPEG_QUALITY, self.jpeg))
            return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)
        return picture


def _curves(rng: np.random.Generator, frames: int, d: float, exposure: float) -> NDArray[np.uint8]:
    x = np.linspace(0, 1, 256)
    white = np.exp(rng.normal(0, 0.1 * d, 3))
    gamma = np.exp(rng.normal(0, 0.2 * d))
    lift = max(rng.normal(0, 0.05), 0) * d
    contrast = 1 - rng.uniform(0, 0.45) * d * (rng.random() < 0.3)
    drift = np.cumsum(rng.normal(0, 0.02 * d * (rng.random() < 0.4), frames))
    out = np.empty((frames, 1, 256, 3), np.uint8)
    for t in range(frames):
        level = (x[:, None] * exposure) ** gamma * np.exp(drift[t]) * white
        level = np.where(level > 0.8, 0.8 + 0.2 * np.tanh((level - 0.8) / 0.2), level)  # soft clipping
        level = lift + (1 - lift) * (0.5 + (level - 0.5) * contrast)
        out[t, 0] = np.clip(level * 255, 0, 255)
    return out


def _shading(rng: np.random.Generator, height: int, width: int, d: float) -> Floats:
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    out = 1 - np.float32(rng.uniform(0, 0.22) * d) * (x * x + y * y)
    out *= 1 + np.float32(rng.normal(0, 0.12 * d)) * x + np.float32(rng.normal(0, 0.12 * d)) * y
    if rng.random() < 0.5 * d:
        soft = cv2.resize(fractal(rng, 16, 1.2), (width, height), interpolation=cv2.INTER_CUBIC)
        out *= 1 + np.float32(rng.uniform(0, 0.12)) * soft
    return np.asarray(np.clip(out, 0.1, 2)[..., None])


def _streak(rng: np.random.Generator, length: float) -> Floats | None:
    size = int(length) // 2 * 2 + 3
    if length < 1:
        return None
    kernel = np.zeros((size, size), np.float32)
    angle, c = rng.uniform(0, np.pi), size // 2
    step = np.array([np.cos(angle), np.sin(angle)]) * length / 2
    a, b = (tuple(round(float(v)) for v in c + s * step) for s in (-1, 1))
    cv2.line(kernel, a, b, 1.0)
    kernel /= kernel.sum()
    return kernel


def random_camera(rng: np.random.Generator, first: Picture, frames: int, d: float) -> Camera:
    """Effects for a clip, exposed for its first picture; `d` from 0 (nearly ideal) to 1."""
    height, width = first.shape[:2]
    wanted = 255 * np.clip(rng.normal(0.5, 0.06 + 0.08 * d), 0.15, 0.8)
    # Cameras expose for the picture's mean, and not without limit.
    exposure = float(np.clip(wanted / max(float(first.mean()), 1.0), 0.55, 2.6))
    scale = width / 256
    noise = None
    pad = 24
    if rng.random() < 0.8 * d:
        sigma, chroma = rng.exponential(1.7), rng.uniform(0.2, 1)
        luma = rng.standard_normal((height + pad, width + pad, 1), dtype=np.float32)
        color = rng.standard_normal((height + pad, width + pad, 3), dtype=np.float32)
        noise = ((luma + np.float32(chroma) * color) * np.float32(min(sigma, 8))).astype(np.float32)
        if rng.random() < 0.4:
            noise = cv2.GaussianBlur(noise, (0, 0), float(rng.uniform(0.4, 1.0))) * np.float32(1.6)
    blur = (rng.uniform(0.42, 0.75) if rng.random() < 0.78 else rng.uniform(0.5, 1.4)) * scale
    shaken = rng.random() < 0.25 * d
    streaks = tuple(_streak(rng, rng.exponential(4.0) * scale) if shaken else None for _ in range(frames))
    return Camera(
        _curves(rng, frames, d, exposure),
        _shading(rng, height, width, d) if rng.random() < 0.6 * d else None,
        noise,
        rng.integers(0, pad, (frames, 2)),
        float(blur),
        streaks,
        float(rng.uniform(0.45, 0.95)) if rng.random() < 0.2 * d else 1.0,
        int(rng.integers(30, 95)) if rng.random() < 0.35 * d else 0,
    )
