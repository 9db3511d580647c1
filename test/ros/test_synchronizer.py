"""Pairs from two streams, with both backends where both are there."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from importlib.util import find_spec

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sensor_msgs.msg import Image

from sam_perception.errors import ConfigError, StampError
from sam_perception.ros import synchronizer
from sam_perception.ros.synchronizer import (
    COLOR_ALONE,
    DEPTH_ALONE,
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


def test_auto_is_our_own_wherever_it_runs() -> None:
    assert isinstance(Bench("auto").synchronizer, PairSynchronizer)


def test_message_filters_asked_for_and_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synchronizer, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"message_filters, which is not installed.* or set it to auto"):
        Bench("message_filters")


@pytest.mark.parametrize("lost", ["color", "depth"])
@pytest.mark.parametrize("depth_first", [True, False])
def test_one_lost_image_at_60_hz_does_not_shift_the_pairs_after_it(bench: Bench, lost: str, depth_first: bool) -> None:
    """The default slop of 20 ms exceeds the period: the image before is near enough to be taken for the partner."""
    for i in range(1, 41):
        stamp = i * SECOND // 60
        calls = [("color", bench.color), ("depth", bench.depth)]
        for kind, add in calls[::-1] if depth_first else calls:
            if (kind, i) != (lost, 3):
                add(stamp)
    assert bench.pairs == [(i * SECOND // 60,) * 2 for i in range(1, 41) if i != 3]
    assert bench.drops == {DEPTH_ALONE if lost == "color" else COLOR_ALONE: 1}


def test_of_a_constant_offset_no_pair_is_lost_but_those_before_the_period_is_known(bench: Bench) -> None:
    for i in range(1, 31):
        bench.color(i * 33 * MS)
        bench.depth(i * 33 * MS + 5 * MS)
    bench.color(31 * 33 * MS)
    true = [(i * 33 * MS, i * 33 * MS + 5 * MS) for i in range(1, 31)]
    assert set(bench.pairs) <= set(true)
    assert bench.pairs[-28:] == true[-28:]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    backend=st.sampled_from(["builtin", "message_filters"]),
    lost=st.sets(st.tuples(st.sampled_from(["color", "depth"]), st.integers(2, 45)), max_size=12),
    depth_first=st.lists(st.booleans(), min_size=60, max_size=60),
)
def test_whatever_is_lost_at_60_hz_the_pairs_are_true_again_soon_after(
    backend: str, lost: set[tuple[str, int]], depth_first: list[bool]
) -> None:
    if backend == "message_filters" and find_spec("message_filters") is None:
        backend = "builtin"
    bench = Bench(backend)
    for i in range(1, 61):
        calls = [("color", bench.color), ("depth", bench.depth)]
        for kind, add in calls[::-1] if depth_first[i - 1] else calls:
            if (kind, i) not in lost:
                add(i * SECOND // 60)
    ends = [i * SECOND // 60 for i in range(48, 61)]
    assert bench.pairs[-len(ends) :] == [(stamp, stamp) for stamp in ends]
    if backend == "message_filters":  # ours takes a near one where both true partners are lost
        assert all(color == depth for color, depth in bench.pairs)


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
