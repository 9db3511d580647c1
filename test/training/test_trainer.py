"""Training from scratch: a few steps, resumed, with one process and with two."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from sam_perception.errors import CheckpointError, ConfigError, ModelNotFound
from sam_perception.segmentation.models import find_checkpoint
from sam_perception.training import blocks
from sam_perception.training import trainer as trainer_module
from sam_perception.training.checkpoint import optimiser_tensors, restore_optimisers
from sam_perception.training.finetune import freeze
from sam_perception.training.lesson import Lesson
from sam_perception.training.losses import DenseHeads
from sam_perception.training.model import (
    CONFIG,
    WEIGHTS,
    initialise,
    nano_config,
    new_model,
    save_model,
)
from sam_perception.training.pictures import plot_log
from sam_perception.training.recipe import RECIPES, nano_recipe, recipe_by_name, tiny_recipe
from sam_perception.training.rollout import Knobs, Outcome, clip_pass, picture_pass
from sam_perception.training.run_log import Log
from sam_perception.training.samples import make_sample, stack
from sam_perception.training.trainer import Settings, Trainer, new_optimisers, train

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
    # Without a warm-up the first steps of 1e-3 go too far: the loss triples, and falls again by luck of the seed.
    optimiser = torch.optim.AdamW([*small_model.parameters(), *heads.parameters()], lr=2e-4)
    losses, ious = [], []
    for _ in range(30):
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
    quality = small_model.mask_decoder.iou_prediction_head.proj_out.bias
    for kind, taken in (("point", 1), ("point", 2), ("mask", 3)):
        with torch.no_grad():
            quality[taken] += 5.0 * taken  # more than the one before
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


def test_a_course_that_is_over_is_calibrated_and_what_was_learnt_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "mask_decoder.pred_obj_score_head.proj_out.bias"

    def moved(model: Any, cases: list[int]) -> float:
        assert cases == [3]
        with torch.no_grad():
            model.get_parameter(name).add_(2.0)
        return 2.0

    def written() -> list[float]:
        model = load_file(tmp_path / "model" / WEIGHTS)
        kept = load_file(tmp_path / "checkpoint" / "tensors.safetensors")
        return [float(model[name][0]), float(kept["average/" + name][0])]

    monkeypatch.setattr(trainer_module, "calibrate", moved)
    monkeypatch.setattr(trainer_module, "calibration_cases", lambda count: [count])
    recipe = dataclasses.replace(recipe_by_name("tiny"), calibrated_on=3)
    monkeypatch.setattr(trainer_module, "recipe_by_name", lambda *_: recipe)
    sitting = Settings(tmp_path, recipe="tiny", steps=2, stop_after_s=1e-6)
    assert train(sitting).calibrated_by == 0.0
    assert written()[0] == pytest.approx(written()[1], abs=1e-3)
    for _ in range(2):  # a course that is over, over again: not moved twice
        assert train(Settings(tmp_path, recipe="tiny", steps=2, resume=True)).calibrated_by == 2.0
        assert written()[0] == pytest.approx(written()[1] + 2.0, abs=2e-3)


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
    damaged = shutil.copytree(folder, tmp_path / "damaged")
    content = bytearray((damaged / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (damaged / WEIGHTS).write_bytes(content)
    with pytest.raises(CheckpointError, match="does not match its checksum"):
        Trainer(Settings(tmp_path / "other", recipe="tiny", steps=1, start=damaged))


def test_a_run_of_an_earlier_nano_is_not_resumed_but_begun_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shallow(size: int) -> Any:
        config = nano_config(size)
        config.vision_config.backbone_config.blocks_per_stage = [1, 1, 1, 1]
        return config

    with monkeypatch.context() as earlier:
        earlier.setattr("sam_perception.training.model.nano_config", shallow)
        train(Settings(tmp_path / "run", recipe="tiny", steps=1))
    with pytest.raises(CheckpointError, match=r"another model .* --start .*run/model"):
        Trainer(Settings(tmp_path / "run", recipe="tiny", steps=2, resume=True))
    Trainer(Settings(tmp_path / "new", recipe="tiny", steps=1, start=tmp_path / "run" / "model"))


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


@pytest.mark.parametrize(("name", "size"), [("further", 384), ("polish", 448)])
def test_what_goes_on_with_made_weights_is_hard_from_the_start(name: str, size: int) -> None:
    recipe = recipe_by_name(name)
    assert {stage.demand.image_size for stage in recipe.stages} == {size}
    assert recipe.knobs(0.0) == nano_recipe().knobs(0.5)
    assert recipe.knobs(1.0) == nano_recipe().knobs(1.0)
    assert recipe.rate(0.1, 1000) == recipe.learning_rate < nano_recipe().learning_rate


def test_muon_gets_every_map_between_hidden_layers_and_nothing_else() -> None:
    model = new_model(64)
    named = [(f"model/{name}", p) for name, p in model.named_parameters()]
    named += [(f"heads/{name}", p) for name, p in DenseHeads(128).named_parameters()]
    adam, muon = (
        {name for name, p in named if any(p is q for group in optimiser.param_groups for q in group["params"])}
        for optimiser in new_optimisers(named, nano_recipe())
    )
    assert {name for name, p in named if p.ndim == 2} - muon == {
        "model/no_object_pointer",
        "model/occlusion_spatial_embedding_parameter",
        "model/prompt_encoder.no_mask_embed.weight",
        "model/prompt_encoder.point_embed.weight",
        "model/prompt_encoder.not_a_point_embed.weight",
        "model/mask_decoder.iou_token.weight",
        "model/mask_decoder.mask_tokens.weight",
        "model/mask_decoder.obj_score_token.weight",
    }
    assert not muon & adam
    assert muon | adam == {name for name, _ in named}
    towards = [name for name in muon if "_token_to_image." in name or "_image_to_token." in name]
    assert len(towards) == 20  # query, key, value, output: two layers in both directions, and the last attention


def test_a_share_of_the_weights_that_a_run_began_with_is_kept_in_those_that_it_ships(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(3)
    first = new_model(64)
    initialise(first)
    save_model(first, tmp_path / "first", half=False)
    keeping = dataclasses.replace(tiny_recipe(), kept=0.25)
    monkeypatch.setitem(RECIPES, "tiny", lambda: keeping)
    # A rate that takes the weights far from where they began, or rounding would be all that is seen.
    run = Settings(tmp_path / "run", recipe="tiny", steps=2, start=tmp_path / "first", learning_rate=0.05)
    for settings in (run, dataclasses.replace(run, steps=4, start=None, resume=True)):
        train(settings)
        written = load_file(settings.folder / "tensors.safetensors")
        shipped = load_file(settings.out / "model" / WEIGHTS)
        began = load_file(tmp_path / "first" / WEIGHTS)
        name = "mask_decoder.transformer.layers.0.mlp.proj_in.weight"
        learnt = written[f"average/{name}"]
        assert (learnt - began[name]).abs().mean() > 0.003
        torch.testing.assert_close(shipped[name].float(), 0.75 * learnt + 0.25 * began[name], atol=1e-4, rtol=1e-3)


def test_what_another_optimiser_remembered_is_left_behind(tmp_path: Path) -> None:
    trainer = Trainer(Settings(tmp_path, recipe="tiny", steps=1))
    trainer.train()
    tensors = optimiser_tensors(trainer.optimisers, trainer._names())
    name = "model/mask_decoder.transformer.final_attn_token_to_image.q_proj.weight"
    momentum = tensors.pop(f"optimiser/{name}/momentum_buffer")
    tensors |= {f"optimiser/{name}/exp_avg": momentum, f"optimiser/{name}/exp_avg_sq": momentum.square()}
    fresh = trainer._new_optimisers()
    restore_optimisers(fresh, trainer._names(), tensors)
    parameter = dict(trainer._named())[name]
    assert parameter not in fresh[1].state
    assert len(fresh[1].state) == len(trainer.optimisers[1].state) - 1
    assert len(fresh[0].state) == len(trainer.optimisers[0].state)


def test_a_run_is_gone_on_with_as_what_it_is(tmp_path: Path) -> None:
    train(Settings(tmp_path, recipe="tiny", steps=1, seed=5))
    for processes in (1, 2):
        with pytest.raises(ConfigError, match="has seed 5, asked for is seed 0: pass --seed 5"):
            train(Settings(tmp_path, recipe="tiny", steps=2, resume=True, processes=processes))
    with pytest.raises(ConfigError, match="has recipe tiny, asked for is recipe nano: pass --recipe tiny"):
        Trainer(Settings(tmp_path, steps=2, seed=5, resume=True))
    with pytest.raises(ConfigError, match="pass --resume alone"):
        Settings(tmp_path, recipe="tiny", steps=2, seed=5, resume=True, start=tmp_path)


def test_rows_that_are_done_again_after_a_resume_are_not_twice_in_the_log(tmp_path: Path) -> None:
    train(Settings(tmp_path, recipe="tiny", steps=1))
    with (tmp_path / "log.csv").open("a") as file:
        for step in (1, 20, 40):
            file.write(f"pictures,{step},0.1,1e-3,2.0,0.1,0.1,,,,0.1,0.0\n")
        file.write("pictures,1")  # killed while it wrote
    train(Settings(tmp_path, recipe="tiny", steps=2, resume=True))
    assert [row["step"] for row in csv.DictReader((tmp_path / "log.csv").open())] == ["1"]


def test_frames_in_which_nothing_shows_do_not_count_as_missed(
    small_model: Any, moving_square: Clip, tmp_path: Path
) -> None:
    lesson, knobs = lesson_of(moving_square, 3), Knobs(correction=0.0, forced_memory=0.0)

    def pass_of() -> Outcome:
        torch.manual_seed(0)
        with torch.no_grad():
            return clip_pass(small_model, None, lesson, "mask", knobs, np.random.default_rng(0))

    seen = pass_of()
    lesson.area[:, 2] = 0
    hidden = pass_of()
    lesson.area[:, 1] = 0
    never = pass_of()
    assert hidden.iou["last"].isnan()
    assert float(hidden.iou["track"]) == pytest.approx(2 * float(seen.iou["track"]) - float(seen.iou["last"]))
    assert never.iou["track"].isnan()
    log = Log(tmp_path / "log.csv")
    log.begin(0)
    for outcome in (seen, hidden, never):
        log.add(outcome, 0.0, 1.0)
    row = log.row("clips", 3, 1.0, 1e-3)
    assert row["last"] == pytest.approx(float(seen.iou["last"]), abs=1e-4)
    log.add(never, 0.0, 1.0)
    assert log.row("clips", 4, 2.0, 1e-3)["track"] == ""
    plot_log(tmp_path / "log.csv", tmp_path / "log.png")
    assert (tmp_path / "log.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(("presence", "most"), [(20.0, 32.0), (-20.0, -32.0)])
def test_a_click_is_given_with_the_mask_that_inference_feeds_back(
    small_model: Any, moving_square: Clip, monkeypatch: pytest.MonkeyPatch, presence: float, most: float
) -> None:
    fed: list[torch.Tensor] = []

    def spy(model: Any, features: Any, points: Any, labels: Any, dense: Any) -> Any:
        if dense is not None:
            fed.append(dense)
        return decode(model, features, points, labels, dense)

    decode = blocks.decode
    monkeypatch.setattr(blocks, "decode", spy)
    with torch.no_grad():
        small_model.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(presence)
        knobs = Knobs(correction=10.0)  # always
        clip_pass(small_model, None, lesson_of(moving_square, 3), "box", knobs, np.random.default_rng(0))
    assert len(fed) == 3  # a click in every frame
    for dense in fed:
        assert -32 <= float(dense.min()) <= float(dense.max()) <= most
        assert (float(dense.max()) == -32) is (presence < 0)


@pytest.mark.parametrize("trained", [False, True])
def test_checkpointing_saves_memory_and_runs_a_frozen_encoder_once(
    small_model: Any, moving_square: Clip, trained: bool
) -> None:
    lesson = lesson_of(moving_square, 1)
    freeze(small_model, ("memory",) if trained else ("image_encoder", "memory"))
    runs: list[int] = []
    small_model.vision_encoder.register_forward_hook(lambda *_: runs.append(1))
    found = []
    for checkpointing in (False, True):
        kept: list[int] = []
        runs.clear()
        small_model.zero_grad()

        def keep(tensor: torch.Tensor, kept: list[int] = kept) -> torch.Tensor:
            kept.append(tensor.nbytes)
            return tensor

        torch.manual_seed(0)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            out = picture_pass(
                small_model, None, lesson, Knobs(), np.random.default_rng(0), checkpointing=checkpointing
            )
        bytes_kept = sum(kept)
        out.loss.backward()  # type: ignore[no-untyped-call]
        gradient = small_model.mask_decoder.transformer.layers[0].self_attn.q_proj.weight.grad.clone()
        found.append((bytes_kept, len(runs), gradient))
    (plain, once, gradient), (saved, again, same) = found
    assert once == 1
    assert again == (2 if trained else 1)
    assert saved < 0.5 * plain
    torch.testing.assert_close(same, gradient)
