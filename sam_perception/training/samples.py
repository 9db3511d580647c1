"""From a clip to training samples: crops, colour changes, prompts, targets."""

from __future__ import annotations

from dataclasses import dataclass, fields

import cv2
import numpy as np
from numpy.typing import NDArray

REFERENCE_PX = 256  # areas are counted as if every picture had this width and height
MIN_PROMPT_AREA = 80.0  # an object is prompted from this area on, in pixels of the reference size
HIDE_CHANCE = 0.35  # that something is put in front of an object of a clip
JUMP_CHANCE = 0.35  # that the camera jumps once within a clip
MIN_VISIBLE_AREA = 24.0  # with less of it showing, nothing is said about it

Image = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Batch:
    """B clips of T frames of S x S pixels with N objects each; T is 1 for single pictures."""

    pictures: NDArray[np.uint8]  # (B, T, S, S, 3) RGB
    share: NDArray[np.uint8]  # (B, N, T, S/4, S/4) the object's share of each cell, 255 = all
    first_mask: NDArray[np.uint8]  # (B, N, S, S) 0 or 1, in the prompted frame
    area: NDArray[np.float32]  # (B, N, T) visible pixels at the reference size
    point: NDArray[np.float32]  # (B, N, 2) a click on the object, pixels
    box: NDArray[np.float32]  # (B, N, 4) x y x y around the object, jittered, pixels
    foreground: NDArray[np.uint8]  # (B, T, S/4, S/4) share of any labelled object
    edges: NDArray[np.uint8]  # (B, T, S/4, S/4) 1 where an instance begins or ends
    offsets: NDArray[np.float32]  # (B, T, 3, S/16, S/16) to the instance's centre, and validity


def stack(samples: list[Batch]) -> Batch:
    """One batch from samples of one shape."""
    return Batch(*(np.concatenate([getattr(s, f.name) for s in samples]) for f in fields(Batch)))


def random_window(rng: np.random.Generator, height: int, width: int) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 of a crop; its aspect varies because a camera's picture is squeezed into a square."""
    scale = rng.uniform(0.55, 1.0) if rng.random() < 0.7 else 1.0
    aspect = np.exp(rng.uniform(-0.15, 0.5))  # width : height, up to about 5 : 3
    w, h = width * scale * min(1.0, aspect), height * scale * min(1.0, 1.0 / aspect)
    x0, y0 = rng.uniform(0, width - w), rng.uniform(0, height - h)
    return int(x0), int(y0), int(x0 + w), int(y0 + h)


def recolour(rng: np.random.Generator, pictures: Image) -> Image:
    """Exposure, contrast, gamma, white balance and channel order changed, alike for all frames."""
    x = np.linspace(0, 1, 256, dtype=np.float32)[:, None].repeat(3, axis=1)
    x = x ** np.exp(rng.uniform(-0.35, 0.35)) * rng.uniform(0.75, 1.2) * np.exp(rng.uniform(-0.12, 0.12, 3))
    x = np.clip((x - 0.5) * rng.uniform(0.75, 1.25) + 0.5, 0, 1)
    table = np.rint(x * 255).astype(np.uint8)
    out = np.stack([cv2.LUT(p, table[None]) for p in pictures])
    if rng.random() < 0.3:
        out = out[..., rng.permutation(3)]
    if rng.random() < 0.06:
        gray = out.mean(axis=-1, keepdims=True)
        out = np.repeat(gray, 3, axis=-1).astype(np.uint8)
    return np.asarray(out, np.uint8)


def click(rng: np.random.Generator, mask: NDArray[np.bool_]) -> tuple[float, float]:
    """A pixel of the mask: half of the time its innermost one, else any."""
    if rng.random() < 0.5:
        inner = cv2.distanceTransform(np.pad(mask.astype(np.uint8), 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
        y, x = np.unravel_index(int(inner.argmax()), inner.shape)
    else:
        ys, xs = np.nonzero(mask)
        k = int(rng.integers(len(ys)))
        y, x = ys[k], xs[k]
    return float(x), float(y)


def jittered_box(rng: np.random.Generator, mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Bounding box x y x y of the mask, mostly with edges off by about 5 % as people and detectors draw it."""
    ys, xs = np.nonzero(mask)
    box = np.array([xs.min(), ys.min(), xs.max(), ys.max()], np.float64)
    if rng.random() < 0.6:
        size = np.array([box[2] - box[0], box[3] - box[1]] * 2) + 1
        box += np.clip(rng.normal(0, 0.05, 4) * size, -10, 10)
    box = np.clip(box, 0, mask.shape[0] - 1)
    box[2:] = np.maximum(box[2:], box[:2] + 1)
    return box.astype(np.float32)


def edge_map(ids: Image) -> NDArray[np.uint8]:
    """(T, S/4, S/4) 1 in cells that an instance's border runs through."""
    edge = np.zeros(ids.shape, np.bool_)
    edge[:, :, 1:] |= ids[:, :, 1:] != ids[:, :, :-1]
    edge[:, 1:] |= ids[:, 1:] != ids[:, :-1]
    t, s, _ = ids.shape
    cells = np.any(edge.reshape(t, s // 4, 4, s // 4, 4), axis=(2, 4))
    return np.asarray(cells).astype(np.uint8)


def centre_offsets(ids: Image) -> NDArray[np.float32]:
    """(T, 3, S/16, S/16): from each cell to the centre of the instance in it, as a share of the picture; validity."""
    t, s, _ = ids.shape
    n = s // 16
    cells = ids[:, 8::16, 8::16]
    out = np.zeros((t, 3, n, n), np.float32)
    y, x = np.mgrid[0:s, 0:s]
    at_y, at_x = np.mgrid[0:n, 0:n] * 16 + 8
    for k in range(t):
        flat = ids[k].ravel()
        count = np.bincount(flat, minlength=256).clip(min=1)
        mean_x = np.bincount(flat, x.ravel(), 256) / count
        mean_y = np.bincount(flat, y.ravel(), 256) / count
        out[k, 0] = (mean_x[cells[k]] - at_x) / s
        out[k, 1] = (mean_y[cells[k]] - at_y) / s
    out[:, 2] = cells > 0
    return out * out[:, 2:]


def cell_share(masks: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """(..., S, S) masks to (..., S/4, S/4) shares, 255 = all."""
    *lead, s, _ = masks.shape
    mean = masks.reshape(*lead, s // 4, 4, s // 4, 4).mean((-3, -1))
    return np.asarray(np.rint(mean * 255)).astype(np.uint8)


def _picked(rng: np.random.Generator, able: NDArray[np.intp], ids: Image, count: int) -> NDArray[np.intp]:
    """`count` objects, those that are hidden at some time first; again from the start where there are too few."""
    lost = np.array([not (ids == k).any((1, 2)).all() for k in able])
    order = able[np.argsort(rng.random(len(able)) - 0.5 * lost)]
    return np.resize(order, count)


def hide(rng: np.random.Generator, pictures: Image, ids: Image, object_id: int) -> tuple[Image, Image]:
    """Put something in front of an object for some frames after the first, so that hiding is not rare.

    What hides it is a piece of the picture from elsewhere, or one colour, over the object's bounding box or more.
    """
    frames, size = len(ids), ids.shape[1]
    start = int(rng.integers(1, frames))
    stop = min(frames, start + int(rng.integers(1, max(2, frames // 2) + 1)))
    plain = np.full_like(pictures[0], rng.integers(0, 256, 3))
    shift = tuple(int(v) for v in rng.integers(size // 3, 2 * size // 3, 2))
    grow, blend = rng.uniform(0.05, 0.4), rng.random() < 0.5
    for t in range(start, stop):
        ys, xs = np.nonzero(ids[t] == object_id)
        if len(ys) == 0:
            continue
        margin_x, margin_y = 1 + int(grow * np.ptp(xs)), 1 + int(grow * np.ptp(ys))
        rows = slice(max(0, ys.min() - margin_y), ys.max() + margin_y + 1)
        columns = slice(max(0, xs.min() - margin_x), xs.max() + margin_x + 1)
        cover = np.roll(pictures[0], shift, (0, 1)) if blend else plain
        pictures[t, rows, columns] = cover[rows, columns]
        ids[t, rows, columns] = 0
    return pictures, ids


def jump(rng: np.random.Generator, pictures: Image, ids: Image) -> None:
    """Let the camera jump at some frame, in place: objects are then elsewhere, turned and of another size.

    Together with `hide` it teaches to look for an object away from where it was last seen.
    """
    size = ids.shape[1]
    start = int(rng.integers(1, len(ids)))
    move = cv2.getRotationMatrix2D((size / 2, size / 2), rng.uniform(-15, 15), float(np.exp(rng.uniform(-0.25, 0.25))))
    move[:, 2] += rng.uniform(-0.25, 0.25, 2) * size
    for t in range(start, len(ids)):
        pictures[t] = cv2.warpAffine(pictures[t], move, (size, size), borderMode=cv2.BORDER_REPLICATE)
        ids[t] = cv2.warpAffine(ids[t], move, (size, size), flags=cv2.INTER_NEAREST, borderValue=0)


def make_sample(
    rng: np.random.Generator, rgb: Image, ids: Image, size: int, objects: int, tries: int = 4
) -> Batch | None:
    """A sample with B = 1 of a clip (T, H, W, 3) and its ids (T, H, W); objects are prompted in its first frame.

    None where no crop that was tried shows an object big enough.
    """
    for _ in range(tries):
        x0, y0, x1, y1 = random_window(rng, *ids.shape[1:])
        # Exact: plain INTER_NEAREST takes cells' corners, half a pixel beside the picture's.
        exact = cv2.INTER_NEAREST_EXACT
        small = np.stack([cv2.resize(f[y0:y1, x0:x1], (size, size), interpolation=exact) for f in ids])
        areas = np.bincount(small[0].ravel(), minlength=256) * (REFERENCE_PX / size) ** 2
        able = np.flatnonzero(areas[1:] >= MIN_PROMPT_AREA) + 1
        if len(able):
            break
    else:
        return None
    pictures = np.stack([cv2.resize(f[y0:y1, x0:x1], (size, size), interpolation=cv2.INTER_AREA) for f in rgb])
    pictures = recolour(rng, pictures)
    if rng.random() < 0.5:
        pictures, small = pictures[:, :, ::-1], small[:, :, ::-1]
    if rng.random() < 0.2:
        pictures, small = pictures[:, ::-1], small[:, ::-1]
    picked = _picked(rng, able, small, objects)
    if len(small) > 1:
        pictures, small = np.array(pictures), np.array(small)
        if rng.random() < JUMP_CHANCE:
            jump(rng, pictures, small)
        for k in picked[rng.random(len(picked)) < HIDE_CHANCE]:
            pictures, small = hide(rng, pictures, small, int(k))
    masks = small[None] == picked[:, None, None, None]  # (N, T, S, S)
    return Batch(
        np.ascontiguousarray(pictures)[None],
        cell_share(masks)[None],
        masks[None, :, 0].astype(np.uint8),
        (masks.sum((-1, -2)) * (REFERENCE_PX / size) ** 2).astype(np.float32)[None],
        np.array([click(rng, m[0]) for m in masks], np.float32)[None],
        np.stack([jittered_box(rng, m[0]) for m in masks])[None],
        cell_share(small > 0)[None],
        edge_map(small)[None],
        centre_offsets(small)[None],
    )
