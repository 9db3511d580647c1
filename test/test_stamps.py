"""What counts as disorder in time and what as a jump."""

from __future__ import annotations

import pytest

from sam_perception.errors import StampError
from sam_perception.stamps import StampOrder

MS = 1_000_000


def order_after(*stamps: int) -> StampOrder:
    order = StampOrder()
    for stamp in stamps:
        assert order.check(stamp) is False
        order.accept(stamp)
    return order


def test_ascending_stamps_pass() -> None:
    order_after(0, 1, 33 * MS, 10**15)


def test_a_repeated_stamp_is_refused_as_often_as_it_comes() -> None:
    order = order_after(5 * MS)
    for _ in range(5):
        with pytest.raises(StampError, match=r"0\.005000 s is repeated.*only one driver"):
            order.check(5 * MS)


def test_a_frame_out_of_order_is_refused_and_the_stream_goes_on() -> None:
    order = order_after(100 * MS, 200 * MS)
    with pytest.raises(StampError, match=r"50\.0 ms older"):
        order.check(150 * MS)
    assert order.check(233 * MS) is False


def test_going_back_by_half_a_second_is_a_jump() -> None:
    order = order_after(3_000 * MS)
    assert order.check(2_500 * MS) is True
    order.accept(2_500 * MS)
    assert order.check(2_533 * MS) is False


def test_a_short_bag_that_starts_again_is_followed_after_two_frames() -> None:
    order = order_after(*range(0, 300 * MS, 33 * MS))
    for stamp in (0, 33 * MS):
        with pytest.raises(StampError):
            order.check(stamp)
    assert order.check(66 * MS) is True


def test_a_check_alone_changes_nothing_for_later_stamps() -> None:
    order = order_after(100 * MS)
    assert order.check(500 * MS) is False
    assert order.check(200 * MS) is False


def test_after_reset_any_stamp_will_do() -> None:
    order = order_after(10**12)
    order.reset()
    assert order.check(0) is False
