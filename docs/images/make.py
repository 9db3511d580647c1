"""Makes the README's picture from what `make demo` left behind.

python docs/images/make.py [demo_output] [FRAME FRAME]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (480, 360)
GAP_PX = 6
COLORS = 128  # a palette keeps the file small


def main(demo: str = "demo_output", *frames: str) -> None:
    """Two frames of the report beside each other: the first, and one where an object is behind another."""
    pictures = Path(demo) / "report" / "pictures"
    chosen = [pictures / f"frame_{int(frame):06d}.jpg" for frame in frames] or sorted(pictures.glob("*.jpg"))[:2]
    tiles = [np.asarray(Image.open(path).resize(SIZE, Image.Resampling.LANCZOS)) for path in chosen]
    gap = np.full((SIZE[1], GAP_PX, 3), 255, np.uint8)
    row = np.concatenate([part for tile in tiles for part in (tile, gap)][:-1], axis=1)
    picture = Image.fromarray(row).quantize(COLORS, dither=Image.Dither.NONE)
    picture.save(Path(__file__).parent / "demo.png", optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
