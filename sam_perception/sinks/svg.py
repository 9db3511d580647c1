"""Small plots as inline SVG text: lines with gaps and bands, a view from above, coloured bars."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 10, 20, 26  # margins in pixels


@dataclass(frozen=True, eq=False)
class Series:
    """One line: NaN in `y` is a gap."""

    name: str
    color: str  # CSS
    x: Floats  # (N,)
    y: Floats  # (N,)
    spread: Floats | None = None  # (N,) half height of the band around y


def css_color(rgb: tuple[int, int, int]) -> str:
    """`#rrggbb`."""
    return "#{:02x}{:02x}{:02x}".format(*rgb)


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers from `low` to `high`, steps of 1, 2 or 5 times a power of ten."""
    if not high > low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(k * step, 10) for k in range(first, last + 1)]


def _limits(values: Sequence[Floats], least: float) -> tuple[float, float]:
    """Range of all finite values with a margin; at least `least` wide."""
    finite = [v[np.isfinite(v)] for v in values]
    joined = np.concatenate([np.zeros(0), *finite])
    if joined.size == 0:
        return 0.0, least
    low, high = float(joined.min()), float(joined.max())
    widen = max(0.06 * (high - low), (least - (high - low)) / 2, 1e-9)
    return low - widen, high + widen


@dataclass(frozen=True)
class _Axes:
    """Where data lie in a picture of `width` x `height` pixels; y points up."""

    width: float
    height: float
    x: tuple[float, float]
    y: tuple[float, float]

    def px(self, x: Floats | float) -> Floats:
        share = (np.asarray(x, np.float64) - self.x[0]) / (self.x[1] - self.x[0])
        return _LEFT + share * (self.width - _LEFT - _RIGHT)

    def py(self, y: Floats | float) -> Floats:
        share = (np.asarray(y, np.float64) - self.y[0]) / (self.y[1] - self.y[0])
        return self.height - _BOTTOM - share * (self.height - _TOP - _BOTTOM)

    def frame(self, title: str, x_label: str) -> str:
        """Grid, tick labels and titles."""
        parts = [f'<text class="title" x="{_LEFT}" y="13">{escape(title)}</text>']
        for tick in nice_ticks(*self.y, 4):
            y = float(self.py(tick))
            parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{self.width - _RIGHT}"/>')
            parts.append(f'<text class="tick" x="{_LEFT - 5}" y="{y + 3.5:.1f}" text-anchor="end">{tick:g}</text>')
        for tick in nice_ticks(*self.x, 8):
            x = float(self.px(tick))
            parts.append(f'<path class="grid" d="M{x:.1f} {_TOP}V{self.height - _BOTTOM}"/>')
            parts.append(f'<text class="tick" x="{x:.1f}" y="{self.height - 12}" text-anchor="middle">{tick:g}</text>')
        end = self.width - _RIGHT
        parts.append(f'<text class="tick" x="{end}" y="{self.height - 1}" text-anchor="end">{escape(x_label)}</text>')
        return "".join(parts)


def line_plot(
    title: str, x_label: str, series: Sequence[Series], *, width: int = 440, height: int = 170, least: float = 1e-3
) -> str:
    """Lines over a common x; bands around those that have a spread. The y range is at least `least` wide."""
    around = [s.y + sign * s.spread for s in series if s.spread is not None for sign in (-1, 1)]
    x_range = _limits([s.x for s in series], 1e-3)
    axes = _Axes(width, height, x_range, _limits([*(s.y for s in series), *around], least))
    body = "".join(_band(axes, s) + _line(axes, s) for s in series)
    return _svg(width, height, axes.frame(title, x_label) + body)


def _runs(present: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Start and end (exclusive) of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], present, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _path(xs: Floats, ys: Floats) -> str:
    return "L".join(f"{x:.1f} {y:.1f}" for x, y in zip(xs, ys, strict=True))


def _line(axes: _Axes, s: Series) -> str:
    parts = []
    for start, end in _runs(np.isfinite(s.y)):
        xs, ys = axes.px(s.x[start:end]), axes.py(s.y[start:end])
        if end - start == 1:
            parts.append(f'<circle cx="{xs[0]:.1f}" cy="{ys[0]:.1f}" r="2" fill="{s.color}"/>')
        else:
            parts.append(f'<path class="line" stroke="{s.color}" d="M{_path(xs, ys)}"/>')
    return "".join(parts)


def _band(axes: _Axes, s: Series) -> str:
    if s.spread is None:
        return ""
    parts = []
    for start, end in _runs(np.isfinite(s.y) & np.isfinite(s.spread)):
        xs, y, spread = axes.px(s.x[start:end]), s.y[start:end], s.spread[start:end]
        upper, lower = axes.py(y + spread), axes.py(y - spread)
        parts.append(f'<path class="band" fill="{s.color}" d="M{_path(xs, upper)}L{_path(xs[::-1], lower[::-1])}Z"/>')
    return "".join(parts)


def map_plot(title: str, x_label: str, series: Sequence[Series], *, width: int = 560, height: int = 380) -> str:
    """Paths in a plane at equal scale; a ring marks each start, a dot each end."""
    x_low, x_high = _limits([s.x for s in series], 0.05)
    y_low, y_high = _limits([s.y for s in series], 0.05)
    inner_width, inner_height = width - _LEFT - _RIGHT, height - _TOP - _BOTTOM
    scale = max((x_high - x_low) / inner_width, (y_high - y_low) / inner_height)
    half_x, half_y = scale * inner_width / 2, scale * inner_height / 2
    x_mid, y_mid = (x_low + x_high) / 2, (y_low + y_high) / 2
    axes = _Axes(width, height, (x_mid - half_x, x_mid + half_x), (y_mid - half_y, y_mid + half_y))
    parts = [axes.frame(title, x_label)]
    for s in series:
        seen = np.flatnonzero(np.isfinite(s.x) & np.isfinite(s.y))
        if seen.size == 0:
            continue
        parts.append(_line(axes, s))
        xs, ys = axes.px(s.x[seen]), axes.py(s.y[seen])
        parts.append(f'<circle cx="{xs[0]:.1f}" cy="{ys[0]:.1f}" r="5" fill="none" stroke="{s.color}"/>')
        parts.append(f'<circle cx="{xs[-1]:.1f}" cy="{ys[-1]:.1f}" r="3.5" fill="{s.color}"/>')
        parts.append(f'<text class="name" x="{xs[-1] + 7:.1f}" y="{ys[-1] - 5:.1f}">{escape(s.name)}</text>')
    return _svg(width, height, "".join(parts))


def bars(
    x_label: str, x: Floats, rows: Sequence[tuple[str, str, Sequence[str]]], *, width: int = 1140, label: int = 150
) -> str:
    """One row per object: its name, its colour and per position in `x` the CSS class of its bar ("" for none)."""
    row_height, gap = 20, 7
    height = len(rows) * (row_height + gap) + _BOTTOM
    step = float(np.median(np.diff(x))) if len(x) > 1 else 1.0
    low, high = float(x.min()), float(x.max()) + step
    to_px = (width - label - _RIGHT) / (high - low)
    parts = []
    for index, (name, color, kinds) in enumerate(rows):
        top = index * (row_height + gap)
        parts.append(f'<rect x="0" y="{top + 5}" width="10" height="10" rx="2" fill="{color}"/>')
        parts.append(f'<text class="name" x="16" y="{top + 14}">{escape(name)}</text>')
        kind_of = np.array(kinds)
        for kind in sorted(set(kinds) - {""}):
            for start, end in _runs(kind_of == kind):
                left, right = float(x[start]), float(x[end]) if end < len(x) else high
                parts.append(
                    f'<rect class="{kind}" x="{label + (left - low) * to_px:.1f}" y="{top}" '
                    f'width="{max(0.8, (right - left) * to_px):.1f}" height="{row_height}"/>'
                )
    for tick in nice_ticks(low, high, 10):
        at = label + (tick - low) * to_px
        parts.append(f'<text class="tick" x="{at:.1f}" y="{height - 10}" text-anchor="middle">{tick:g}</text>')
    parts.append(f'<text class="tick" x="{label - 12}" y="{height - 10}" text-anchor="end">{escape(x_label)}</text>')
    return _svg(width, height, "".join(parts))


def _svg(width: float, height: float, body: str) -> str:
    return f'<svg viewBox="0 0 {width} {height}" role="img" xmlns="http://www.w3.org/2000/svg">{body}</svg>'
