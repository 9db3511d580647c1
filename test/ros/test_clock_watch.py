"""Stamps that leap ahead, and stamps of another clock; by hand."""

from __future__ import annotations

from sam_perception.ros.clock_watch import ClockWatch

SECOND = 10**9


class Clocks:
    """The node's clock and the time that passes."""

    def __init__(self, now_s: float, *, simulated: bool = False) -> None:
        self.now_s, self.passed_s, self.simulated = now_s, 100.0, simulated
        self.watch = ClockWatch(lambda: round(self.now_s * SECOND), lambda: self.simulated, lambda: self.passed_s)

    def look(self, stamp_s: float, after_s: float = 0.1) -> list[str]:
        self.passed_s += after_s
        return self.watch.look(round(stamp_s * SECOND))


def test_a_camera_that_goes_on_is_nothing_to_tell_of() -> None:
    clocks = Clocks(1000.0)
    for i in range(50):
        clocks.now_s = 1000.0 + i / 30
        assert clocks.look(clocks.now_s - 0.02, 1 / 30) == []
    clocks.now_s += 3600
    assert clocks.look(clocks.now_s, 3600) == []  # an hour without images is an hour of stamps


def test_a_leap_ahead_is_told_of_once() -> None:
    clocks = Clocks(1000.0)
    assert clocks.look(1000.0) == []
    clocks.now_s = 1020.0
    (note,) = clocks.look(1020.0)
    assert "leapt ahead by 20.0 s to 1020.000 s while 0.1 s went by; objects are kept" in note
    assert clocks.look(1040.0) == []  # a bag that is played many times too fast leaps with every frame
    clocks.now_s = 1200.0
    assert len(clocks.look(1200.0, 31.0)) == 1


def test_going_back_is_not_its_matter() -> None:
    clocks = Clocks(1000.0)
    assert [clocks.look(stamp) for stamp in (1000.0, 1000.1, 960.0, 960.1)] == [[]] * 4


def test_a_bag_without_sim_time_is_told_of_once_with_the_cure() -> None:
    clocks = Clocks(1_760_000_000.0)
    (note,) = clocks.look(1_700_000_000.0)
    assert note.startswith("the images' stamps are 60000000 s before the node's clock, which is this machine's")
    assert "set use_sim_time to true and play it with --clock" in note
    assert clocks.watch.age_s(1_700_000_000 * SECOND) is None
    assert [clocks.look(1_700_000_000.0 + i) for i in range(1, 5)] == [[]] * 4
    assert clocks.look(1_760_000_000.0, 31.0)[0].startswith("the images' stamps leapt ahead")  # a camera again
    assert len(clocks.look(1_700_000_000.0)) == 1  # and the bag again


def test_a_camera_with_sim_time_is_told_of_with_the_cure() -> None:
    clocks = Clocks(50.0, simulated=True)
    (note,) = clocks.look(1_760_000_000.0)
    assert "s after the node's clock, which is /clock: for a camera set use_sim_time to false" in note


def test_sim_time_without_a_clock_is_told_of_until_one_comes() -> None:
    clocks = Clocks(0.0, simulated=True)
    (note,) = clocks.look(5.0)
    assert "use_sim_time is set, and no /clock has come" in note
    clocks.now_s = 5.2
    assert clocks.look(5.1) == []
    assert clocks.watch.age_s(5 * SECOND) == 0.2
