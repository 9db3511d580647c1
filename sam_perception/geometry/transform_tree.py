"""Frames and how they lie to one another over time: what tf knows, without tf.

The rules are tf2's: each frame has one parent; a transform at a stamp is interpolated between the samples
before and after it and never extrapolated; static ones hold at every stamp.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left, bisect_right, insort
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sam_perception.errors import TransformError, UnknownFrame
from sam_perception.recorded import matrix_from_quaternion

Matrix = NDArray[np.float64]

KEEP_NS = 10_000_000_000  # of each moving frame's past, as tf2 keeps by default
_PARALLEL = 0.9995  # cosine; nearer quaternions are interpolated along the chord, where the arc's formula divides by 0


@dataclass(frozen=True, eq=False)
class _Sample:
    translation: Matrix  # (3,) metres
    rotation: Matrix  # (4,) unit quaternion x, y, z, w


@dataclass(eq=False)
class _Frame:
    parent: str
    static: bool
    stamps_ns: list[int] = field(default_factory=list)  # ascending
    samples: dict[int, _Sample] = field(default_factory=dict)


class TransformTree:
    """Transforms between frames; for several threads.

    Args:
        keep_ns: how much of a moving frame's past is kept.
    """

    def __init__(self, keep_ns: int = KEEP_NS) -> None:
        self._keep_ns = keep_ns
        self._frames: dict[str, _Frame] = {}
        self._changed = threading.Condition()

    def add(
        self,
        parent: str,
        child: str,
        stamp_ns: int,
        translation: NDArray[np.floating],
        rotation: NDArray[np.floating],
        *,
        static: bool = False,
    ) -> None:
        """Take where `child` lies in `parent`: translation (3,) in metres, rotation (4,) as x, y, z, w.

        A sample that is older than all that is kept begins the frame's past anew: time has gone back.

        Raises:
            TransformError: not finite, a quaternion without length, a frame in itself or without a name.
        """
        parent, child = parent.lstrip("/"), child.lstrip("/")
        at, turn = np.asarray(translation, np.float64), np.asarray(rotation, np.float64)
        length = float(np.linalg.norm(turn))
        if not parent or not child or parent == child:
            raise TransformError(f"transform from {child!r} to {parent!r}: frames need two different names")
        if not (np.isfinite(at).all() and np.isfinite(length) and abs(length - 1.0) < 0.01):
            raise TransformError(
                f"transform from {child!r} to {parent!r} is {at.tolist()}, {turn.tolist()}: "
                "it must be finite, and its quaternion of length 1; check who publishes it"
            )
        with self._changed:
            known = self._frames.get(child)
            if known is None or known.parent != parent or known.static or static:
                known = self._frames[child] = _Frame(parent, static)
            self._insert(known, 0 if static else stamp_ns, _Sample(at, turn / length))
            self._changed.notify_all()

    def clear(self, after_ns: int) -> None:
        """Forget what moved later than this: time has gone back to about there."""
        with self._changed:
            for frame in self._frames.values():
                first = bisect_right(frame.stamps_ns, after_ns)
                for gone in frame.stamps_ns[first:]:
                    del frame.samples[gone]
                del frame.stamps_ns[first:]
            self._frames = {name: frame for name, frame in self._frames.items() if frame.stamps_ns}

    def lookup(self, target: str, source: str, stamp_ns: int, timeout_s: float = 0.0) -> Matrix:
        """target_from_source (4, 4) at the stamp; waits for it where it may still come.

        Raises:
            UnknownFrame: a frame nobody has told of, or two that are not connected.
            TransformError: the stamp lies outside the samples.
        """
        end_s = time.monotonic() + timeout_s
        with self._changed:
            while True:
                try:
                    return self._lookup(target.lstrip("/"), source.lstrip("/"), stamp_ns)
                except TransformError:
                    left_s = end_s - time.monotonic()
                    if left_s <= 0:
                        raise
                self._changed.wait(left_s)

    def _insert(self, frame: _Frame, stamp_ns: int, sample: _Sample) -> None:
        stamps = frame.stamps_ns
        if stamps and stamp_ns < stamps[-1] - self._keep_ns:
            stamps.clear()
            frame.samples.clear()
        if stamp_ns not in frame.samples:
            insort(stamps, stamp_ns)
        frame.samples[stamp_ns] = sample
        gone = bisect_left(stamps, stamps[-1] - self._keep_ns)
        for old in stamps[:gone]:
            del frame.samples[old]
        del stamps[:gone]

    def _lookup(self, target: str, source: str, stamp_ns: int) -> Matrix:
        if target == source:
            return np.eye(4)
        up_from_source, up_from_target = self._to_root(source), self._to_root(target)
        common = next((name for name in up_from_source if name in up_from_target), None)
        if common is None:
            known = ", ".join(sorted({*self._frames, *(f.parent for f in self._frames.values())})) or "none"
            raise UnknownFrame(
                f"no transform leads from {source!r} to {target!r}: frames known are {known}; "
                "check the names, and that robot_state_publisher and the camera's driver are running"
            )
        common_from_source = self._along(up_from_source[: up_from_source.index(common)], stamp_ns)
        common_from_target = self._along(up_from_target[: up_from_target.index(common)], stamp_ns)
        return np.asarray(np.linalg.inv(common_from_target) @ common_from_source)

    def _to_root(self, name: str) -> list[str]:
        chain = [name]
        while name in self._frames:
            name = self._frames[name].parent
            if name in chain:
                raise TransformError(f"frames go round in a circle: {' -> '.join([*chain, name])}; check who publishes")
            chain.append(name)
        return chain

    def _along(self, chain: list[str], stamp_ns: int) -> Matrix:
        """The transform from the first frame of a chain to the last one's parent."""
        whole = np.eye(4)
        for name in chain:
            whole = self._at(name, stamp_ns) @ whole
        return whole

    def _at(self, name: str, stamp_ns: int) -> Matrix:
        frame = self._frames[name]
        stamps = frame.stamps_ns
        if frame.static:
            return _matrix(frame.samples[stamps[0]])
        if not stamps[0] <= stamp_ns <= stamps[-1]:
            late = stamp_ns > stamps[-1]
            away_s = (stamp_ns - stamps[-1] if late else stamps[0] - stamp_ns) * 1e-9
            side = "after the newest" if late else "before the oldest"
            raise TransformError(
                f"stamp {stamp_ns * 1e-9:.3f} s is {away_s:.3f} s {side} "
                f"transform from {name!r} to {frame.parent!r}: nothing is extrapolated; "
                + ("allow a longer transforms.timeout_s" if late else "check that clocks and use_sim_time agree")
            )
        after = bisect_left(stamps, stamp_ns)
        last = frame.samples[stamps[after]]
        if stamps[after] == stamp_ns:
            return _matrix(last)
        part = (stamp_ns - stamps[after - 1]) / (stamps[after] - stamps[after - 1])
        return _matrix(_between(frame.samples[stamps[after - 1]], last, part))


def _between(first: _Sample, last: _Sample, part: float) -> _Sample:
    """Linear in translation; rotation along the great arc (Shoemake 1985), the shorter way."""
    a, b = first.rotation, last.rotation
    cosine = float(a @ b)
    if cosine < 0:
        b, cosine = -b, -cosine
    if cosine > _PARALLEL:
        turn = (1 - part) * a + part * b
    else:
        angle = np.arccos(cosine)
        turn = (np.sin((1 - part) * angle) * a + np.sin(part * angle) * b) / np.sin(angle)
    place = (1 - part) * first.translation + part * last.translation
    return _Sample(place, turn / np.linalg.norm(turn))


def _matrix(sample: _Sample) -> Matrix:
    matrix = np.eye(4)
    matrix[:3, :3] = matrix_from_quaternion(*sample.rotation.tolist())
    matrix[:3, 3] = sample.translation
    return matrix
