"""Less and less memory: the steps that are taken when it runs out, one at a time, and taken back later.

    give back what torch caches, try again
    objects in turns: half of them at a time, a quarter, ..., one
    keep the image features of the newest frame only
    (the tracker is made anew:) in half precision, on the CPU

A step that has been taken stays until memory has sufficed for a while; then it is taken back, the last
one first. Where that proves too early, the next attempt waits twice as long.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from sam_perception.errors import DeviceMemoryError
from sam_perception.segmentation.device_memory import first_words, is_device_memory_error, release_cached_memory

T = TypeVar("T")

_LONGEST = 32  # times the usual wait


class Place(Enum):
    """Where and in which number format the network computes."""

    CONFIGURED = "as configured"
    HALF = "in half precision"
    CPU = "on the CPU"


@dataclass(frozen=True)
class Step:
    """One step down; what it sets stays in force below it."""

    text: str  # what is done from now on
    turns: int = 0  # objects at a time; 0: all
    one_frame: bool = False  # image features of the newest frame only
    place: Place | None = None  # the tracker has to be made anew


def steps_for(max_objects: int, places: tuple[Place, ...]) -> tuple[Step, ...]:
    """All steps, in the order in which they are taken."""
    steps = [Step("torch's cache is emptied")]
    turns = max_objects // 2
    while turns:
        steps.append(Step(f"objects go in turns of {turns}", turns=turns))
        turns //= 2
    steps.append(Step("image features of the newest frame only are kept", one_frame=True))
    steps += [Step(f"inference goes on {place.value}", place=place) for place in places]
    return tuple(steps)


class MemoryLadder:
    """Which steps are taken.

    Args:
        steps: see `steps_for`.
        recover_s: undisturbed time after which a step is taken back.
        clock: seconds that never go back.
    """

    def __init__(self, steps: tuple[Step, ...], recover_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._steps, self._recover_s, self._clock = steps, recover_s, clock
        self._taken = 0
        self._wait_s = recover_s
        self._since_s = clock()
        self._tried_back = False  # the newest move was one back
        self._notes: list[str] = []

    @property
    def taken(self) -> tuple[Step, ...]:
        """Steps in force, the first one first."""
        return self._steps[: self._taken]

    @property
    def turns(self) -> int:
        """Objects that may go through the network at a time; 0: all."""
        if self.place is Place.CPU:
            return 0  # the host has more memory, and less time
        return next((step.turns for step in reversed(self.taken) if step.turns), 0)

    @property
    def one_frame(self) -> bool:
        """Whether image features of the newest frame only are to be kept."""
        return self.place is not Place.CPU and any(step.one_frame for step in self.taken)

    @property
    def place(self) -> Place:
        """Where the network is to compute."""
        return next((step.place for step in reversed(self.taken) if step.place), Place.CONFIGURED)

    @property
    def summary(self) -> str:
        """What is different now, in words; "" while nothing is."""
        if not self._taken:
            return ""
        return f"device memory is short: {self.taken[-1].text} (step {self._taken} of {len(self._steps)})"

    def attempt(self, work: Callable[[], T]) -> T:
        """What `work` returns, done again with less each time that memory runs out.

        Raises:
            DeviceMemoryError: the next step needs another tracker, or there is none.
        """
        while True:
            try:
                return work()
            except Exception as error:
                if isinstance(error, DeviceMemoryError) or not is_device_memory_error(error):
                    raise
                seen = first_words(error)
            # Outside of the handler: the traceback would keep the tensors of the failed attempt alive.
            if self._taken == len(self._steps) or self._steps[self._taken].place is not None:
                raise DeviceMemoryError(self._nothing_left(seen))
            self.step_down(seen)

    def step_down(self, seen: str) -> Step | None:
        """Take the next step because of what was `seen`, and give back what can be; None: there is no further one."""
        if self._taken == len(self._steps):
            return None
        if self._tried_back and self._clock() - self._since_s < self._wait_s:
            self._wait_s = min(2 * self._wait_s, _LONGEST * self._recover_s)
        step = self._steps[self._taken]
        self._taken += 1
        self._since_s, self._tried_back = self._clock(), False
        self._notes.append(f"{seen.rstrip('.')}: {step.text}")
        release_cached_memory()
        return step

    def step_to_place(self, seen: str) -> bool:
        """Take all steps down to the next place, as a model needs that does not even fit; whether there is one."""
        ahead = [number for number in range(self._taken, len(self._steps)) if self._steps[number].place]
        if not ahead:
            return False
        self._taken = ahead[0]
        self.step_down(seen)
        return True

    def due_back(self) -> Step | None:
        """The step that may be taken back now, if any."""
        quiet_s = self._clock() - self._since_s
        if self._taken and quiet_s >= self._wait_s:
            return self._steps[self._taken - 1]
        if not self._taken and self._tried_back and quiet_s >= self._wait_s:
            self._wait_s, self._tried_back = self._recover_s, False  # it has lasted: no longer suspicious
        return None

    def step_back(self) -> None:
        """Take the last step back."""
        self._taken -= 1
        step = self._steps[self._taken]
        self._since_s, self._tried_back = self._clock(), True
        self._notes.append(f"device memory has sufficed for {self._wait_s:.0f} s: no longer so that {step.text}")

    def note(self, text: str) -> None:
        """Have this said with what has changed."""
        self._notes.append(text)

    def take_notes(self) -> tuple[str, ...]:
        """What has changed since this was asked last."""
        notes, self._notes = tuple(self._notes), []
        return notes

    def _nothing_left(self, seen: str) -> str:
        tried = "; ".join(step.text for step in self.taken)
        although = f", although {tried}" if tried else ""
        cure = "end what else uses this device, track fewer objects, or choose a smaller model"
        return f"{seen.rstrip('.')}{although}: {cure}"
