"""Single moments of recorded clips, drawn so that the telling ones come more often, and what is learnt from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor

from sam_perception.training import blocks
from sam_perception.training.blocks import Features
from sam_perception.training.loader import Demand
from sam_perception.training.losses import Target, mask_loss
from sam_perception.training.rollout import CONDITIONING_ROW, RECENT, Knobs, Outcome
from sam_perception.training.samples import MIN_VISIBLE_AREA

UNSURE = 3.0  # object scores closer to zero than this are doubtful
PROMPTED = 4.0  # how much more often the first frame is drawn, which comes once in a clip
POOR = 0.8  # so are masks of which the decoder itself thinks less than this


@dataclass(frozen=True)
class Remembered:
    """A picture as memory attention reads it, and what one object's memory holds."""

    tokens: Tensor  # (hw, C)
    memories: Tensor  # (M, hw, 64), the prompted frame's first
    rows: tuple[int, ...]  # of the temporal code, for each of them
    pointers: Tensor  # (M', C), likewise
    ages: tuple[int, ...]  # of the pointers, in frames


@dataclass(frozen=True)
class Moment:
    """One object in one frame."""

    fine: Tensor  # (C/8, 4h, 4w)
    middle: Tensor  # (C/4, 2h, 2w)
    coarse: Tensor | Remembered  # (C, h, w) where it is pointed at, for the first time
    points: Tensor  # (P, 2), one that counts for nothing where it is tracked
    labels: Tensor  # (P,)
    kind: str  # "point", "box" or "track"
    share: Tensor  # (4h, 4w) float, what the object has of each cell
    area: float  # at the reference size; 0: hidden
    often: float  # how much more often it is drawn than one in which all goes well


@dataclass(frozen=True)
class _Record:
    """A recorded clip on disk, and of all its moments how often they are drawn."""

    file: Any  # an open safetensors file
    often: NDArray[np.float64]  # (T, O)
    area: NDArray[np.float32]  # (T, N)
    kinds: tuple[str, ...]  # of prompt, for each track

    def part(self, name: str, *place: int) -> Tensor:
        """`tensor[place]`, without reading the rest of it."""
        found: Tensor = self.file.get_slice(name)[tuple(slice(i, i + 1) for i in place) or ...]
        return found.view(found.shape[len(place) :])


class Moments:
    """Batches of moments from all clips of a folder.

    Args:
        paths: what `replay.record_clips` wrote.
        pointers: that memory attention has from frames that were not prompted.
        seed: of what is drawn.
    """

    def __init__(self, paths: Sequence[Path], pointers: int, seed: Sequence[int]) -> None:
        self._records = [_opened(path) for path in paths]
        self._count, self._pointers, self._rng = 1, pointers, np.random.default_rng(seed)
        places = [[(k, t, o) for t, o in np.ndindex(*record.often.shape)] for k, record in enumerate(self._records)]
        self._places = [place for those in places for place in those]
        often = np.concatenate([r.often.ravel() for r in self._records])
        self._chances = often / often.sum()

    def __len__(self) -> int:
        return len(self._places)

    def ask(self, demand: Demand) -> None:
        """From now on make batches of so many moments as the demand has single pictures."""
        self._count = demand.pictures

    def get(self) -> list[Moment]:
        """The next batch."""
        drawn = self._rng.choice(len(self._places), self._count, p=self._chances)
        return [self._moment(*self._places[i]) for i in drawn]

    def _moment(self, clip: int, frame: int, track: int) -> Moment:
        record = self._records[clip]
        thing = track % record.area.shape[1]
        points, labels, kind = torch.zeros(1, 2), torch.full((1,), -1, dtype=torch.int32), "track"
        coarse: Tensor | Remembered
        if frame == 0:
            points, labels = record.part("points", track), record.part("labels", track)
            points, labels, kind = points[labels >= 0], labels[labels >= 0], record.kinds[track]
            coarse = record.part("fresh").float()
        else:
            coarse = self._remembered(record, frame, track)
        return Moment(
            record.part("fine", frame).float(),
            record.part("middle", frame).float(),
            coarse,
            points,
            labels,
            kind,
            record.part("share", frame, thing).float() / 255,
            float(record.area[frame, thing]),
            float(record.often[frame, track]),
        )

    def _remembered(self, record: _Record, frame: int, track: int) -> Remembered:
        recent = range(max(1, frame - RECENT), frame)
        pointed = range(max(1, frame - self._pointers), frame)
        return Remembered(
            record.part("tokens", frame).float(),
            torch.stack([record.part("memories", t, track) for t in (0, *recent)]).float(),
            (CONDITIONING_ROW, *(frame - t - 1 for t in recent)),
            torch.stack([record.part("pointers", t, track) for t in (0, *pointed)]).float(),
            (frame, *(frame - t for t in pointed)),
        )


def _opened(path: Path) -> _Record:
    file: Any = safe_open(path, "pt")
    area = file.get_tensor("area").numpy()
    score, quality = file.get_tensor("score").numpy(), file.get_tensor("quality").numpy()
    hidden = np.tile(area == 0, 2)
    often = 1.0 + 2.0 * hidden + 2.0 * ((np.abs(score) < UNSURE) | ((score > 0) == hidden)) + (quality < POOR)
    often[0] = PROMPTED
    kinds = tuple("box" if labels[0] == 2 else "point" for labels in file.get_tensor("labels").tolist())
    return _Record(file, often, area, kinds)


def moments_pass(model: Any, moments: Sequence[Moment], knobs: Knobs) -> Outcome:
    """Decode every moment once, as inference does; those that are drawn more often weigh less."""
    device = next(model.parameters()).device
    out = Outcome(torch.zeros((), device=device))
    for kind in ("point", "box", "track"):
        those = [m for m in moments if m.kind == kind]
        if not those:
            continue

        def together(name: str, those: Sequence[Moment] = those) -> Tensor:
            return torch.stack([torch.as_tensor(getattr(m, name)) for m in those]).to(device)

        conditioned = torch.stack([_conditioned(model, m.coarse, device) for m in those])
        features = Features(together("fine"), together("middle"), conditioned, conditioned[:1])
        decoded = blocks.decode(model, features, together("points"), together("labels"), None)
        area = together("area")
        visible = (area >= MIN_VISIBLE_AREA).float()
        target = Target(together("share"), visible, ((area == 0) | (visible > 0)).float())
        index = blocks.chosen(decoded, multimask=kind != "box")
        loss = mask_loss(decoded, target, index, knobs.balance, together("often"))
        out.loss = out.loss + loss.loss * (len(those) / len(moments))
        out.iou[kind] = (loss.iou * loss.visible).sum() / loss.visible.sum()  # 0 / 0 is NaN
    return out


def _conditioned(model: Any, coarse: Tensor | Remembered, device: torch.device) -> Tensor:
    """(C, h, w) features for the decoder."""
    if isinstance(coarse, Tensor):
        return coarse.to(device)
    tokens, memories, pointers = (x.to(device) for x in (coarse.tokens, coarse.memories, coarse.pointers))
    return blocks.recall(model, tokens, memories, coarse.rows, pointers, coarse.ages)
