"""Clips that are tracked, recorded, and learnt from moment by moment."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from sam_perception.prompts import BoxPrompt, PointPrompt
from sam_perception.segmentation.network import Network
from sam_perception.training import blocks, replay
from sam_perception.training import trainer as trainer_module
from sam_perception.training.blocks import Decoded, Features
from sam_perception.training.loader import Demand
from sam_perception.training.losses import Target, mask_loss
from sam_perception.training.model import WEIGHTS, save_model
from sam_perception.training.moments import Moments, Remembered, moments_pass
from sam_perception.training.recipe import replay_recipe
from sam_perception.training.replay import Practice, practice_clip, record_clips
from sam_perception.training.rollout import Knobs
from sam_perception.training.samples import jittered_box
from sam_perception.training.trainer import Settings, train

Clip = tuple[NDArray[np.uint8], NDArray[np.uint8]]
POINTERS = 15


def practice_of(clip: Clip) -> Practice:
    rgb, ids = clip
    ids = ids.copy()
    ids[4] = 0  # hidden in one frame
    box, point = BoxPrompt(1, (8, 20, 32, 44)), PointPrompt(2, np.array([[20, 30]], np.float32))
    return Practice(rgb, ids, (1,), (box, point))


def moments_of(folder: Path) -> Moments:
    moments = Moments(sorted(folder.glob("*.safetensors")), POINTERS, [1])
    moments.ask(Demand(64, 200, 0, 6, 1, 0.0, (0.0, 1.0)))
    return moments


@pytest.fixture
def recorded(small_model: Any, moving_square: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one recorded clip of six frames and two tracks."""
    monkeypatch.setattr(replay, "practice_clip", lambda *_: practice_of(moving_square))
    record_clips(small_model, tmp_path / "recorded", 0, [0])
    return tmp_path / "recorded"


def test_moments_are_what_the_tracker_met(
    small_model: Any, moving_square: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    met: dict[int, torch.Tensor] = {}
    recall = Network.recall

    def kept(self: Network, prepared: Any, bank: Any, slots: Any, frame: int) -> torch.Tensor:
        met[frame] = recall(self, prepared, bank, slots, frame)
        return met[frame]

    monkeypatch.setattr(Network, "recall", kept)
    monkeypatch.setattr(replay, "practice_clip", lambda *_: practice_of(moving_square))
    record_clips(small_model, tmp_path, 0, [0])
    moments = moments_of(tmp_path)
    assert len(moments) == 12
    assert sorted(met) == [1, 2, 3, 4, 5]
    for frame in met:
        for track in (0, 1):
            past = moments._moment(0, frame, track).coarse
            assert isinstance(past, Remembered)
            again = blocks.recall(small_model, past.tokens, past.memories, past.rows, past.pointers, past.ages)
            torch.testing.assert_close(again, met[frame][track].clone(), atol=0.02, rtol=0.02)  # kept in float16


def test_recalling_for_one_object_is_attending_for_one(small_model: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    coarse, *memories = (torch.randn(1, c, 4, 4, generator=generator) for c in (128, 64, 64, 64))
    pointers = torch.randn(3, 1, 128, generator=generator)
    fine, middle = torch.zeros(1, 16, 16, 16), torch.zeros(1, 32, 8, 8)
    position = small_model.vision_encoder.neck.position_encoding(coarse.shape, coarse.device, torch.float32)
    features = Features(fine, middle, coarse, position)
    expected = blocks.attend(small_model, features, memories, [6, 1, 0], list(pointers), [9, 2, 1])
    tokens = (coarse + 0.1 * position).flatten(2)[0].T
    planes = torch.cat(memories).flatten(2).transpose(1, 2)
    found = blocks.recall(small_model, tokens, planes, [6, 1, 0], pointers[:, 0], [9, 2, 1])
    torch.testing.assert_close(found, expected.coarse[0], atol=1e-5, rtol=1e-4)


def test_telling_moments_are_drawn_more_often(recorded: Path) -> None:
    moments = moments_of(recorded)
    drawn = moments.get()
    assert {m.kind for m in drawn} == {"point", "box", "track"}
    hidden = [m for m in drawn if m.area == 0]
    assert all(m.share.sum() == 0 and m.often >= 3 for m in hidden)
    shares = [m.often for clip in moments._records for m in [moments._moment(0, t, 0) for t in range(len(clip.area))]]
    expected = shares[4] / sum(shares)
    assert len(hidden) / len(drawn) == pytest.approx(expected, abs=3 * np.sqrt(expected / len(drawn)))


def test_what_is_drawn_more_often_weighs_less() -> None:
    masks = torch.zeros(2, 4, 4, 4)
    masks[1] = -4.0
    decoded = Decoded(masks, torch.full((2, 4), 0.5), torch.zeros(2, 4, 8), torch.tensor([2.0, -1.0]))
    share = torch.zeros(2, 4, 4)
    share[:, :2] = 1.0
    index = torch.tensor([1, 1])

    def loss(rows: list[int], often: list[float]) -> float:
        part = Decoded(decoded.masks[rows], decoded.iou[rows], decoded.tokens[rows], decoded.presence[rows])
        target = Target(share[rows], torch.ones(len(rows)), torch.ones(len(rows)))
        return float(mask_loss(part, target, index[rows], 0.1, torch.tensor(often)).loss)

    assert loss([0, 1], [1.0, 1.0]) == pytest.approx((loss([0], [1.0]) + loss([1], [1.0])) / 2)
    assert loss([0, 1], [1.0, 1e12]) == pytest.approx(loss([0], [1.0]), rel=1e-4)
    presence = [float(np.log1p(np.exp(-x))) for x in (2.0, -1.0)]
    mask = [loss([k], [1.0]) - presence[k] for k in (0, 1)]
    # Drawn four times as often: a fourth in presence, a half in masks.
    expected = (presence[0] + presence[1] / 4) / 1.25 + (mask[0] + mask[1] / 2) / 1.5
    assert loss([0, 1], [1.0, 4.0]) == pytest.approx(expected, rel=1e-5)


def test_a_loss_of_moments_falls_when_they_are_learnt_by_heart(small_model: Any, recorded: Path) -> None:
    moments = moments_of(recorded)
    batch = [moments._moment(0, t, o) for t in range(6) for o in (0, 1)]
    small_model.train()
    optimiser = torch.optim.AdamW(small_model.parameters(), lr=1e-3)
    losses, ious = [], []
    for _ in range(15):
        out = moments_pass(small_model, batch, Knobs(balance=1.0))
        optimiser.zero_grad()
        out.loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(small_model.parameters(), 1.0)
        optimiser.step()
        losses.append(float(out.loss.detach()))
        ious.append(float(out.iou["track"]))
    assert np.mean(losses[-3:]) < 0.6 * losses[0]
    assert np.mean(ious[-3:]) > ious[0] + 0.3


def test_clips_to_practise_on_are_of_two_kinds() -> None:
    for number in (0, 1):
        practice = practice_clip(4, number)
        assert practice is not None
        count = len(practice.objects)
        assert [type(p) for p in practice.prompts] == [BoxPrompt] * count + [PointPrompt] * count
        assert [p.object_id for p in practice.prompts] == list(range(1, 2 * count + 1))
        height, width = practice.ids.shape[1:]
        for prompt, k in zip(practice.prompts, practice.objects * 2, strict=True):
            prompt.check_inside(width, height)
            if isinstance(prompt, PointPrompt):
                x, y = (int(v) for v in prompt.points[0])
                assert practice.ids[0, y, x] == k
        again = practice_clip(4, number)
        assert again is not None
        np.testing.assert_array_equal(again.rgb, practice.rgb)
    assert practice_clip(4, 0).ids.shape == (24, 256, 256)  # type: ignore[union-attr]


def test_a_box_is_drawn_within_a_picture_that_is_no_square() -> None:
    mask = np.zeros((20, 60), np.bool_)
    mask[5:15, 40:58] = True
    boxes = np.array([jittered_box(np.random.default_rng(k), mask) for k in range(40)])
    assert boxes[:, 0].min() > 30
    assert boxes[:, 2].max() <= 59
    assert boxes[:, 3].max() <= 19
    assert ((boxes[:, 2] - boxes[:, 0]) > 10).all()


def test_only_what_learns_from_moments_is_changed(
    small_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(small_model, tmp_path / "start")
    recipe = replay_recipe()
    demand = dataclasses.replace(recipe.stages[0].demand, image_size=64, pictures=3)
    stage = dataclasses.replace(recipe.stages[0], demand=demand)
    recipe = dataclasses.replace(recipe, stages=(stage,), recorded=2, calibrated_on=0)
    monkeypatch.setattr(trainer_module, "recipe_by_name", lambda *_: recipe)
    settings = Settings(tmp_path / "out", recipe="replay", steps=3, start=tmp_path / "start")
    (tmp_path / "out" / "recorded").mkdir(parents=True)
    (tmp_path / "out" / "recorded" / "0009.safetensors").touch()  # left by a run whose checkpoint was removed
    with monkeypatch.context() as broken:
        broken.setattr(replay, "record", lambda *_: {}["interrupted"])
        with pytest.raises(KeyError, match="interrupted"):
            train(settings)
    settings = dataclasses.replace(settings, start=None, resume=True)
    assert train(settings).step == 3
    before, after = load_file(tmp_path / "start" / WEIGHTS), load_file(tmp_path / "out" / "model" / WEIGHTS)
    changed = {k for k in before if not torch.equal(before[k], after[k])}
    assert changed
    assert all(k.startswith(recipe.trained) for k in changed)
    assert any(k.startswith("memory_attention.") for k in changed)
    assert any(k.startswith("mask_decoder.transformer") for k in changed)
    written = {p: p.stat().st_mtime_ns for p in (tmp_path / "out" / "recorded").iterdir()}
    assert len(written) == 2
    assert train(dataclasses.replace(settings, steps=5)).step == 5
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out" / "recorded").iterdir()} == written
