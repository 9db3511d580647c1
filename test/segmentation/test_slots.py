"""Ids are not slots."""

from __future__ import annotations

import pytest

from sam_perception.errors import NoFreeSlot, UnknownObject
from sam_perception.segmentation.slots import SlotMap


def test_lowest_free_slot_first() -> None:
    slots = SlotMap(3)
    assert [slots.take(i) for i in (900, 7, 65535)] == [0, 1, 2]
    assert slots.release(7) == 1
    assert slots.ids == (900, 65535)
    assert slots.take(12) == 1
    assert slots.ids == (900, 12, 65535)
    assert slots.take(12) == 1


def test_no_free_slot_names_who_has_them() -> None:
    slots = SlotMap(1)
    slots.take(5)
    with pytest.raises(NoFreeSlot, match=r"object 6 .*1 objects \[5\].*max_objects"):
        slots.take(6)


def test_unknown_object() -> None:
    slots = SlotMap(1)
    with pytest.raises(UnknownObject, match="no object 3"):
        slots.slot(3)
    with pytest.raises(UnknownObject):
        slots.release(3)
