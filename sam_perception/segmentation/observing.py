"""From the network's numbers to what is said about each object."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sam_perception.config import TrackerConfig
from sam_perception.scene import DepthEvidence, ObjectState
from sam_perception.segmentation.frames import CachedFrame
from sam_perception.segmentation.network import Decoded
from sam_perception.segmentation.policy import Observation
from sam_perception.segmentation.preprocess import masks_and_numbers
from sam_perception.segmentation.states import ObjectStateMachine, is_seen
from sam_perception.segmentation.tracks import Tracks

# Brings (N, h, w) logits and (N, K) numbers over, as `masks_and_numbers`.
ToHost = Callable[[torch.Tensor, torch.Tensor, int, int], tuple[NDArray[np.bool_], NDArray[np.float32]]]


@dataclass(eq=False)
class TrackedObject:
    """What the host knows of one object."""

    machine: ObjectStateMachine
    first_frame: int  # number of the frame on which it begins
    label: str = ""
    last_seen_ns: int = -1
    prompted: bool = False  # since the last observation
    begun: bool = False  # a prompt was applied: there is a memory


@dataclass(frozen=True, eq=False)
class Observed:
    """N objects in one frame, on the host but for the logits."""

    observations: tuple[Observation, ...]
    masks: NDArray[np.bool_]  # (N, H, W); empty for what is not seen
    logits: torch.Tensor  # (N, h, w)
    labels: tuple[str, ...]
    last_seen_ns: tuple[int, ...]

    def tracks(self, rejected: Sequence[tuple[int, str]], notes: Sequence[str]) -> Tracks:
        """The answer to the user."""
        return Tracks(
            ids=np.array([o.object_id for o in self.observations], np.int64),
            masks=self.masks,
            logits=self.logits,
            scores=np.array([o.score for o in self.observations], np.float32),
            mask_scores=np.array([o.mask_score for o in self.observations], np.float32),
            states=tuple(o.state for o in self.observations),
            labels=self.labels,
            last_seen_ns=np.array(self.last_seen_ns, np.int64),
            rejected=tuple(rejected),
            notes=tuple(notes),
        )


def observe(
    frame: CachedFrame, ids: Sequence[int], decoded: Decoded, objects: Mapping[int, TrackedObject],
    evidence: Mapping[int, DepthEvidence], config: TrackerConfig, drawn: Mapping[int, NDArray[np.bool_]],
    to_host: ToHost | None = None,
) -> Observed:  # fmt: skip
    """Bring N objects to the host, in order of id, and advance their states; one transfer from the device.

    Args:
        frame: the newest.
        ids: N, in the order of `decoded`.
        decoded: of that frame.
        objects: everything tracked; states and last-seen stamps are brought up to date.
        evidence: by object id, what depth shows where an unseen object was.
        config: what counts as seen.
        drawn: masks that were given for this very frame; they stand as they were drawn, in every pixel,
            while `logits` keep what the network made of them.
        to_host: brings masks and numbers over; `masks_and_numbers` by default.
    """
    order = sorted(range(len(ids)), key=ids.__getitem__)
    if order != list(range(len(ids))):
        ids, decoded = [ids[row] for row in order], decoded.rows(order)
    rivals = decoded.rivals if decoded.rivals is not None else torch.full_like(decoded.score_logits, torch.nan)
    values = torch.stack([decoded.score_logits.float().sigmoid(), decoded.mask_scores.float(), rivals.float()], dim=1)
    masks, numbers = (to_host or masks_and_numbers)(decoded.logits, values, *frame.size)
    observations = []
    for row, object_id in enumerate(ids):
        score, mask_score, rival_share = (float(n) for n in numbers[row])
        if object_id in drawn:
            masks[row] = drawn[object_id]
        area = int(np.count_nonzero(masks[row]))
        known = objects[object_id]
        seen = is_seen(score, mask_score, area, config, staying=known.machine.state.visible)
        if seen:
            known.last_seen_ns = frame.stamp_ns
        else:
            masks[row] = False
        hint = evidence.get(object_id, DepthEvidence.UNKNOWN)
        state: ObjectState = known.machine.update(seen=seen, evidence=hint, prompted=known.prompted)
        known.prompted = False
        observations.append(
            Observation(
                object_id=object_id,
                frame=frame.index,
                stamp_ns=frame.stamp_ns,
                score=score,
                mask_score=mask_score,
                area_px=area,
                rival_share=rival_share,
                state=state,
                evidence=hint,
                prompted=object_id in frame.prompted,
            )
        )
    return Observed(
        tuple(observations),
        masks,
        decoded.logits,
        tuple(objects[i].label for i in ids),
        tuple(objects[i].last_seen_ns for i in ids),
    )
