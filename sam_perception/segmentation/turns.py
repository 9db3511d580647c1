"""Objects that sit a frame out: what was said of them last stands until it is their turn again."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
import torch

from sam_perception.segmentation.tracks import Tracks
from sam_perception.segmentation.transfer import upload


def resting_ids(ids: Sequence[int], only: Collection[int] | None, last: Tracks | None) -> tuple[int, ...]:
    """Which of the objects `ids` may sit out a frame in which only those in `only` have their turn.

    An object of which nothing has been said yet never does.
    """
    if only is None or last is None:
        return ()
    known = set(last.ids.tolist())
    return tuple(i for i in ids if i not in only and i in known)


def with_resting(fresh: Tracks, last: Tracks, ids: Sequence[int]) -> Tracks:
    """`fresh` and, of the objects `ids`, what `last` says, in order of id; masks of both must be of one size.

    `last_seen_ns` of such an object stays the stamp of the frame that its mask is from.
    """
    kept = [last.index(i) for i in ids]
    joined = np.concatenate([fresh.ids, last.ids[kept]])
    order = np.argsort(joined, kind="stable")

    def both(name: str) -> np.ndarray:
        values: np.ndarray = np.concatenate([getattr(fresh, name), getattr(last, name)[kept]])[order]
        return values

    logits = torch.cat([fresh.logits, last.logits[upload(kept, last.logits.device)]])
    states = (*fresh.states, *(last.states[row] for row in kept))
    labels = (*fresh.labels, *(last.labels[row] for row in kept))
    return replace(
        fresh,
        ids=joined[order],
        masks=both("masks"),
        logits=logits[upload(order, logits.device)],
        scores=both("scores"),
        mask_scores=both("mask_scores"),
        states=tuple(states[row] for row in order),
        labels=tuple(labels[row] for row in order),
        last_seen_ns=both("last_seen_ns"),
        resting=tuple(sorted(ids)),
    )
