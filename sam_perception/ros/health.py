"""What has come in, what was lost and why, and how long everything took. The one place that counts."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from sam_perception.errors import PerceptionError

COLOR, DEPTH, CAMERA_INFO = STREAMS = ("color", "depth", "camera_info")
SUPERSEDED = "superseded by a newer pair"  # a pair that waited while inference was busy

_RECENT_S = 5.0  # what is older makes no warning any more
_ARRIVALS = 60  # per stream, for its rate
_LATENCIES = 300  # frames, for percentiles
_EVENTS = 300  # per cause, to know how many are recent


@dataclass(frozen=True)
class StreamHealth:
    """One input topic."""

    count: int
    rate_hz: float  # over the last arrivals; 0 when nothing comes
    silent_s: float  # since the last message, or since the node was activated


@dataclass(frozen=True)
class LastError:
    """The newest refusal and how long ago it was."""

    kind: str
    message: str
    age_s: float


@dataclass(frozen=True)
class HealthSnapshot:
    """Everything at one moment."""

    streams: Mapping[str, StreamHealth]
    processed: int
    rate_hz: float  # of processed frames
    drops: Mapping[str, int]  # by cause, since the node was configured
    recent_drops: Mapping[str, int]  # by cause, in the last seconds
    recent_processed: int
    latency_ms: Mapping[str, tuple[float, float, float]]  # by stage: p50, p95, p99
    valid_depth_share: float  # of the newest frame's pixels; NaN before the first
    last_error: LastError | None
    notes: Sequence[str] = field(default_factory=tuple)  # newest last
    refusals: Sequence[LastError] = field(default_factory=tuple)  # the last of each kind, newest first


class _Arrivals:
    """Times of recent events."""

    def __init__(self, length: int) -> None:
        self.count = 0
        self._times: deque[float] = deque(maxlen=length)

    def add(self, now_s: float) -> None:
        self.count += 1
        self._times.append(now_s)

    @property
    def last_s(self) -> float | None:
        return self._times[-1] if self._times else None

    def since(self, start_s: float) -> int:
        return sum(1 for moment in self._times if moment >= start_s)

    def rate_hz(self, now_s: float) -> float:
        """Over the recent past, with the silence up to now counted in when it is longer than usual."""
        recent = [moment for moment in self._times if moment >= now_s - _RECENT_S]
        if len(recent) < 2:
            return 0.0
        period_s = (recent[-1] - recent[0]) / (len(recent) - 1)
        silent_s = now_s - recent[-1]
        span_s = recent[-1] - recent[0] + (silent_s if silent_s > 2 * period_s else 0.0)
        return (len(recent) - 1) / span_s if span_s > 0 else 0.0


class Health:
    """Counts from several threads.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._start_s = clock()
        self._streams = {name: _Arrivals(_ARRIVALS) for name in STREAMS}
        self._processed = _Arrivals(_EVENTS)
        self._drops: Counter[str] = Counter()
        self._drop_times: dict[str, _Arrivals] = {}
        self._latencies: dict[str, deque[float]] = {}
        self._valid_depth_share = float("nan")
        self._error: tuple[str, str, float] | None = None
        self._refusals: dict[str, tuple[str, float]] = {}  # by kind, newest last
        self._notes: deque[str] = deque(maxlen=5)

    def start(self) -> None:
        """Inputs are expected from now on."""
        with self._lock:
            self._start_s = self._clock()

    def received(self, stream: str) -> None:
        """A message came on an input topic."""
        with self._lock:
            self._streams[stream].add(self._clock())

    def dropped(self, cause: str, count: int = 1) -> None:
        """Images went unused."""
        with self._lock:
            self._drop(cause, count)

    def refused(self, error: Exception) -> None:
        """A frame or a prompt cannot be used; `error` says why and what to do."""
        kind = error.kind if isinstance(error, PerceptionError) else type(error).__name__
        with self._lock:
            self._drop(kind, 1)
            self._error = (kind, str(error), self._clock())
            self._refusals.pop(kind, None)
            self._refusals[kind] = (str(error), self._clock())

    def noted(self, note: str) -> None:
        """Something that people should know."""
        with self._lock:
            self._notes.append(note)

    def processed(self, latencies_ms: Mapping[str, float], valid_depth_share: float) -> None:
        """A frame went through."""
        with self._lock:
            self._processed.add(self._clock())
            self._valid_depth_share = valid_depth_share
            for stage, duration_ms in latencies_ms.items():
                self._latencies.setdefault(stage, deque(maxlen=_LATENCIES)).append(duration_ms)

    def snapshot(self) -> HealthSnapshot:
        """Everything as it is now."""
        with self._lock:
            now_s = self._clock()
            recent_s = now_s - _RECENT_S
            return HealthSnapshot(
                streams={name: self._stream(arrivals, now_s) for name, arrivals in self._streams.items()},
                processed=self._processed.count,
                rate_hz=self._processed.rate_hz(now_s),
                drops=dict(self._drops),
                recent_drops={c: n for c, times in self._drop_times.items() if (n := times.since(recent_s))},
                recent_processed=self._processed.since(recent_s),
                latency_ms={stage: _percentiles(durations) for stage, durations in self._latencies.items()},
                valid_depth_share=self._valid_depth_share,
                last_error=LastError(*self._error[:2], age_s=now_s - self._error[2]) if self._error else None,
                notes=tuple(self._notes),
                refusals=[
                    LastError(kind, text, now_s - at_s) for kind, (text, at_s) in reversed(self._refusals.items())
                ],
            )

    def _drop(self, cause: str, count: int) -> None:
        self._drops[cause] += count
        times = self._drop_times.setdefault(cause, _Arrivals(_EVENTS))
        for _ in range(min(count, _EVENTS)):
            times.add(self._clock())

    def _stream(self, arrivals: _Arrivals, now_s: float) -> StreamHealth:
        last_s = max(self._start_s, arrivals.last_s or self._start_s)
        return StreamHealth(arrivals.count, arrivals.rate_hz(now_s), now_s - last_s)


def _percentiles(durations: Sequence[float]) -> tuple[float, float, float]:
    p50, p95, p99 = (float(p) for p in np.percentile(list(durations), (50, 95, 99)))
    return p50, p95, p99
