"""What is attended to, against the rule written down naively; and that what is read is what was written."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import random_model, small_config

from sam_perception.segmentation import memory_bank
from sam_perception.segmentation.attention import MemoryAttention
from sam_perception.segmentation.ledger import BankShape, Ledger
from sam_perception.segmentation.memory_bank import MemoryBank

WINDOW, POINTER_WINDOW, HISTORY = 6, 15, 3
LAST_ROW = 6  # of the temporal encodings: prompted frames
POSITION = torch.ones(1, 16, 64)


@functools.cache
def _attention() -> MemoryAttention:
    with torch.inference_mode():
        return MemoryAttention(random_model(small_config(64)))


def _bank(slots: int, conditioning: int, lasting: int = 0) -> MemoryBank:
    shape = BankShape(slots, conditioning, WINDOW, POINTER_WINDOW, HISTORY, 16, 128, 64, lasting)
    return MemoryBank(shape, _attention(), POSITION)


def _write(bank: MemoryBank, slots: list[int], frame: int, prompted: list[bool]) -> None:
    """A memory's values say its slot and frame."""
    values = torch.tensor([100.0 * slot + frame for slot in slots])
    memories = values[:, None, None].expand(-1, 16, 64)
    bank.write(slots, frame, memories, values[:, None].expand(-1, 128), prompted)


def _kept(prompted: list[int], places: int) -> list[int]:
    """The first prompted frame and the latest ones."""
    return prompted if len(prompted) <= places else [*prompted[:1][: places - 1], *prompted[-max(1, places - 1) :]]


@settings(max_examples=60, deadline=None)
@given(
    prompts=st.lists(st.booleans(), min_size=0, max_size=30),
    places=st.integers(1, 3),
    begin=st.integers(0, 12),
)
def test_selection_is_sam_2_s_rule(prompts: list[bool], places: int, begin: int) -> None:
    bank = _bank(1, places)
    with torch.inference_mode():
        history = [True, *prompts]  # an object begins with a prompt
        for age, prompted in enumerate(history):
            _write(bank, [0], begin + age, [prompted])
    now = begin + len(history)
    conditioning = _kept([begin + k for k, p in enumerate(history) if p], places)
    recent = [f for f in range(begin, now) if f not in conditioning]
    want = {(f, now - f - 1) for f in recent if now - f <= WINDOW} | {(f, LAST_ROW) for f in conditioning}
    want_pointers = {(f, now - f) for f in recent if now - f <= POINTER_WINDOW} | {(f, now - f) for f in conditioning}
    selection = bank.ledger.select([0], now)
    frames = bank.values([0], selection)[0, : 16 * selection.places.shape[1], 0].view(-1, 16)[:, 0]
    assert {(int(f), int(t)) for f, t in zip(frames, selection.temporal[0], strict=True)} == want
    pointed = bank.pointers([0], selection)[0, :, 0]
    assert {(int(f), int(a)) for f, a in zip(pointed, selection.pointer_ages[0], strict=True)} == want_pointers
    assert bank.mask(selection) is None


def test_rows_of_different_ages_are_padded_and_masked() -> None:
    bank = _bank(3, 2)
    with torch.inference_mode():
        for frame in range(9):
            slots = [slot for slot, begin in ((0, 0), (2, 5), (1, 8)) if frame >= begin]
            _write(bank, slots, frame, [frame in (0, 5, 8) and slot == {0: 0, 5: 2, 8: 1}[frame] for slot in slots])
        selection = bank.ledger.select([1, 0, 2], 9)
        assert selection.memory_valid.sum(axis=1).tolist() == [1, 7, 4]
        assert selection.pointer_valid.sum(axis=1).tolist() == [1, 9, 4]
        mask, values = bank.mask(selection), bank.values([1, 0, 2], selection)
        assert mask is not None
        assert mask.shape == values.shape[:2]
        for row, (slot, frames) in enumerate([(1, {8}), (0, {0, 3, 4, 5, 6, 7, 8}), (2, {5, 6, 7, 8})]):
            memories = values[row, : 16 * selection.places.shape[1], 0][mask[row, : 16 * selection.places.shape[1]]]
            assert {int(v) - 100 * slot for v in memories} == frames


@pytest.mark.parametrize("limit", [0, 1 << 30], ids=["projected when read", "kept projected"])
def test_keys_are_projected_rotated_and_shifted_in_time(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_bank, "KEY_LIMIT_BYTES", limit)
    bank = _bank(2, 2)
    assert bool(bank._keys) == bool(limit)
    attention = _attention()
    memories = torch.randn(2, 16, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        bank.write([0, 1], 0, memories, torch.zeros(2, 128), [True, True])
        bank.write([0, 1], 1, memories + 2, torch.zeros(2, 128), [False, False])
        bank.write([0, 1], 2, memories + 5, torch.zeros(2, 128), [False, False])
        selection = bank.ledger.select([1, 0], 3)
        none = torch.zeros(2, 0, attention.width)
        for layer in range(len(attention.layers)):
            keys = bank.keys(layer, [1, 0], selection, none)
            table = attention.layers[layer].temporal_keys
            newest = attention.memory_keys(layer, memories + 6)[[1, 0]] + table[0]
            recent = attention.memory_keys(layer, memories + 3)[[1, 0]] + table[1]
            prompted = attention.memory_keys(layer, memories + 1)[[1, 0]] + table[LAST_ROW]
            torch.testing.assert_close(keys, torch.cat([newest, recent, prompted], dim=1), atol=1e-5, rtol=1e-5)


def test_forgetting() -> None:
    bank = _bank(2, 2)
    with torch.inference_mode():
        for frame in range(5):
            _write(bank, [0, 1], frame, [frame == 0, frame in (0, 2)])
    bank.ledger.discard(0, 3)
    bank.ledger.discard(1, 2)  # prompted: stays
    assert bank.ledger.select([0, 1], 5).memory_valid.sum(axis=1).tolist() == [4, 5]
    bank.ledger.clear_recent()
    assert bank.ledger.select([0, 1], 5).memory_valid.sum(axis=1).tolist() == [1, 2]
    assert bank.ledger.conditioning_frames(1) == (0, 2)
    bank.ledger.clear(1)
    assert bank.ledger.conditioning_frames(1) == ()
    np.testing.assert_array_equal(bank.ledger.select([0], 5).pointer_ages, [[5]])


def _read(bank: MemoryBank, slot: int, frame: int) -> list[tuple[int, int]]:
    """Frame, by what the values say, and row of the temporal encoding of each memory."""
    selection = bank.ledger.select([slot], frame)
    values = bank.values([slot], selection)[0, : 16 * selection.places.shape[1], 0].view(-1, 16)[:, 0]
    return [(int(v) - 100 * slot, int(row)) for v, row in zip(values, selection.temporal[0], strict=True)]


def test_refused_frames_do_not_push_out_those_that_are_remembered() -> None:
    bank = _bank(2, 1)
    with torch.inference_mode():
        for frame in range(40):
            _write(bank, [0, 1], frame, [frame == 0, frame == 0])
            if frame >= 8 and frame != 20:
                bank.ledger.discard(1, frame)
    assert _read(bank, 1, 40) == [(20, 0), (7, 1), (6, 2), (5, 3), (4, 4), (3, 5), (0, LAST_ROW)]
    assert _read(bank, 0, 40) == [(39, 0), (38, 1), (37, 2), (36, 3), (35, 4), (34, 5), (0, LAST_ROW)]
    pointers = bank.ledger.select([1], 40)
    assert pointers.pointer_ages[0, -1] == 40  # of the prompted frame
    assert pointers.pointer_ages[0, :-1].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]


def test_lasting_frames_outlive_recent_ones_and_carry_no_age() -> None:
    bank = _bank(2, 1, lasting=2)
    with torch.inference_mode():
        for frame in range(30):
            _write(bank, [0, 1], frame, [frame == 0, frame == 0])
            if frame in (3, 9, 14):
                bank.keep(1, frame)
                bank.keep(1, frame)  # a second time changes nothing
        bank.keep(1, 2)  # long gone
        bank.keep(1, 0)  # prompted
    assert bank.ledger.lasting_frames(1) == (9, 14)
    recent = [(29, 0), (28, 1), (27, 2), (26, 3), (25, 4), (24, 5)]
    assert sorted(_read(bank, 1, 30)) == sorted([*recent, (0, LAST_ROW), (9, LAST_ROW), (14, LAST_ROW)])
    assert _read(bank, 0, 30) == [*recent, (0, LAST_ROW)]
    ages = bank.ledger.select([1], 30).pointer_ages[0].tolist()
    assert sorted(ages) == [*range(1, 16), 16, 21, 30]
    # A frame that is kept for longer is not attended to twice, and a late prompt before it does not see it.
    assert sorted(f for f, _ in _read(bank, 1, 15)) == [0, 9, 14]
    bank.ledger.clear_recent()
    assert bank.ledger.lasting_frames(1) == (9, 14)
    with torch.inference_mode():
        _write(bank, [1], 30, [True])
    assert bank.ledger.lasting_frames(1) == ()  # somebody corrected the object


def _attended(ledger: Ledger, frame: int) -> tuple[list[int], list[int]]:
    """Recent frames whose memories, and whose pointers, slot 0 attends to in a frame, youngest first."""
    selection = ledger.select([0], frame)
    memories = ledger._frames[0][selection.places[0][selection.memory_valid[0]]]
    pointers = ledger._pointer_frames[0][selection.pointer_places[0][selection.pointer_valid[0]]]
    return memories.tolist(), pointers.tolist()


@pytest.mark.parametrize("cache", [1, 2, 4, 16])
@pytest.mark.parametrize("gaps", [0.0, 0.3, 0.5, 0.66, 0.8])
def test_late_prompts_and_gaps_attend_to_what_a_memory_without_end_would_give(cache: int, gaps: float) -> None:
    """Frames are missed (another's turn) or refused (by a policy), and prompts are worked off some frames at a time."""
    rng = np.random.default_rng([cache, round(100 * gaps)])
    for _ in range(40):
        shape = BankShape(1, 1, WINDOW, POINTER_WINDOW, cache - 1, 16, 128, 64)
        ledger, remembered, way = Ledger(shape), set[int](), None
        for newest in range(60):
            oldest = max(0, newest - cache + 1)
            if rng.random() < 0.1:
                late = int(rng.integers(oldest, newest + 1))
                way = late if way is None else min(way, late)
            for _ in range(2):
                if way is not None and way < newest:
                    _check(ledger, remembered, way)
                    way += 1
            way = None if way is not None and way >= newest else way
            if rng.random() < gaps / 2:
                continue
            _check(ledger, remembered, newest)
            if rng.random() < gaps / 2:
                ledger.discard(0, newest)
                remembered.discard(newest)


def _check(ledger: Ledger, remembered: set[int], frame: int) -> None:
    """Compare what is attended to in a frame, and remember it in both."""
    before = sorted((f for f in remembered if f < frame), reverse=True)
    assert _attended(ledger, frame) == (before[:WINDOW], before[:POINTER_WINDOW])
    ledger.enter([0], frame)
    remembered.add(frame)
