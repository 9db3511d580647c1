"""Whether the images' stamps go with the time that passes, and with the node's clock."""

from __future__ import annotations

import time
from collections.abc import Callable

LEAP_S = 10.0  # stamps that run ahead of the time that has passed by more have leapt
SAME_CLOCK_S = 60.0  # an image farther than this from the node's clock has the stamp of another one

_SAY_AGAIN_S = 30.0  # a bag that is played many times too fast leaps with every frame


class ClockWatch:
    """Looks at each frame's stamp, and says once what is strange about it. It changes nothing.

    Stamps that go back are no matter of its: `Perception.step` forgets what is to be forgotten and says so.

    Args:
        now_ns: the node's clock.
        simulated: whether that is `/clock`, by `use_sim_time`.
        passed_s: seconds that never go back.
    """

    def __init__(
        self, now_ns: Callable[[], int], simulated: Callable[[], bool], passed_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._now_ns, self._simulated, self._passed_s = now_ns, simulated, passed_s
        self._newest: tuple[int, float] | None = None
        self._said_s = -_SAY_AGAIN_S
        self._other_clock: bool | None = None

    def look(self, stamp_ns: int) -> list[str]:
        """What people should know about this frame's stamp; nothing where all is well or has been said."""
        return [note for note in (self._leap(stamp_ns), self._clock(stamp_ns)) if note]

    def age_s(self, stamp_ns: int) -> float | None:
        """How old the image is by the node's clock; None where its stamp is of another one."""
        age_s = (self._now_ns() - stamp_ns) * 1e-9
        return age_s if abs(age_s) <= SAME_CLOCK_S else None

    def _leap(self, stamp_ns: int) -> str:
        before, passed_s = self._newest, self._passed_s()
        self._newest = (stamp_ns, passed_s)
        if before is None:
            return ""
        stamps_s, went_s = (stamp_ns - before[0]) * 1e-9, passed_s - before[1]
        if stamps_s - went_s <= LEAP_S or passed_s - self._said_s < _SAY_AGAIN_S:
            return ""
        self._said_s = passed_s
        return (
            f"the images' stamps leapt ahead by {stamps_s:.1f} s to {stamp_ns * 1e-9:.3f} s while {went_s:.1f} s went "
            "by; objects are kept. If it was no pause in a bag: check that the camera's clock is not being set (chrony "
            "with slew only), and that one driver or bag publishes on the topic"
        )

    def _clock(self, stamp_ns: int) -> str:
        now_ns, before = self._now_ns(), self._other_clock
        simulated = self._simulated()
        silent = simulated and now_ns == 0
        self._other_clock = silent or self.age_s(stamp_ns) is None
        if not self._other_clock or before:
            return ""
        if silent:
            return (
                "use_sim_time is set, and no /clock has come: ages of images are not known, nor when transforms are "
                "late. Play the bag with --clock, or set use_sim_time to false"
            )
        by_s = (now_ns - stamp_ns) * 1e-9
        where = f"the images' stamps are {abs(by_s):.0f} s {'before' if by_s > 0 else 'after'} the node's clock, "
        if simulated:
            return f"{where}which is /clock: for a camera set use_sim_time to false; a bag is to give its own --clock"
        return (
            f"{where}which is this machine's: for a bag set use_sim_time to true and play it with --clock; for a "
            "camera set its clock (chrony), else ages are not known and transforms of other machines do not fit"
        )
