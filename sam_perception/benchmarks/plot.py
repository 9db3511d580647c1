"""The findings as one picture: frames per second against objects, shares of a step, memory over a stream."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from sam_perception.benchmarks.memory import Growth
from sam_perception.benchmarks.race import Race
from sam_perception.benchmarks.stages import Shares
from sam_perception.sinks.svg import Series, line_plot

_OURS, _THEIRS = "#1f6fb4", "#c8502d"
_STAGE_COLORS = ("#1f6fb4", "#3aa17e", "#d9a421", "#c8502d", "#8a8f98")
_WIDTH, _PLOT_HEIGHT, _BAR_HEIGHT = 640, 220, 22
_STYLE = (
    "text{font:11px system-ui,sans-serif;fill:#333}.title{font-weight:600}.grid{stroke:#ddd;fill:none}"
    ".tick{font-size:10px;fill:#666}.line{fill:none;stroke-width:2}"
)


def bench_picture(races: Sequence[Race], shares: Sequence[Shares], growths: Sequence[Growth]) -> str:
    """An SVG document; what was not measured is left out."""
    blocks = [
        _race_plot(model, [r for r in races if r.model == model]) for model in dict.fromkeys(r.model for r in races)
    ]
    streams = dict.fromkeys((g.model, g.objects) for g in growths)
    of_each = [[g for g in growths if (g.model, g.objects) == stream] for stream in streams]
    blocks += [_growth_plot(some, on_gpu=on_gpu) for some in of_each for on_gpu in (True, False) if _seen(some, on_gpu)]
    if shares:
        blocks.append(_share_bars(shares))
    height = sum(h for _, h in blocks) + 24
    body, top = _legend(), 24
    for block, block_height in blocks:
        body += f'<svg x="0" y="{top}" width="{_WIDTH}" height="{block_height}">{block}</svg>'
        top += block_height
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}">'
        f'<style>{_STYLE}</style><rect width="100%" height="100%" fill="white"/>{body}</svg>\n'
    )


def _legend() -> str:
    return (
        f'<rect x="52" y="7" width="14" height="4" fill="{_OURS}"/><text x="71" y="13">sam_perception</text>'
        f'<rect x="182" y="7" width="14" height="4" fill="{_THEIRS}"/><text x="201" y="13">transformers session</text>'
    )


def _race_plot(model: str, races: Sequence[Race]) -> tuple[str, int]:
    objects = np.array([r.objects for r in races], np.float64)
    sides = (
        Series("ours", _OURS, objects, np.array([1e3 / r.ours_ms for r in races])),
        Series("transformers", _THEIRS, objects, np.array([1e3 / r.theirs_ms for r in races])),
    )
    title = f"{model}: frames per second"
    return line_plot(title, "objects", [*sides, _zero(objects)], width=_WIDTH, height=_PLOT_HEIGHT), _PLOT_HEIGHT


def _zero(x: NDArray[np.float64]) -> Series:
    """Nothing to be seen, at zero: so that heights compare as the numbers do."""
    return Series("", "none", x[:1], np.zeros(1))


def _seen(growths: Sequence[Growth], on_gpu: bool) -> bool:
    """Whether all of them have memory of that kind."""
    return not on_gpu or all(g.allocated_mib for g in growths)


def _growth_plot(growths: Sequence[Growth], *, on_gpu: bool) -> tuple[str, int]:
    series = [
        Series(
            g.side,
            _OURS if g.side == "ours" else _THEIRS,
            np.array(g.frames, np.float64),
            np.array(g.allocated_mib if on_gpu else g.mib, np.float64),
        )
        for g in growths
    ]
    what = "memory of tensors on the GPU" if on_gpu else "memory of the process"
    title = f"{growths[0].model}, {growths[0].objects} objects: {what}, MiB"
    return line_plot(title, "frames", series, width=_WIDTH, height=_PLOT_HEIGHT), _PLOT_HEIGHT


def _share_bars(shares: Sequence[Shares]) -> tuple[str, int]:
    stages = list(shares[0].stages_ms)
    parts = ['<text class="title" x="10" y="14">shares of a step</text>']
    for number, (stage, color) in enumerate(zip(stages, _STAGE_COLORS, strict=True)):
        x, y = 10 + 210 * (number % 3), 22 + 16 * (number // 3)
        parts.append(f'<rect x="{x}" y="{y}" width="10" height="10" fill="{color}"/>')
        parts.append(f'<text x="{x + 15}" y="{y + 9}">{stage}</text>')
    for row, one in enumerate(shares):
        y, left = 60 + row * (_BAR_HEIGHT + 6), 150.0
        label = f"{one.model}, {one.objects} object{'s' if one.objects != 1 else ''}"
        parts.append(f'<text x="10" y="{y + 15}">{escape(label)}</text>')
        for stage, color in zip(stages, _STAGE_COLORS, strict=True):
            width = max(0.0, (_WIDTH - 240) * one.stages_ms[stage] / one.total_ms)
            parts.append(f'<rect x="{left:.1f}" y="{y}" width="{width:.1f}" height="{_BAR_HEIGHT}" fill="{color}"/>')
            left += width
        parts.append(f'<text x="{left + 6:.0f}" y="{y + 15}">{one.total_ms:.0f} ms</text>')
    return "".join(parts), 60 + len(shares) * (_BAR_HEIGHT + 6) + 10
