"""Pairs from two streams, with both backends where both are there."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from importlib.util import find_spec

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sensor_msgs.msg import Image

from sam_perception.errors import StampError
from sam_perception.ros.synchronizer import (
    COLOR_ALONE,
    DEPTH_ALONE,
    MessageFiltersSynchronizer,
    PairSynchronizer,
    Synchronizer,
    make_synchronizer,
)

MS = 1_000_000
SECOND = 1000 * MS


def message(stamp_ns: int) -> Image:
    image = Image()
    image.header.stamp.sec, image.header.stamp.nanosec = divmod(stamp_ns, SECOND)
    return image


def stamp_of(image: Image) -> int:
    return int(image.header.stamp.sec) * SECOND + int(image.header.stamp.nanosec)


@dataclass
class Bench:
    """A synchroniser and what it handed out."""

    backend: str = "builtin"
    slop_ns: int = 20 * MS
    queue_size: int = 10
    pairs: list[tuple[int, int]] = field(default_factory=list)
    drops: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.synchronizer: Synchronizer = make_synchronizer(
            self.backend,
            slop_ns=self.slop_ns,
            queue_size=self.queue_size,
            on_pair=lambda color, depth: self.pairs.append((stamp_of(color), stamp_of(depth))),
            on_drop=lambda cause, count: self.drops.update({cause: count}),
        )

    def color(self, *stamps_ns: int) -> None:
        for stamp in stamps_ns:
            self.synchronizer.add_color(stamp, message(stamp))

    def depth(self, *stamps_ns: int) -> None:
        for stamp in stamps_ns:
            self.synchronizer.add_depth(stamp, message(stamp))


@pytest.fixture(params=["builtin", "message_filters"])
def bench(request: pytest.FixtureRequest) -> Bench:
    if request.param == "message_filters" and find_spec("message_filters") is None:
        pytest.skip("message_filters is not installed; it comes with ROS 2, not with the wheels")
    return Bench(request.param)


def test_equal_stamps_are_paired_at_once_in_any_order(bench: Bench) -> None:
    bench.color(SECOND)
    bench.depth(SECOND)
    bench.depth(2 * SECOND)
    bench.color(2 * SECOND)
    assert bench.pairs == [(SECOND, SECOND), (2 * SECOND, 2 * SECOND)]
    assert bench.drops == {}


def test_images_without_a_partner_are_counted_by_kind(bench: Bench) -> None:
    for i in range(1, 41):
        bench.color(i * SECOND)
        if i % 4 == 0:
            bench.depth(i * SECOND)
    bench.depth(*(i * SECOND for i in range(41, 61)))
    assert len(bench.pairs) == 10
    # Queues hold ten: what came earlier and is in no pair has been counted.
    assert bench.drops[COLOR_ALONE] >= 20
    assert bench.drops[DEPTH_ALONE] == 10


def test_beyond_the_slop_nothing_is_paired(bench: Bench) -> None:
    for i in range(1, 31):
        bench.color(i * SECOND)
        bench.depth(i * SECOND + 21 * MS)
    assert bench.pairs == []
    bench.color(40 * SECOND)
    bench.depth(40 * SECOND + 20 * MS)
    bench.color(41 * SECOND)
    assert bench.pairs == [(40 * SECOND, 40 * SECOND + 20 * MS)]


def test_repeated_and_late_images_are_refused(bench: Bench) -> None:
    bench.color(SECOND)
    with pytest.raises(StampError, match=r"^color: stamp 1\.000000 s is repeated"):
        bench.color(SECOND)
    bench.depth(SECOND)
    with pytest.raises(StampError, match=r"^depth: stamp 0\.990000 s is 10\.0 ms older"):
        bench.depth(SECOND - 10 * MS)
    assert bench.pairs == [(SECOND, SECOND)]


@pytest.mark.parametrize("full", [False, True])
def test_after_a_jump_back_pairs_go_on(bench: Bench, full: bool) -> None:
    if full:  # images that wait must not be in the way of new ones
        bench.color(*((200 + i) * SECOND for i in range(10)))
        bench.depth(*((300 + i) * SECOND for i in range(10)))
    bench.color(100 * SECOND if not full else 400 * SECOND)
    bench.pairs.clear()
    for i in range(1, 6):
        bench.color(i * SECOND)
        bench.depth(i * SECOND)
    assert bench.pairs == [(i * SECOND, i * SECOND) for i in range(1, 6)]


def test_depth_that_is_always_a_little_early_is_paired_without_waiting() -> None:
    bench = Bench()
    for i in range(1, 5):
        bench.depth(i * 33 * MS - 5 * MS)
        bench.color(i * 33 * MS)
        if i >= 3:  # the streams' gaps are known: no nearer depth can come
            assert bench.pairs[-1] == (i * 33 * MS, i * 33 * MS - 5 * MS)
    assert len(bench.pairs) == 4


def test_depth_that_is_always_a_little_late_is_paired_without_waiting() -> None:
    bench = Bench()
    for i in range(1, 6):
        bench.color(i * 33 * MS)
        bench.depth(i * 33 * MS + 5 * MS)
        if i >= 3:
            assert bench.pairs[-1] == (i * 33 * MS, i * 33 * MS + 5 * MS)


def test_the_exact_partner_is_waited_for_although_a_near_one_is_there() -> None:
    bench = Bench(slop_ns=40 * MS)
    bench.depth(100 * MS)  # of a colour image that was lost
    bench.color(133 * MS)
    assert bench.pairs == []
    bench.depth(133 * MS)
    assert bench.pairs == [(133 * MS, 133 * MS)]
    assert bench.drops == {DEPTH_ALONE: 1}


def test_a_colour_image_whose_depth_is_lost_does_not_take_the_next_ones() -> None:
    bench = Bench(slop_ns=40 * MS)
    for i in range(1, 6):
        bench.color(i * 33 * MS)
        if i != 3:
            bench.depth(i * 33 * MS)
    assert bench.pairs == [(i * 33 * MS, i * 33 * MS) for i in (1, 2, 4, 5)]
    assert bench.drops == {COLOR_ALONE: 1}


def test_an_unknown_backend_falls_to_what_is_there() -> None:
    expected = MessageFiltersSynchronizer if find_spec("message_filters") else PairSynchronizer
    assert isinstance(Bench("auto").synchronizer, expected)


@settings(max_examples=80, deadline=None)
@given(
    jitter=st.lists(st.integers(-6, 6), min_size=5, max_size=40),
    lost_colors=st.sets(st.integers(0, 39)),
    lost_depths=st.sets(st.integers(0, 39)),
    depth_first=st.booleans(),
)
def test_of_jittered_streams_with_losses_exactly_the_true_pairs_are_made(
    jitter: list[int], lost_colors: set[int], lost_depths: set[int], depth_first: bool
) -> None:
    bench = Bench(slop_ns=14 * MS, queue_size=50)
    sent = []
    for i, offset in enumerate(jitter):
        color_ns, depth_ns = (i + 1) * 33 * MS, ((i + 1) * 33 + offset) * MS
        calls = [(bench.color, color_ns)] * (i not in lost_colors) + [(bench.depth, depth_ns)] * (i not in lost_depths)
        for add, stamp in calls[::-1] if depth_first else calls:
            add(stamp)
        if i not in lost_colors and i not in lost_depths:
            sent.append((color_ns, depth_ns))
    end_ns = (len(jitter) + 10) * 33 * MS
    bench.color(end_ns)
    bench.depth(end_ns)
    # Truth by construction: offsets are far below half a period, so the pair of one index is the only sensible one.
    assert bench.pairs == [*sent, (end_ns, end_ns)]
    single = [i for i in range(len(jitter)) if (i in lost_colors) != (i in lost_depths)]
    assert sum(bench.drops.values()) == len(single)
