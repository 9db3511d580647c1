"""One frame of several objects: track them into it, let prompts change that, remember what came out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sam_perception.prompts import Prompt
from sam_perception.segmentation.backend import Backend
from sam_perception.segmentation.frames import CachedFrame
from sam_perception.segmentation.network import Decoded
from sam_perception.segmentation.observing import TrackedObject
from sam_perception.segmentation.prompting import Prompter, Tracked
from sam_perception.segmentation.slots import SlotMap


class Advancer:
    """Brings objects into a frame, the newest or one of the past.

    Args:
        network: what computes.
        prompter: applies prompts.
        bank: the network's memories.
        slots: where in the bank each object is.
        objects: everything tracked; those that a prompt was applied to are marked.
    """

    def __init__(
        self, network: Backend, prompter: Prompter, bank: Any, slots: SlotMap, objects: Mapping[int, TrackedObject]
    ) -> None:
        self._network, self._prompter, self._bank = network, prompter, bank
        self._slots, self._objects = slots, objects

    def __call__(
        self, frame: CachedFrame, ids: Sequence[int], prompts: Sequence[Prompt]
    ) -> tuple[tuple[int, ...], Decoded]:
        """Ids and masks of the objects `ids` and of those that `prompts` point at, in order of slot."""
        tracked = self._track(frame, sorted(ids, key=self._slots.slot)) if ids else None
        fresh = frozenset(p.object_id for p in prompts if self._objects[p.object_id].first_frame >= frame.index)
        answered = self._prompter.answer(frame, prompts, tracked, fresh)
        if tracked is None and not answered:
            return (), self._network.nothing()
        ids, decoded = self._merged(tracked, answered)
        prompted = [i in answered for i in ids]
        memories = self._network.memorise(frame.projected(self._network), decoded, prompted)
        slots = [self._slots.slot(i) for i in ids]
        self._bank.write(slots, frame.index, memories, decoded.pointers, prompted)
        frame.logits.update(zip(ids, decoded.logits, strict=True))
        for i in answered:
            self._objects[i].prompted = self._objects[i].begun = True
        return ids, decoded

    def _track(self, frame: CachedFrame, ids: Sequence[int]) -> Tracked:
        network = self._network
        features = frame.features(network)
        slots = [self._slots.slot(i) for i in ids]
        recalled = network.recall(frame.prepared(network), self._bank, slots, frame.index)
        return Tracked(tuple(ids), network.decode(recalled, features), recalled)

    def _merged(self, tracked: Tracked | None, answered: Mapping[int, Decoded]) -> tuple[tuple[int, ...], Decoded]:
        """Tracked rows with those replaced that prompts answered, new objects behind, in order of slot."""
        if tracked is not None and not answered:
            return tracked.ids, tracked.decoded
        before = {} if tracked is None else {i: row for row, i in enumerate(tracked.ids)}
        ids = tuple(sorted({*before, *answered}, key=self._slots.slot))
        rows = [
            answered[i] if i in answered else tracked.decoded.rows([before[i]])  # type: ignore[union-attr]
            for i in ids
        ]
        return ids, Decoded.join(rows)
