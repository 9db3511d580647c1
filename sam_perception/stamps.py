"""Whether time goes on in a stream of stamped frames."""

from __future__ import annotations

from sam_perception.errors import StampError

# A driver that hands out frames in the wrong order does so within a few frames; a bag that
# starts again goes back by its length.
JUMP_NS = 500_000_000
# A short bag that starts again looks like disorder at first; so many frames in a row do not.
_LATE_IN_A_ROW = 3


class StampOrder:
    """Watches one stream; stamps in nanoseconds.

    `check` judges a stamp, `accept` takes it as the newest one; a frame that is refused
    for another reason is checked and not accepted.
    """

    def __init__(self) -> None:
        self._newest_ns: int | None = None
        self._late = 0

    def check(self, stamp_ns: int) -> bool:
        """Whether the stream has jumped back to an earlier time and goes on from there.

        Raises:
            StampError: the stamp repeats the newest one, or is a little older than it.
        """
        newest_ns = self._newest_ns
        if newest_ns is None or stamp_ns > newest_ns:
            self._late = 0
            return False
        if stamp_ns == newest_ns:
            raise StampError(
                f"stamp {stamp_ns * 1e-9:.6f} s is repeated: the same frame came twice; "
                "check that only one driver or bag publishes on this topic"
            )
        back_ns = newest_ns - stamp_ns
        self._late += 1
        if back_ns < JUMP_NS and self._late < _LATE_IN_A_ROW:
            raise StampError(
                f"stamp {stamp_ns * 1e-9:.6f} s is {back_ns * 1e-6:.1f} ms older than a frame already seen: "
                "check that only one driver or bag publishes on this topic"
            )
        return True

    def accept(self, stamp_ns: int) -> None:
        """Take the stamp as the newest one."""
        self._newest_ns = stamp_ns
        self._late = 0

    def reset(self) -> None:
        """Any stamp may come next."""
        self._newest_ns = None
        self._late = 0
