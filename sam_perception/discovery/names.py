"""Which names detectors gave, how sure they were, and ids for what they find."""

from __future__ import annotations

from collections.abc import Collection

from sam_perception.errors import PromptError
from sam_perception.prompts import FOUND_IDS_FROM, MAX_OBJECT_ID


class Names:
    """A name counts as a detector's for as long as the object bears it: whoever renames it takes it over."""

    def __init__(self) -> None:
        self._given: dict[int, tuple[str, float]] = {}
        self._next = FOUND_IDS_FROM

    def give(self, object_id: int, label: str, score: float) -> None:
        """Note a detector's name for an object."""
        self._given[object_id] = (label, score)

    def score(self, object_id: int, label: str) -> float:
        """How sure the detector was of this name, 0 where it is not the detector's."""
        given, score = self._given.get(object_id, ("", 0.0))
        return score if given == label else 0.0

    def may_change(self, object_id: int, label: str) -> bool:
        """Whether a detector may name the object: it has no name, or has it from a detector."""
        return not label or self._given.get(object_id, ("", 0.0))[0] == label

    def new_id(self, taken: Collection[int]) -> int:
        """An id for something found; ids count up, so that none is used twice before all were.

        Raises:
            PromptError: there is none left.
        """
        count = MAX_OBJECT_ID + 1 - FOUND_IDS_FROM
        for step in range(count):
            candidate = FOUND_IDS_FROM + (self._next - FOUND_IDS_FROM + step) % count
            if candidate not in taken:
                self._next = candidate + 1
                return candidate
        raise PromptError(f"all ids from {FOUND_IDS_FROM} to {MAX_OBJECT_ID} are in use: remove some objects")

    def forget(self, object_id: int) -> None:
        """Forget one object's name."""
        self._given.pop(object_id, None)

    def clear(self) -> None:
        """Forget all names; ids go on counting."""
        self._given.clear()
