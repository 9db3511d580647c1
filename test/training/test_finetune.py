"""Fine-tuning on real pictures: the loss falls, held-out IoU rises, frozen weights stay."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from sam_perception.errors import ConfigError
from sam_perception.segmentation import load_model
from sam_perception.training.finetune import PARTS, FineTuning, fine_tune, freeze
from sam_perception.training.model import initialise, new_model


@pytest.fixture
def random_model() -> Any:
    torch.manual_seed(0)
    model = new_model(64, attention="eager")
    initialise(model)
    return model


def test_every_weight_belongs_to_exactly_one_part(random_model: Any) -> None:
    prefixes = [p for parts in PARTS.values() for p in parts]
    for name in random_model.state_dict():
        assert sum(name.startswith(p) for p in prefixes) == 1, name


def test_frozen_parts_are_frozen_and_counted(random_model: Any) -> None:
    trained, frozen = freeze(random_model, ("image_encoder", "memory"))
    assert trained + frozen == sum(p.numel() for p in random_model.parameters())
    assert not any(p.requires_grad for p in random_model.vision_encoder.parameters())
    assert all(p.requires_grad for p in random_model.mask_decoder.parameters())


def test_settings_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="name some, not all"):
        FineTuning(tmp_path, tmp_path, frozen=tuple(PARTS))
    with pytest.raises(ConfigError, match="image_encoder, prompt_encoder"):
        FineTuning(tmp_path, tmp_path, frozen=("backbone",))
    with pytest.raises(ConfigError, match="validation share"):
        FineTuning(tmp_path, tmp_path, validation_share=1.0)


def test_real_pictures_are_learnt_and_frozen_weights_stay_to_the_bit(shared_data: Path, tmp_path: Path) -> None:
    """Nano with a decoder that noise has spoilt learns to use it again."""
    model = load_model("nano", "cpu", "float32")
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.startswith("mask_decoder.") and value.ndim >= 2:
                value += 0.4 * value.std() * torch.randn(value.shape, generator=generator)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    settings = FineTuning(
        shared_data / "stills_osd",
        tmp_path,
        steps=40,
        pictures=2,
        learning_rate=1e-3,
        validation_share=0.34,
        seed=1,
    )
    report = fine_tune(model, settings)
    assert (report.training, report.validation) == (4, 2)
    assert np.mean(report.losses[-8:]) < 0.8 * np.mean(report.losses[:8])
    assert report.before["box"] < 0.1  # spoilt
    assert report.after["box"] > report.before["box"] + 0.1
    for name, value in model.state_dict().items():
        if name.startswith(PARTS["image_encoder"] + PARTS["memory"]):
            assert torch.equal(value, before[name]), name
    decoder = [k for k in before if k.startswith("mask_decoder.") and k.endswith("weight")]
    assert any(not torch.equal(model.state_dict()[k], before[k]) for k in decoder)
    # What was written is what was trained, and loads like any other model.
    again = load_model(tmp_path / "model", "cpu", "float32")
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in again.state_dict().items())
    assert (tmp_path / "log.csv").read_text().count("\n") == 41


def test_recomputing_activations_gives_the_same_gradients(shared_data: Path, tmp_path: Path) -> None:
    losses = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = new_model(64, attention="eager")
        initialise(model)
        settings = FineTuning(
            shared_data / "stills_osd",
            tmp_path / str(checkpointing),
            frozen=("memory",),
            steps=2,
            pictures=1,
            validation_share=0.9,
            mixed_precision=False,
            checkpointing=checkpointing,
        )
        losses.append(fine_tune(model, settings).losses)
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_processes_that_accelerate_does_not_know_of_are_refused(
    shared_data: Path, tmp_path: Path, random_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would train alone as the first one, and write over the others."""
    alone = SimpleNamespace(num_processes=1, is_main_process=True, process_index=0)
    accelerate = SimpleNamespace(Accelerator=lambda **_: alone, DistributedDataParallelKwargs=lambda **_: None)
    monkeypatch.setitem(sys.modules, "accelerate", accelerate)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="accelerate launch --num_processes 2"):
        fine_tune(random_model, FineTuning(shared_data / "stills_osd", tmp_path, steps=1))
    assert not list(tmp_path.iterdir())
