"""An mp4 that browsers play, written frame by frame."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam_perception.errors import SinkError

# What Chromium and Firefox play in an mp4; the first one that this build of FFmpeg can write is taken.
_CODECS: tuple[tuple[str, dict[str, str]], ...] = (
    ("libx264", {"crf": "23", "preset": "veryfast"}),
    ("libopenh264", {}),
    ("libvpx-vp9", {"crf": "34", "b": "0", "deadline": "realtime", "cpu-used": "8"}),
    ("libsvtav1", {"crf": "38", "preset": "10"}),
)
_TICKS_PER_S = 1000


class VideoWriter:
    """Writes pictures of one size with their own times.

    Raises:
        SinkError: no fitting encoder, or the file cannot be written.
    """

    def __init__(self, path: Path, width: int, height: int) -> None:
        import av

        self.path = path
        name, options = _available(av)
        # Half-resolution colour needs even sizes.
        self._size = (height + height % 2, width + width % 2)
        try:
            self._container: Any = av.open(str(path), "w", options={"movflags": "+faststart"})
            self._stream: Any = self._container.add_stream(name, rate=30, options=options)
        except (OSError, ValueError) as error:
            raise SinkError(f"{path} cannot be written ({error}): check the folder and free space") from error
        self._stream.width, self._stream.height, self._stream.pix_fmt = self._size[1], self._size[0], "yuv420p"
        self._stream.codec_context.time_base = Fraction(1, _TICKS_PER_S)
        self._start_ns: int | None = None
        self._last = -1

    def write(self, rgb: NDArray[np.uint8], stamp_ns: int) -> None:
        """Add an (H, W, 3) picture that is shown from `stamp_ns` on; stamps that go back follow at 30 Hz."""
        import av

        if self._start_ns is None:
            self._start_ns = stamp_ns
        ticks = round((stamp_ns - self._start_ns) * _TICKS_PER_S / 1e9)
        if ticks <= self._last:
            ticks = self._last + 33
        self._last = ticks
        bottom, right = self._size[0] - rgb.shape[0], self._size[1] - rgb.shape[1]
        padded = np.pad(rgb, ((0, bottom), (0, right), (0, 0)), mode="edge") if bottom or right else rgb
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(padded), format="rgb24")
        frame.pts, frame.time_base = ticks, Fraction(1, _TICKS_PER_S)
        self._mux(self._stream.encode(frame))

    def close(self) -> None:
        """Write what the encoder still holds, and the index."""
        self._mux(self._stream.encode(None))
        self._container.close()

    def _mux(self, packets: Any) -> None:
        try:
            for packet in packets:
                self._container.mux(packet)
        except (OSError, ValueError) as error:
            raise SinkError(f"{self.path} cannot be written ({error}): check free space") from error


def _available(av: Any) -> tuple[str, dict[str, str]]:
    for name, options in _CODECS:
        try:
            av.codec.Codec(name, "w")
        except ValueError:  # UnknownCodecError
            continue
        return name, options
    raise SinkError(
        f"FFmpeg has none of {', '.join(name for name, _ in _CODECS)}: install PyAV's own wheel (pip install av)"
    )
