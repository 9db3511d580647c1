"""librealsense's timestamps as ROS time.

librealsense stamps frames in milliseconds of one of three clocks:

- `global_time`: the camera's clock, continuously mapped onto the host's by the SDK. ROS time already.
- `system_time`: when the host received the frame (no metadata from the driver). ROS time, late by
  the transfer.
- `hardware_clock`: the camera's own microseconds since it was switched on, 32 bits wide on the D400
  family, so they start again after 71.6 minutes. Mapped here, see `StampClock`.

ROS time is the host's clock here: under `use_sim_time` a live camera's stamps are not simulated ones.
"""

from __future__ import annotations

from sam_perception.errors import StampError

GLOBAL_TIME, SYSTEM_TIME, HARDWARE_CLOCK = "global_time", "system_time", "hardware_clock"

_ROLLOVER_NS = 2**32 * 1000  # 32 bits of microseconds
_WINDOW_NS = 10 * 10**9  # of the search for the frame that was delivered fastest
_MAX_SLEW = 0.05  # of the time between two frames
_CLOCK_SET_NS = 2 * 10**9  # a difference that no delay explains: the host's clock was set
_LONGEST_MS = 2**63 / 1e6


class StampClock:
    """Nanoseconds of ROS time from a frame's timestamp.

    A hardware clock is laid onto the host's by the frames that arrived with the least delay in the
    last ten to twenty seconds, so that a slow or a fast crystal (some 50 ppm, 0.2 s an hour) is
    followed. The mapping moves by at most 5 % of the time between two frames, so that stamps grow and
    intervals stay the camera's own. It is late by the smallest delay between capture and arrival, some
    milliseconds. A counter that rolls over goes on; one that starts again is mapped anew.

    Without an arrival time (a recording without metadata) a hardware clock is left as it is: such
    stamps count from when the camera was switched on.

    Stamps grow, unless the host's clock itself is set back: who takes them has to look for that
    (`stamps.StampOrder`).
    """

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """The camera was opened again: its clock may have started again."""
        self._device_ns: int | None = None
        self._rollovers_ns = 0
        self._offset_ns = 0.0
        self._fastest: list[float] = []  # smallest arrival - device of the last window and of this one
        self._window_start_ns = 0

    def stamp_ns(self, timestamp_ms: float, domain: str, arrival_ns: int | None) -> int:
        """ROS time of a frame.

        Args:
            timestamp_ms: librealsense's, in `domain`.
            domain: global_time, system_time or hardware_clock.
            arrival_ns: when the host received the frame, where that is known.

        Raises:
            StampError: not finite, negative, or of an unknown clock.
        """
        if not 0 <= timestamp_ms < _LONGEST_MS:  # fails for NaN too
            raise StampError(f"librealsense stamped a frame {timestamp_ms} ms: update the camera's firmware")
        # Apart, since a float of today's nanoseconds is only good to 256 of them.
        whole_ms = int(timestamp_ms)
        device_ns = whole_ms * 10**6 + round((timestamp_ms - whole_ms) * 1e6)
        if domain in (GLOBAL_TIME, SYSTEM_TIME):
            return device_ns
        if domain == HARDWARE_CLOCK:
            return self._from_hardware(device_ns, arrival_ns)
        raise StampError(f"librealsense stamped a frame in the unknown clock {domain!r}: update sam_perception")

    def _from_hardware(self, counter_ns: int, arrival_ns: int | None) -> int:
        device_ns, last_ns = counter_ns + self._rollovers_ns, self._device_ns
        if last_ns is not None and device_ns < last_ns:
            if last_ns - device_ns > _ROLLOVER_NS // 2:
                self._rollovers_ns += _ROLLOVER_NS
                device_ns += _ROLLOVER_NS
            else:
                self.restart()
                device_ns, last_ns = counter_ns, None
        self._device_ns = device_ns
        if arrival_ns is None:
            return device_ns
        self._follow(arrival_ns - device_ns, device_ns, last_ns)
        return device_ns + round(self._offset_ns)

    def _follow(self, offset_ns: float, device_ns: int, last_ns: int | None) -> None:
        """Move the offset towards the smallest one of the last windows."""
        if not self._fastest or device_ns - self._window_start_ns > _WINDOW_NS:
            self._fastest = [*self._fastest[-1:], offset_ns]
            self._window_start_ns = device_ns
        self._fastest[-1] = min(self._fastest[-1], offset_ns)
        goal_ns = min(self._fastest)
        if last_ns is None or abs(offset_ns - self._offset_ns) > _CLOCK_SET_NS:
            self._fastest, self._offset_ns = [offset_ns], offset_ns
            return
        reach_ns = _MAX_SLEW * (device_ns - last_ns)
        self._offset_ns += max(-reach_ns, min(reach_ns, goal_ns - self._offset_ns))
