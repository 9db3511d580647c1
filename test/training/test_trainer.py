"""Training from scratch: a few steps, resumed, with one process and with two."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from sam_perception.errors import CheckpointError, ConfigError, ModelNotFound
from sam_perception.segmentation.models import find_checkpoint
from sam_perception.training.lesson import Lesson
from sam_perception.training.losses import DenseHeads
from sam_perception.training.model import CONFIG, WEIGHTS, initialise, load_weights, new_model, save_model, sha256
from sam_perception.training.pictures import plot_log
from sam_perception.training.recipe import further_recipe, nano_recipe
from sam_perception.training.rollout import Knobs, clip_pass, picture_pass
from sam_perception.training.samples import make_sample, stack
from sam_perception.training.trainer import Settings, Trainer, train

Clip = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def lesson_of(clip: Clip, frames: int) -> Lesson:
    rgb, ids = clip
    rng = np.random.default_rng(0)
    samples = [make_sample(rng, rgb[k : k + frames], ids[k : k + frames], 64, 2, tries=50) for k in range(2)]
    return Lesson(stack([s for s in samples if s is not None]), torch.device("cpu"))


def test_the_loss_of_a_batch_falls_when_it_is_learnt_by_heart(small_model: Any, moving_square: Clip) -> None:
    lesson = lesson_of(moving_square, 1)
    small_model.train()
    heads = DenseHeads(128)
    optimiser = torch.optim.AdamW([*small_model.parameters(), *heads.parameters()], lr=1e-3)
    losses, ious = [], []
    for _ in range(20):
        out = picture_pass(small_model, heads, lesson, Knobs(balance=1.0, correction=0.0), np.random.default_rng(0))
        optimiser.zero_grad()
        out.loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(small_model.parameters(), 1.0)
        optimiser.step()
        losses.append(float(out.loss.detach()))
        ious.append(float(out.iou["box"]))
    assert np.mean(losses[-3:]) < 0.5 * losses[0]
    assert np.mean(ious[-3:]) > ious[0] + 0.3


def test_gradients_of_a_clip_reach_every_part(small_model: Any, moving_square: Clip) -> None:
    lesson = lesson_of(moving_square, 4)
    small_model.train()
    with torch.no_grad():  # sure of presence, but not so sure that nothing is left to learn
        small_model.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(3.0)
    knobs = Knobs(correction=1.0, forced_memory=0.0)
    for kind in ("point", "mask"):
        out = clip_pass(small_model, DenseHeads(128), lesson, kind, knobs, np.random.default_rng(0))
        out.loss.backward()  # type: ignore[no-untyped-call]
    without = {n for n, p in small_model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    # Objects here are always said to be present, no point is of label 2 or 3, and SAM 2 never uses these two.
    allowed = ("no_object_pointer", "occlusion", "no_memory_positional", "point_embed")
    assert not [n for n in without if not any(a in n for a in allowed) and not n.endswith("bias")]


def test_a_few_steps_then_resumed(tmp_path: Path) -> None:
    settings = Settings(tmp_path, recipe="tiny", steps=20, seed=5)
    rows: list[dict[str, Any]] = []
    state = train(settings, rows.append)
    assert state.step == 20
    assert len(rows) == 1
    assert rows[0]["loss"] > 0
    first = load_file(tmp_path / "model" / WEIGHTS)
    assert {v.dtype for v in first.values()} == {torch.float16}
    # A course of 24 steps is gone on with: its first 20 are done, the optimisers' state is there.
    again = Trainer(Settings(tmp_path, recipe="tiny", steps=24, seed=5, resume=True))
    steps = [int(values["step"]) for o in again.optimisers for values in o.state.values() if "step" in values]
    assert steps
    assert max(steps) == 20
    assert any("momentum_buffer" in values for o in again.optimisers for values in o.state.values())
    assert again.train().step == 24
    assert json.loads((tmp_path / "checkpoint" / "state.json").read_text())["sittings"] == 2
    assert any(not torch.equal(v, first[k]) for k, v in load_file(tmp_path / "model" / WEIGHTS).items())
    assert len(list(csv.DictReader((tmp_path / "log.csv").open()))) == 1
    plot_log(tmp_path / "log.csv", tmp_path / "log.png")
    assert (tmp_path / "log.png").read_bytes()[:4] == b"\x89PNG"


def test_a_run_is_not_overwritten_and_not_made_up(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="steps or of minutes"):
        Trainer(Settings(tmp_path))
    with pytest.raises(ConfigError, match="no recipe 'small'"):
        Trainer(Settings(tmp_path, recipe="small", steps=1))
    with pytest.raises(CheckpointError, match="start without --resume"):
        Trainer(Settings(tmp_path, recipe="tiny", steps=1, resume=True))
    with pytest.raises(ConfigError, match="CPU cores"):
        train(Settings(tmp_path, steps=1, device="cuda", processes=2))
    (tmp_path / "checkpoint").mkdir()
    with pytest.raises(CheckpointError, match="--resume"):
        Trainer(Settings(tmp_path, recipe="tiny", steps=1))


def test_a_run_begins_with_weights_that_are_there(tmp_path: Path) -> None:
    folder = find_checkpoint("nano")
    trainer = Trainer(Settings(tmp_path / "run", recipe="tiny", steps=2, start=folder))
    shipped = load_file(folder / WEIGHTS)
    assert all(torch.equal(v.half(), shipped[k].half()) for k, v in trainer.model.state_dict().items())
    trainer.train()
    later = trainer.model.state_dict()
    assert any(not torch.equal(later[k].half(), v.half()) for k, v in shipped.items())
    with pytest.raises(ModelNotFound, match="no weights"):
        Trainer(Settings(tmp_path / "other", recipe="tiny", steps=1, start=tmp_path))


@pytest.mark.slow
def test_compiled_parts_learn_the_same(tmp_path: Path, moving_square: Clip) -> None:
    """Compilation takes minutes, hence slow; losses and gradients are those of plain PyTorch, but for rounding."""
    lesson, knobs, found = lesson_of(moving_square, 4), Knobs(correction=1.0, forced_memory=1.0), []
    for name in ("plain", "compiled"):
        trainer = Trainer(Settings(tmp_path / name, recipe="tiny", steps=1, compile=name == "compiled"))
        torch.manual_seed(0)
        out = clip_pass(trainer.model, trainer.heads, lesson, "box", knobs, np.random.default_rng(0))
        out.loss.backward()  # type: ignore[no-untyped-call]
        first = trainer.model.vision_encoder.backbone.patch_embed.projection.weight.grad
        found.append((float(out.loss.detach()), first.clone()))
    (loss, gradient), (same_loss, same_gradient) = found
    assert same_loss == pytest.approx(loss, rel=1e-4)
    torch.testing.assert_close(same_gradient, gradient, rtol=1e-2, atol=1e-3 * float(gradient.abs().max()))


@pytest.mark.slow
def test_two_processes_train_together_to_the_end(tmp_path: Path) -> None:
    """Their gradients are averaged, so what the first one writes is what both have; here that it runs and ends."""
    state = train(Settings(tmp_path, recipe="tiny", steps=6, processes=2))
    assert state.step == 6
    assert (tmp_path / "model" / CONFIG).is_file()


def test_a_model_directory_holds_what_was_saved(small_model: Any, tmp_path: Path) -> None:
    save_model(small_model, tmp_path)
    other = new_model(64)
    load_weights(other, tmp_path / WEIGHTS)
    for name, value in small_model.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value.half().float(), atol=0, rtol=0)
    sums = dict(reversed(line.split("  ")) for line in (tmp_path / "SHA256SUMS").read_text().splitlines())
    assert sums == {name: sha256(tmp_path / name) for name in (CONFIG, WEIGHTS)}
    (tmp_path / WEIGHTS).write_bytes((tmp_path / WEIGHTS).read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="copy it again"):
        load_weights(other, tmp_path / WEIGHTS)


def test_weights_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    model = new_model(64)
    initialise(model)
    with torch.no_grad():
        model.no_memory_embedding.fill_(1e6)  # beyond float16
    with pytest.raises(CheckpointError, match="no_memory_embedding"):
        save_model(model, tmp_path)


def test_the_course_goes_from_easy_to_hard() -> None:
    recipe = nano_recipe()
    shares = np.linspace(0, 1, 101)
    sizes = [recipe.stage(p).demand.image_size for p in shares]
    assert sizes == sorted(sizes)
    assert {128, 256} == set(sizes)
    assert recipe.rate(0.5, 1000) == recipe.learning_rate
    assert recipe.rate(1.0, 1000) == pytest.approx(0.02 * recipe.learning_rate)
    assert recipe.rate(0.0, 0) < 0.1 * recipe.learning_rate
    assert recipe.knobs(0.0).balance == 1.0
    assert recipe.knobs(1.0).balance == 0.1
    assert recipe.knobs(1.0).dense_prompt == 0.0


def test_what_goes_on_with_made_weights_is_hard_from_the_start() -> None:
    recipe = further_recipe()
    assert {stage.demand.image_size for stage in recipe.stages} == {256}
    assert recipe.knobs(0.0) == nano_recipe().knobs(0.5)
    assert recipe.knobs(1.0) == nano_recipe().knobs(1.0)
    assert recipe.rate(0.1, 1000) == recipe.learning_rate < nano_recipe().learning_rate
