"""Pictures of what went wrong, and of how training went."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_perception.errors import SinkError
from sam_perception.files import replaced
from sam_perception.training.scoring import Score

TILE_PX = 320  # width of one case
HIT, MISSED, INVENTED = (60, 200, 60), (230, 60, 60), (60, 120, 240)  # RGB: right, left out, too much


def worst_cases(scores: Sequence[Score], count: int = 12, columns: int = 4) -> NDArray[np.uint8]:
    """The cases with the lowest J, each with its truth: green right, red left out, blue too much."""
    shown = [s for s in scores if s.picture is not None and s.predicted is not None and s.true is not None]
    shown = sorted(shown, key=lambda s: s.j)[:count]
    tiles = [_tile(s) for s in shown]
    if not tiles:
        return np.full((TILE_PX, TILE_PX, 3), 255, np.uint8)
    height = max(t.shape[0] for t in tiles)
    tiles = [cv2.copyMakeBorder(t, 0, height - t.shape[0], 0, 0, cv2.BORDER_CONSTANT, value=(255,) * 3) for t in tiles]
    columns = min(columns, len(tiles))
    blank = [np.full_like(tiles[0], 255)] * (-len(tiles) % columns)
    rows = [np.concatenate((tiles + blank)[i : i + columns], axis=1) for i in range(0, len(tiles), columns)]
    return np.concatenate(rows)


def _tile(score: Score) -> NDArray[np.uint8]:
    assert score.picture is not None  # noqa: S101 (the caller chose those that have one)
    assert score.predicted is not None  # noqa: S101
    assert score.true is not None  # noqa: S101
    picture = score.picture.astype(np.float32)
    for where, colour in (
        (score.predicted & score.true, HIT),
        (score.true & ~score.predicted, MISSED),
        (score.predicted & ~score.true, INVENTED),
    ):
        picture[where] = 0.5 * picture[where] + 0.5 * np.array(colour, np.float32)
    height = round(TILE_PX * picture.shape[0] / picture.shape[1])
    small = cv2.resize(picture.astype(np.uint8), (TILE_PX, height), interpolation=cv2.INTER_AREA)
    head = np.full((34, TILE_PX, 3), 255, np.uint8)
    lines = (f"{score.recording} {score.frame}", f"object {score.object_id}, {score.prompt}: J {score.j:.2f}")
    for k, text in enumerate(lines):
        cv2.putText(head, text, (4, 13 + 15 * k), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([head, small])


def write_png(path: Path, rgb: NDArray[np.uint8]) -> None:
    """Write a picture.

    Raises:
        SinkError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    ok, encoded = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    if not ok:
        raise SinkError(f"{path} cannot be encoded as PNG, picture of shape {rgb.shape}")
    with replaced(path) as part:
        part.write_bytes(encoded.tobytes())


def plot_log(log: Path, picture: Path) -> None:
    """Loss and IoU over minutes, as one PNG beside the log.

    Raises:
        SinkError: the log has no rows.
    """
    with log.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        raise SinkError(f"{log} has no rows yet: train longer before plotting")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, NullLocator, ScalarFormatter

    figure = Figure(figsize=(9, 6), layout="constrained")
    FigureCanvasAgg(figure)
    losses, ious = figure.subplots(2, 1, sharex=True)
    minutes = [float(r["minutes"]) for r in rows]
    losses.plot(minutes, [float(r["loss"]) for r in rows], color="black", linewidth=1)
    losses.set(ylabel="loss", yscale="log")
    # A loss rarely spans a decade, and a logarithmic axis labels little within one.
    losses.yaxis.set_major_locator(MaxNLocator(6))
    losses.yaxis.set_major_formatter(ScalarFormatter())
    losses.yaxis.set_minor_locator(NullLocator())
    for name in ("box", "point", "click", "track", "last"):
        points = [(m, float(r[name])) for m, r in zip(minutes, rows, strict=True) if r[name]]
        if points:
            ious.plot(*zip(*points, strict=True), label=name, linewidth=1)
    for axis in (losses, ious):
        for previous, row in itertools.pairwise(rows):
            if row["stage"] != previous["stage"]:
                axis.axvline(float(row["minutes"]), color="gray", linewidth=0.8, linestyle=":")
    ious.set(xlabel="minutes of training", ylabel="IoU in training", ylim=(0, 1))
    ious.legend(loc="lower right", ncols=5)
    picture.parent.mkdir(parents=True, exist_ok=True)
    with replaced(picture) as part:
        figure.savefig(part, dpi=110)
