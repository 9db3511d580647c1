"""Which object lives in which slot of the memory bank."""

from __future__ import annotations

from sam_perception.errors import NoFreeSlot, UnknownObject


class SlotMap:
    """Object ids to slots and back; the lowest free slot is taken first, so that rows stay together."""

    def __init__(self, slots: int) -> None:
        self._slot_of: dict[int, int] = {}
        self._slots = slots

    @property
    def capacity(self) -> int:
        """How many objects fit."""
        return self._slots

    @property
    def ids(self) -> tuple[int, ...]:
        """Ids that have a slot, in order of slot."""
        return tuple(sorted(self._slot_of, key=self._slot_of.__getitem__))

    def __contains__(self, object_id: int) -> bool:
        return object_id in self._slot_of

    def slot(self, object_id: int) -> int:
        """The object's slot.

        Raises:
            UnknownObject: it has none.
        """
        if object_id not in self._slot_of:
            raise UnknownObject(f"no object {object_id} is tracked, there are {sorted(self._slot_of)}")
        return self._slot_of[object_id]

    def take(self, object_id: int) -> int:
        """Give the object a slot, the one it has or the lowest free one.

        Raises:
            NoFreeSlot: all are taken.
        """
        if object_id in self._slot_of:
            return self._slot_of[object_id]
        taken = set(self._slot_of.values())
        free = next((s for s in range(self._slots) if s not in taken), None)
        if free is None:
            raise NoFreeSlot(
                f"object {object_id} has no place: {self._slots} objects {sorted(self._slot_of)} are tracked already; "
                "remove one or raise max_objects"
            )
        self._slot_of[object_id] = free
        return free

    def release(self, object_id: int) -> int:
        """Free the object's slot and return it.

        Raises:
            UnknownObject: it has none.
        """
        slot = self.slot(object_id)
        del self._slot_of[object_id]
        return slot

    def clear(self) -> None:
        """Free every slot."""
        self._slot_of.clear()
