"""transformers' own video session as the oracle, stock or with Meta's semantics where the two differ.

The patches are those that the docstring of `sam_perception.segmentation.tracker` names.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from transformers import Sam2VideoInferenceSession

from sam_perception.prompts import BoxPrompt, MaskPrompt, Prompt
from sam_perception.segmentation import StreamingTracker, Tracks

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


@dataclass(frozen=True)
class Script:
    """What happens on which frame; a prompt for a live object is a correction."""

    prompts: Sequence[tuple[int, Prompt]]
    removals: Sequence[tuple[int, int]] = field(default_factory=tuple)  # (frame, object id)


Answer = dict[int, tuple[torch.Tensor, float]]  # by object id: (h, w) mask logits, score logit


class Reference:
    """Runs a script over pictures of the model's own size."""

    def __init__(self, model: Any, *, like_meta: bool) -> None:
        self._model = model
        self._session = Sam2VideoInferenceSession(dtype=torch.float32)
        self._like_meta = like_meta

    def run(self, pictures: Iterable[NDArray[np.uint8]], script: Script) -> list[Answer]:
        removed: set[int] = set()
        answers = []
        with torch.inference_mode():
            restore = _patch(self._model) if self._like_meta else lambda: None
            try:
                for t, picture in enumerate(pictures):
                    removed |= {object_id for frame, object_id in script.removals if frame == t}
                    asked = [p for frame, p in script.prompts if frame == t]
                    answer = self._step(t, _normalised(picture), asked)
                    answers.append({i: a for i, a in answer.items() if i not in removed})
            finally:
                restore()
        return answers

    def _step(self, t: int, pixels: torch.Tensor, prompts: Sequence[Prompt]) -> Answer:
        session, known = self._session, set(self._session.obj_ids)
        first: dict[int, Prompt] = {}
        rest: list[Prompt] = []
        for prompt in prompts:
            if prompt.object_id in known or prompt.object_id in first:
                rest.append(prompt)
            else:
                first[prompt.object_id] = prompt
        for prompt in first.values():
            self._add_inputs(t, prompt)
        session.obj_with_new_inputs = list(first)
        if not session.obj_ids:
            return {}
        out = self._model(session, frame=pixels, frame_idx=t)
        answer = {
            i: (out.pred_masks[row, 0].clone(), float(out.object_score_logits[row]))
            for row, i in enumerate(out.object_ids)
        }
        for prompt in rest:
            answer[prompt.object_id] = self._interact(t, prompt, initial=prompt.object_id in first)
        return answer

    def _add_inputs(self, t: int, prompt: Prompt) -> None:
        session = self._session
        row = session.obj_id_to_idx(prompt.object_id)
        if isinstance(prompt, MaskPrompt):
            session.remove_point_inputs(row, t)
            session.add_mask_inputs(row, t, torch.from_numpy(prompt.mask.copy()).float()[None, None])
            return
        points, labels = torch.tensor(prompt.points), torch.tensor(prompt.labels)
        if isinstance(prompt, BoxPrompt):
            points = torch.cat([torch.tensor(prompt.box).float().view(2, 2), points])
            labels = torch.cat([torch.tensor([2, 3], dtype=torch.int32), labels])
        else:
            before = session.point_inputs_per_obj[row].get(t)
            if before is not None:
                points = torch.cat([before["point_coords"][0, 0], points])
                labels = torch.cat([before["point_labels"][0, 0], labels])
        session.remove_mask_inputs(row, t)
        session.add_point_inputs(row, t, {"point_coords": points[None, None], "point_labels": labels[None, None]})

    def _interact(self, t: int, prompt: Prompt, *, initial: bool) -> tuple[torch.Tensor, float]:
        """A further prompt on a frame that is segmented already, as Meta's predictor takes it."""
        session, model = self._session, self._model
        row = session.obj_id_to_idx(prompt.object_id)
        outputs = session.output_dict_per_obj[row]
        # Meta keeps answers of the frame aside until it propagates: a further click does not attend to them.
        before = outputs["cond_frame_outputs"].pop(t, None) or outputs["non_cond_frame_outputs"][t]
        self._add_inputs(t, prompt)
        clicks = session.point_inputs_per_obj[row].get(t)
        masks = session.mask_inputs_per_obj[row].get(t)
        out = model._run_single_frame_inference(
            inference_session=session,
            frame_idx=t,
            obj_idx=row,
            batch_size=1,
            is_init_cond_frame=initial,
            point_inputs=clicks,
            mask_inputs=masks,
            reverse=False,
            prev_sam_mask_logits=None if masks is not None else before["pred_masks"].clamp(-32, 32),
            streaming=True,
        )
        outputs["non_cond_frame_outputs"].pop(t, None)
        session.store_output(row, t, output_value=out, is_conditioning_frame=True)
        model._batch_encode_memories(session, t, [row], [out["high_res_masks"]], [out["object_score_logits"]], [True])
        return out["pred_masks"][0, 0].clone(), float(out["object_score_logits"])


def _normalised(picture: NDArray[np.uint8]) -> torch.Tensor:
    return (torch.tensor(picture).permute(2, 0, 1)[None].float() / 255 - MEAN) / STD


def _patch(model: Any) -> Any:
    """Give the model Meta's semantics; returns what takes them away again."""
    batch_encode, mask_as_output = model._batch_encode_memories, model._use_mask_as_output
    forward = model._single_frame_forward

    def each_for_itself(
        self: Any, session: Any, frame: int, rows: list[int], masks: Any, scores: Any, flags: list[bool]
    ) -> None:
        for n, row in enumerate(rows):
            batch_encode(session, frame, [row], [masks[n]], [scores[n]], [flags[n]])

    def by_keyword(self: Any, **kw: Any) -> None:
        each_for_itself(
            self,
            kw["inference_session"],
            kw["frame_idx"],
            kw["objects_needing_memory_encoding"],
            kw["high_res_masks_for_memory"],
            kw["object_score_logits_for_memory"],
            kw["is_mask_from_pts_per_obj"],
        )

    def either(self: Any, *args: Any, **kw: Any) -> None:
        by_keyword(self, **kw) if kw else each_for_itself(self, *args)

    def single_token(self: Any, features: torch.Tensor, fine: list[torch.Tensor], mask: torch.Tensor) -> Any:
        self._single_frame_forward = lambda **kw: forward(**kw, multimask_output=False)
        try:
            out = mask_as_output(features, fine, mask)
        finally:
            self._single_frame_forward = forward
        size = (self.image_size, self.image_size)
        out.high_res_masks = functional.interpolate(out.pred_masks, size=size, mode="bilinear", align_corners=False)
        return out

    model._batch_encode_memories = types.MethodType(either, model)
    model._use_mask_as_output = types.MethodType(single_token, model)

    def restore() -> None:
        for name in ("_batch_encode_memories", "_use_mask_as_output", "_single_frame_forward"):
            model.__dict__.pop(name, None)

    return restore


def run_tracker(tracker: StreamingTracker, pictures: Iterable[NDArray[np.uint8]], script: Script) -> list[Tracks]:
    """The same script through the tracker."""
    tracks = []
    for t, picture in enumerate(pictures):
        for frame, object_id in script.removals:
            if frame == t:
                tracker.remove(object_id)
        for frame, prompt in script.prompts:
            if frame == t:
                tracker.prompt(prompt)
        tracks.append(tracker.step(picture, stamp_ns=t))
    return tracks


def worst_difference(tracks: Sequence[Tracks], answers: Sequence[Answer]) -> float:
    """Largest absolute difference of mask logits and score logits; the objects must be the same."""
    worst = 0.0
    for ours, theirs in zip(tracks, answers, strict=True):
        assert set(ours.ids.tolist()) == set(theirs)
        for row, object_id in enumerate(ours.ids.tolist()):
            logits, score = theirs[object_id]
            worst = max(worst, float((ours.logits[row] - logits).abs().max()))
            worst = max(worst, abs(float(ours.scores[row]) - float(torch.sigmoid(torch.tensor(score)))))
    return worst
