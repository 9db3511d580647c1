"""Who asks the memory policy, and does as it says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sam_perception.scene import Placement
from sam_perception.segmentation.policy import Keep, MemoryPolicy, Observation
from sam_perception.segmentation.slots import SlotMap


class Judge:
    """Keeps the newest frame's observations until it is decided what is remembered of them.

    Args:
        policy: decides.
        bank: the memories.
        slots: where in the bank each object is.
    """

    def __init__(self, policy: MemoryPolicy, bank: Any, slots: SlotMap) -> None:
        self._policy, self._bank, self._slots = policy, bank, slots
        self._open: tuple[Observation, ...] = ()

    def hear(self, observations: Sequence[Observation]) -> None:
        """Take the observations of a new frame."""
        self._open = tuple(observations)

    def decide(self, placements: Mapping[int, Placement]) -> None:
        """Ask about the observations that are open, with what depth says about them, by object id."""
        observations = [replace(o, placement=placements.get(o.object_id)) for o in self._open]
        self._open = ()
        for seen, keep in zip(observations, self._policy.admit(observations), strict=True):
            slot = self._slots.slot(seen.object_id)
            if Keep.LASTING in keep:
                self._bank.keep(slot, seen.frame)
            if Keep.RECENT not in keep and not seen.prompted:
                self._bank.ledger.discard(slot, seen.frame)

    def skip(self) -> None:
        """What is open is not decided on any more: its memory is gone."""
        self._open = ()

    def forget(self, object_id: int) -> None:
        """The object was removed."""
        self._policy.forget(object_id)
        self._open = tuple(o for o in self._open if o.object_id != object_id)
