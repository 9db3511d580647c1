"""Colour and depth images to pairs.

Our own synchroniser does it, or `message_filters` where that is asked for; both behind `make_synchronizer`.
Either way every image that finds no partner is counted, and one lost image costs one pair: it never
leaves the following ones with a partner of another moment.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, Generic, Protocol, TypeVar

from sam_perception.errors import ConfigError, StampError
from sam_perception.messages import stamp_ns_of
from sam_perception.stamps import JUMP_NS, StampOrder

Item = TypeVar("Item")
OnPair = Callable[[Any, Any], None]
OnDrop = Callable[[str, int], None]

COLOR_ALONE = "color without depth"
DEPTH_ALONE = "depth without color"
BACKENDS = ("auto", "builtin", "message_filters")

_GAPS = 8  # recent distances between stamps, to know how near the next image may be


class Synchronizer(Protocol):
    """Takes stamped images of both kinds and hands out pairs; not for several threads at once."""

    def add_color(self, stamp_ns: int, item: Any, /) -> None:
        """Raises StampError for a stamp that is repeated or a little too old."""

    def add_depth(self, stamp_ns: int, item: Any, /) -> None:
        """Raises StampError for a stamp that is repeated or a little too old."""


def make_synchronizer(backend: str, *, slop_ns: int, queue_size: int, on_pair: OnPair, on_drop: OnDrop) -> Synchronizer:
    """The synchroniser named `backend`; auto is builtin, wherever it runs.

    Args:
        backend: one of `BACKENDS`.
        slop_ns: stamps of a pair differ by this much at most.
        queue_size: images of a kind that wait for a partner.
        on_pair: called with colour and depth.
        on_drop: called with a cause and a count.

    Raises:
        ConfigError: message_filters is asked for, and not installed.
    """
    check_backend(backend)
    if backend == "message_filters":
        return MessageFiltersSynchronizer(slop_ns, queue_size, on_pair, on_drop)
    return PairSynchronizer(slop_ns, queue_size, on_pair, on_drop)


def check_backend(backend: str) -> None:
    """Refuse a backend that is not here.

    Raises:
        ConfigError: message_filters is asked for, and not installed.
    """
    if backend == "message_filters" and find_spec("message_filters") is None:
        raise ConfigError(
            "sync.backend is message_filters, which is not installed: install ros-<distro>-message-filters, or set it "
            "to auto"
        )


class _Pace:
    """How the stamps of one kind of image follow each other."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.newest_ns: int | None = None
        self._gaps: deque[int] = deque(maxlen=_GAPS)
        self._order = StampOrder()

    def follow(self, stamp_ns: int) -> bool:
        """Take the stamp as the newest one; whether the stream has jumped back in time."""
        try:
            jumped = self._order.check(stamp_ns)
        except StampError as error:
            raise StampError(f"{self._name}: {error}") from None
        self._order.accept(stamp_ns)
        if jumped:
            self._gaps.clear()
        elif self.newest_ns is not None:
            self._gaps.append(stamp_ns - self.newest_ns)
        self.newest_ns = stamp_ns
        return jumped

    @property
    def least_gap_ns(self) -> int:
        """No two images of this stream are nearer to each other, as far as one has seen."""
        return min(self._gaps, default=0)


class _Stream(_Pace, Generic[Item]):
    """One kind of image, in order of stamps."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.queue: deque[tuple[int, Item]] = deque()

    def enter(self, stamp_ns: int, item: Item) -> bool:
        """Queue an image; whether the stream has jumped back in time."""
        jumped = self.follow(stamp_ns)
        self.queue.append((stamp_ns, item))
        return jumped

    def settled(self, stamp_ns: int, distance_ns: int) -> bool:
        """Whether no image yet to come can be nearer to `stamp_ns` than one at `distance_ns`."""
        followed = self.newest_ns is not None and self.newest_ns >= stamp_ns
        return followed or 2 * distance_ns < self.least_gap_ns

    def nearest(self, stamp_ns: int) -> int | None:
        """Stamp of the queued image nearest to `stamp_ns`."""
        return min((stamp for stamp, _ in self.queue), key=lambda stamp: abs(stamp - stamp_ns), default=None)

    def take(self, stamp_ns: int) -> tuple[Item, int]:
        """The image of this stamp, and how many older ones went with it."""
        older = 0
        while self.queue:
            stamp, item = self.queue.popleft()
            if stamp == stamp_ns:
                return item, older
            older += 1
        raise StampError(f"{self._name}: no image of stamp {stamp_ns} is waiting")

    def drop_if(self, condition: Callable[[int], bool]) -> int:
        """Drop images by their stamp; how many."""
        before = len(self.queue)
        self.queue = deque((stamp, item) for stamp, item in self.queue if not condition(stamp))
        return before - len(self.queue)


class PairSynchronizer(Generic[Item]):
    """Equal stamps at once; otherwise the nearest within the slop, once no nearer one can come.

    An inexact pair is made when each is the other's nearest, which is known when a later image of
    either kind has come, or at once when the two are nearer than half the streams' smallest gap (the
    inter-message bound of the approximate-time policy in ROS' message_filters). Each image is in one
    pair at most; what is older than a pair is dropped, so pairs come in order of time.
    """

    def __init__(self, slop_ns: int, queue_size: int, on_pair: OnPair, on_drop: OnDrop) -> None:
        self._slop_ns, self._queue_size = slop_ns, queue_size
        self._on_pair, self._on_drop = on_pair, on_drop
        self._color: _Stream[Item] = _Stream("color")
        self._depth: _Stream[Item] = _Stream("depth")

    def add_color(self, stamp_ns: int, item: Item) -> None:
        """Take a colour image; raises StampError for a stamp that is repeated or a little too old."""
        self._add(self._color, self._depth, stamp_ns, item)

    def add_depth(self, stamp_ns: int, item: Item) -> None:
        """Take a depth image; raises StampError for a stamp that is repeated or a little too old."""
        self._add(self._depth, self._color, stamp_ns, item)

    def _add(self, stream: _Stream[Item], other: _Stream[Item], stamp_ns: int, item: Item) -> None:
        if stream.enter(stamp_ns, item):
            self._after_jump(stream, other, stamp_ns)
        while self._pair_oldest():
            pass
        for full, cause in ((self._color, COLOR_ALONE), (self._depth, DEPTH_ALONE)):
            while len(full.queue) > self._queue_size:
                full.queue.popleft()
                self._on_drop(cause, 1)

    def _after_jump(self, stream: _Stream[Item], other: _Stream[Item], stamp_ns: int) -> None:
        """Drop what is from before the jump; the other stream may have jumped already, or will."""
        self._count(stream, stream.drop_if(lambda stamp: stamp > stamp_ns))
        self._count(other, other.drop_if(lambda stamp: abs(stamp - stamp_ns) > JUMP_NS))
        if not other.queue:
            other.newest_ns = None

    def _pair_oldest(self) -> bool:
        """Make the oldest pair that is certain, or drop one colour image without hope; whether to look again."""
        for color_ns, _ in self._color.queue:
            depth_ns = self._depth.nearest(color_ns)
            distance_ns = abs(depth_ns - color_ns) if depth_ns is not None else self._slop_ns + 1
            if depth_ns is not None and distance_ns <= self._slop_ns and self._color.nearest(depth_ns) == color_ns:
                settled = self._depth.settled(color_ns, distance_ns) and self._color.settled(depth_ns, distance_ns)
                if settled:
                    self._emit(color_ns, depth_ns)
                    return True
            elif self._depth.newest_ns is not None and self._depth.newest_ns > color_ns + self._slop_ns:
                self._color.drop_if(lambda stamp, hopeless=color_ns: stamp == hopeless)  # type: ignore[misc]
                self._on_drop(COLOR_ALONE, 1)
                return True
        return False

    def _emit(self, color_ns: int, depth_ns: int) -> None:
        color, older_colors = self._color.take(color_ns)
        depth, older_depths = self._depth.take(depth_ns)
        self._count(self._color, older_colors)
        self._count(self._depth, older_depths)
        self._on_pair(color, depth)

    def _count(self, stream: _Stream[Item], count: int) -> None:
        if count:
            self._on_drop(COLOR_ALONE if stream is self._color else DEPTH_ALONE, count)


class MessageFiltersSynchronizer:
    """ROS' own approximate synchroniser, but for pairs that it makes too early; items must be messages with a header.

    It pairs whatever lies within the slop as soon as it comes. Where the slop exceeds the period, as 20 ms do at
    60 Hz, one lost image makes it pair each image with the one before its own partner from then on. So a
    pair of unequal stamps is taken only if the two are nearer than half the streams' smallest gap, when no
    nearer partner can exist or come; of another the older one is dropped, and the newer one goes on waiting.
    What is older than a pair is dropped with it, so that nothing waits for a partner that cannot come any more.
    """

    def __init__(self, slop_ns: int, queue_size: int, on_pair: OnPair, on_drop: OnDrop) -> None:
        from message_filters import ApproximateTimeSynchronizer, SimpleFilter

        self._on_pair, self._on_drop = on_pair, on_drop
        self._inputs = (SimpleFilter(), SimpleFilter())
        # Its slop excludes the bound itself.
        self._synchronizer = ApproximateTimeSynchronizer(list(self._inputs), queue_size, (slop_ns + 1) * 1e-9)
        self._synchronizer.registerCallback(self._paired)
        self._paces = (_Pace("color"), _Pace("depth"))
        self._unaccounted = [0, 0]  # images that came and are in no pair and in no count yet
        self._back: tuple[int, Any] | None = None  # which queue an image goes back to that lost its partner
        self._made: tuple[int, int] | None = None  # stamps of the pair that was taken

    def add_color(self, stamp_ns: int, item: Any) -> None:
        """Take a colour image; raises StampError for a stamp that is repeated or a little too old."""
        self._add(0, stamp_ns, item)

    def add_depth(self, stamp_ns: int, item: Any) -> None:
        """Take a depth image; raises StampError for a stamp that is repeated or a little too old."""
        self._add(1, stamp_ns, item)

    def _add(self, index: int, stamp_ns: int, item: Any) -> None:
        if self._paces[index].follow(stamp_ns):
            # Full queues throw out their oldest stamp, which after a jump would be the new image.
            for queue in self._synchronizer.queues:
                for stamp in [s for s in queue if abs(s - stamp_ns) > JUMP_NS or s > stamp_ns]:
                    del queue[stamp]
        self._unaccounted[index] += 1
        self._inputs[index].signalMessage(item)
        if self._back is not None:  # by now, message_filters has taken both out of its queues
            kind, newer = self._back
            self._back = None
            self._synchronizer.queues[kind][stamp_ns_of(newer.header.stamp)] = newer
        if self._made is not None:
            for queue, made_ns in zip(self._synchronizer.queues, self._made, strict=True):
                for stamp in [s for s in queue if s < made_ns]:
                    del queue[stamp]
            self._made = None
        for kind, cause in enumerate((COLOR_ALONE, DEPTH_ALONE)):
            lost = self._unaccounted[kind] - len(self._synchronizer.queues[kind])
            if lost > 0:
                self._unaccounted[kind] -= lost
                self._on_drop(cause, lost)

    def _paired(self, color: Any, depth: Any) -> None:
        color_ns, depth_ns = stamp_ns_of(color.header.stamp), stamp_ns_of(depth.header.stamp)
        ahead_ns = color_ns - depth_ns
        if ahead_ns and 2 * abs(ahead_ns) >= min(pace.least_gap_ns for pace in self._paces):
            self._back = (0, color) if ahead_ns > 0 else (1, depth)
            return
        self._made = (color_ns, depth_ns)
        self._unaccounted[0] -= 1
        self._unaccounted[1] -= 1
        self._on_pair(color, depth)
