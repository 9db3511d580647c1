"""What prompts make of one frame's masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sam_perception.prompts import BoxPrompt, MaskPrompt, PointPrompt, Prompt
from sam_perception.segmentation.backend import Backend
from sam_perception.segmentation.frames import CachedFrame
from sam_perception.segmentation.network import Clicks, Decoded
from sam_perception.segmentation.preprocess import ImageScaler
from sam_perception.segmentation.transfer import upload

Tensor = torch.Tensor

# SAM's labels for the two corners of a box.
_BOX_LABELS = (2, 3)


@dataclass(frozen=True, eq=False)
class Tracked:
    """N objects on a frame as their memories see it, before any prompt."""

    ids: tuple[int, ...]
    decoded: Decoded
    recalled: Tensor  # (N, c, h, w) image features conditioned on the memories


class Prompter:
    """Applies prompts to a frame; those that look alike go through the network together."""

    def __init__(self, network: Backend, scaler: ImageScaler) -> None:
        self._network, self._scaler = network, scaler

    def answer(
        self, frame: CachedFrame, prompts: Sequence[Prompt], tracked: Tracked | None, fresh: frozenset[int]
    ) -> dict[int, Decoded]:
        """One-row answers by object.

        Several prompts for one object on one frame follow one another as clicks do in SAM 2: each
        adds to those before and starts from the mask that they gave.

        Args:
            frame: what is pointed at; its record of clicks and masks is brought up to date.
            prompts: in order of arrival.
            tracked: the objects that were tracked into this frame.
            fresh: objects that begin on this frame, without memory.
        """
        answers: dict[int, Decoded] = {}
        waiting = list(prompts)
        while waiting:
            first_of_each = {p.object_id: p for p in reversed(waiting)}
            now = [p for p in waiting if first_of_each[p.object_id] is p]
            waiting = [p for p in waiting if first_of_each[p.object_id] is not p]
            for group in self._alike(frame, now, fresh):
                decoded = self._answer_group(frame, group, tracked, fresh)
                for row, prompt in enumerate(group):
                    answers[prompt.object_id] = decoded.rows([row])
                    frame.logits[prompt.object_id] = decoded.logits[row]
                    frame.prompted.add(prompt.object_id)
        return answers

    def _alike(self, frame: CachedFrame, prompts: Sequence[Prompt], fresh: frozenset[int]) -> list[list[Prompt]]:
        """Prompts in groups that one pass can serve; clicks are added up on the way."""
        groups: dict[tuple[object, ...], list[Prompt]] = {}
        for prompt in prompts:
            key: tuple[object, ...] = ("mask",)
            if isinstance(prompt, MaskPrompt):
                frame.clicks.pop(prompt.object_id, None)
            else:
                clicks = self._add_clicks(frame, prompt)
                new = prompt.object_id in fresh
                key = ("clicks", clicks.labels.shape[1], new, new and prompt.object_id in frame.logits)
            groups.setdefault(key, []).append(prompt)
        return list(groups.values())

    def _add_clicks(self, frame: CachedFrame, prompt: PointPrompt | BoxPrompt) -> Clicks:
        points, labels = prompt.points, prompt.labels
        if isinstance(prompt, PointPrompt) and prompt.choose:
            # Another answer to one click stands for itself: neither clicks nor a mask from before it count.
            frame.clicks.pop(prompt.object_id, None)
            frame.logits.pop(prompt.object_id, None)
        before = frame.clicks.get(prompt.object_id)
        if isinstance(prompt, BoxPrompt):
            # A box comes first in SAM 2: it replaces the clicks before it.
            before = None
            points = np.concatenate([np.array(prompt.box, np.float32).reshape(2, 2), points])
            labels = np.concatenate([np.array(_BOX_LABELS, np.int32), labels])
        scaled = self._scaler.points(points, *frame.size)[None]
        marks = upload(labels, scaled.device)[None]
        if before is not None:
            scaled, marks = torch.cat([before.points, scaled], dim=1), torch.cat([before.labels, marks], dim=1)
        frame.clicks[prompt.object_id] = Clicks(scaled, marks)
        return frame.clicks[prompt.object_id]

    def _answer_group(
        self, frame: CachedFrame, group: Sequence[Prompt], tracked: Tracked | None, fresh: frozenset[int]
    ) -> Decoded:
        features = frame.features(self._network)
        masks = [self._scaler.mask(p.mask) for p in group if isinstance(p, MaskPrompt)]
        if masks:
            return self._network.take_mask(torch.cat(masks), features)
        ids = [p.object_id for p in group]
        chosen = [p.choose if isinstance(p, PointPrompt) else 0 for p in group]
        clicks = Clicks(
            torch.cat([frame.clicks[i].points for i in ids]),
            torch.cat([frame.clicks[i].labels for i in ids]),
            upload(chosen, features.top.device) if any(chosen) else None,
        )
        new = ids[0] in fresh
        if new or tracked is None:
            seen = self._network.fresh(features)
            previous = torch.stack([frame.logits[i] for i in ids]) if ids[0] in frame.logits else None
        else:
            rows = [tracked.ids.index(i) for i in ids]
            seen = tracked.recalled[upload(rows, tracked.recalled.device)]
            # What an earlier click on this frame gave, or else what tracking gives now: what it gave before a late
            # prompt changed the memories does not count any more.
            previous = torch.stack(
                [
                    frame.logits[i] if i in frame.prompted else tracked.decoded.logits[row]
                    for i, row in zip(ids, rows, strict=True)
                ]
            )
        return self._network.decode(seen, features, clicks, previous, fresh=new)
