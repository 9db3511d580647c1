"""Timestamps of a camera as ROS time, against clocks that run as clocks do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam_perception.errors import StampError
from sam_perception.sources.realsense_stamps import StampClock

HOST_NS = 1_700_000_000 * 10**9
PERIOD_MS = 1000 / 30


def test_host_clocks_are_taken_as_they_are() -> None:
    clock = StampClock()
    for domain in ("global_time", "system_time"):
        assert clock.stamp_ns(1_700_000_000_123.5, domain, HOST_NS + 5) == 1_700_000_000_123_500_000


def hardware(ms: list[float], arrivals_ns: list[int | None]) -> np.ndarray:
    clock = StampClock()
    return np.array([clock.stamp_ns(m, "hardware_clock", a) for m, a in zip(ms, arrivals_ns, strict=True)], np.int64)


@settings(deadline=None, max_examples=40)
@given(
    ppm=st.floats(-100, 100),
    delay_ms=st.floats(1, 30),
    jitter_ms=st.floats(0, 20),
    start_ms=st.floats(0, 4_000_000),
    seed=st.integers(0, 99),
)
def test_a_hardware_clock_follows_the_host_whatever_its_drift(
    ppm: float, delay_ms: float, jitter_ms: float, start_ms: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    true_ms = np.arange(3000) * PERIOD_MS  # 100 s
    device_ms = start_ms + true_ms * (1 + ppm * 1e-6)
    arrival_ms = true_ms + delay_ms + random.exponential(jitter_ms / 3, len(true_ms)).clip(max=jitter_ms)
    stamps = hardware(list(device_ms % (2**32 / 1000)), [HOST_NS + round(a * 1e6) for a in arrival_ms])
    assert (np.diff(stamps) > 0).all()
    late_ms = (stamps - HOST_NS) * 1e-6 - true_ms
    # Late by the delay, early by what the clock drifts within two windows at most.
    settled = late_ms[300:]
    assert settled.min() > delay_ms - 0.02 * abs(ppm) - 0.1
    assert settled.max() < delay_ms + 0.02 * abs(ppm) + jitter_ms / 2 + 0.5
    np.testing.assert_allclose(np.diff(stamps) * 1e-6, PERIOD_MS, rtol=0.06)


def test_a_first_frame_that_came_late_is_made_good_without_going_back() -> None:
    arrivals = [HOST_NS + 800_000_000] + [HOST_NS + round((n * PERIOD_MS + 5) * 1e6) for n in range(1, 900)]
    stamps = hardware([1000 + n * PERIOD_MS for n in range(900)], arrivals)
    assert (np.diff(stamps) > 0).all()
    assert stamps[-1] == pytest.approx(arrivals[-1], abs=1e6)


def test_a_counter_that_rolls_over_goes_on() -> None:
    top_ms = 2**32 / 1000
    device = [top_ms - 50, top_ms - 50 + PERIOD_MS, (top_ms - 50 + 2 * PERIOD_MS) % top_ms]
    stamps = hardware(device, [HOST_NS + round(n * PERIOD_MS * 1e6) for n in range(3)])
    np.testing.assert_allclose(np.diff(stamps) * 1e-6, PERIOD_MS, atol=0.01)


def test_a_camera_that_starts_again_is_mapped_anew() -> None:
    clock = StampClock()
    before = clock.stamp_ns(900_000.0, "hardware_clock", HOST_NS)
    assert clock.stamp_ns(40.0, "hardware_clock", HOST_NS + 10**9) == HOST_NS + 10**9 > before
    clock.restart()
    assert clock.stamp_ns(90.0, "hardware_clock", HOST_NS + 2 * 10**9) == HOST_NS + 2 * 10**9


def test_a_host_clock_that_was_set_is_followed_at_once() -> None:
    clock = StampClock()
    clock.stamp_ns(1000.0, "hardware_clock", HOST_NS)
    later = HOST_NS + 3600 * 10**9
    assert clock.stamp_ns(1033.0, "hardware_clock", later) == later


def test_without_an_arrival_a_hardware_clock_is_left_as_it_is() -> None:
    assert list(hardware([1000.5, 1033.5], [None, None])) == [1_000_500_000, 1_033_500_000]


@pytest.mark.parametrize("bad_ms", [float("nan"), float("inf"), -1.0])
def test_no_stamp_is_made_of_nonsense(bad_ms: float) -> None:
    with pytest.raises(StampError, match="stamped a frame"):
        StampClock().stamp_ns(bad_ms, "global_time", None)


def test_an_unknown_clock_is_refused() -> None:
    with pytest.raises(StampError, match="unknown clock 'lunar'"):
        StampClock().stamp_ns(1.0, "lunar", None)
