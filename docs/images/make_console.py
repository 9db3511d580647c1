"""Makes the README's pictures of the web console: the real node, its own model, the demo's table, Chromium.

python docs/images/make_console.py [OUT]     needs chromium; takes some minutes on a CPU
"""

from __future__ import annotations

import itertools
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parent
TEST = HERE.parents[1] / "test"
sys.path[:0] = [str(TEST), str(TEST / "ros"), str(TEST / "web")]

from sam_perception._ros_environment import ensure_ros_environment  # noqa: E402

ensure_ros_environment()

import test_console_browser  # noqa: E402
from chromium import Page  # noqa: E402
from ros_harness import Harness  # noqa: E402
from test_console_browser import LISTED, SHOWN, console  # noqa: E402

from sam_perception.sources.synthetic import SyntheticSource, Truth  # noqa: E402

COLORS = 256  # a palette keeps the files small
SETTINGS = {
    "input__timeout_s": 30.0,
    "diagnostics_period_s": 1.0,
    # The model that ships is less sure of its masks than SAM 2, for which the defaults are.
    "everything__pred_iou_thresh": 0.6,
    "everything__stability_score_thresh": 0.7,
    "everything__points_per_side": 16,
}
DOMAIN = 73
LAST = 36  # frame: the mug is behind the box by then


def main(out: str = str(HERE)) -> None:
    """`console.png`: four objects, one of them hidden; `console_everything.png`: a picture that was cut up."""
    test_console_browser.SPACE = "arm"  # the node's namespace
    source = SyntheticSource()
    seen = list(itertools.islice(source.with_truth(), LAST + 1))
    frames = [frame for frame, _ in seen[:1] + seen[1::2]]
    with (
        tempfile.TemporaryDirectory() as folder,
        Harness(DOMAIN) as harness,
        console(harness, Path(folder), frames, hold_first=True, **SETTINGS) as (page, player),
    ):
        _point(page, source.labels, seen[0][1])
        player.go_on()
        page.press(".object[data-id='2']")
        page.mouse("mouseMoved", *page.pixel_place(*_middle(seen[-1][1], 2)))
        page.until(f"{SHOWN} === '{frames[-1].stamp_ns}'")
        _save(page, Path(out) / "console.png")
        player.pause()
        page.key("Escape")
        page.key("e")
        page.until("document.getElementById('hint').textContent.includes('regions')")
        x, y = page.pixel_place(*_middle(seen[-1][1], 2))
        page.hover(x, y, "document.getElementById('cursor').textContent.length > 0")
        _settle(page)
        _save(page, Path(out) / "console_everything.png")


def _point(page: Page, labels: tuple[str, ...], truth: Truth) -> None:
    """Draw a box around each object of the first frame, and give it its name."""
    for object_id, label in enumerate(labels, start=1):
        rows, columns = np.nonzero(truth.mask(object_id))
        page.drag(*page.pixel_place(columns.min(), rows.min()), *page.pixel_place(columns.max(), rows.max()))
        page.until(f"{LISTED}.length === {object_id}")
        page.press(f".object[data-id='{object_id}']")
        page.press(f".object[data-id='{object_id}'] .rename")
        page.type(label)
        page.key("Enter")
        page.press(f".object[data-id='{object_id}'] .state")  # unselects it


def _middle(truth: Truth, object_id: int) -> tuple[float, float]:
    rows, columns = np.nonzero(truth.mask(object_id))
    return float(np.median(columns)), float(np.median(rows))


def _settle(page: Page) -> None:
    """Wait until what was only for a moment has gone."""
    page.until("document.getElementById('toasts').children.length === 0")
    page.evaluate("new Promise((done) => setTimeout(done, 1200))")


def _save(page: Page, path: Path) -> None:
    page.screenshot(path)
    picture = Image.open(path).convert("RGB")
    picture.quantize(COLORS, kmeans=1, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
