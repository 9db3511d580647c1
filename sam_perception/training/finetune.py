"""Fine-tuning of any SAM 2 video model on a user's own pictures."""

from __future__ import annotations

import csv
import importlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sam_perception.errors import ConfigError, SourceError
from sam_perception.files import replaced
from sam_perception.segmentation.hardware import without_denormals
from sam_perception.training.autocast import mixed
from sam_perception.training.datasets import Example, open_dataset, split
from sam_perception.training.lesson import Lesson
from sam_perception.training.metrics import region_similarity
from sam_perception.training.model import save_model
from sam_perception.training.rollout import Knobs, Outcome, picture_pass
from sam_perception.training.samples import Batch, make_sample, stack
from sam_perception.training.scoring import segment_all

KINDS = ("box", "click")

# Parts of the model by the names that users know, and the submodules and parameters in them.
PARTS = {
    "image_encoder": ("vision_encoder.",),
    "prompt_encoder": ("prompt_encoder.", "shared_image_embedding."),
    "mask_decoder": ("mask_decoder.",),
    "memory": (
        "memory_",
        "no_memory_",
        "no_object_pointer",
        "mask_downsample.",
        "object_pointer_proj.",
        "temporal_positional_encoding_projection_layer.",
        "occlusion_spatial_embedding_parameter",
    ),
}


@dataclass(frozen=True)
class FineTuning:
    """What a fine-tuning is told.

    Single pictures teach nothing about memory, which is therefore left as it is unless it is named in no list.
    """

    data: Path
    out: Path
    frozen: tuple[str, ...] = ("image_encoder", "memory")
    steps: int = 200
    pictures: int = 2  # in a batch
    objects: int = 4  # of each picture
    learning_rate: float = 5e-5
    validation_share: float = 0.2
    seed: int = 0
    mixed_precision: bool = True  # bfloat16 autocast
    checkpointing: bool = False  # recompute activations of what is trained in the backward pass, to save memory
    ignore: tuple[int, ...] | None = None  # label ids that are no objects
    epochs_pool: int = 8  # pictures kept decoded

    def __post_init__(self) -> None:
        unknown = set(self.frozen) - set(PARTS)
        if unknown or set(self.frozen) == set(PARTS):
            raise ConfigError(f"frozen parts are {self.frozen}: name some, not all, of {', '.join(PARTS)}")
        if self.steps < 1 or self.pictures < 1 or self.objects < 1:
            raise ConfigError(f"steps {self.steps}, pictures {self.pictures}, objects {self.objects}: at least 1 each")
        if not 0 < self.validation_share < 1:
            raise ConfigError(f"validation share is {self.validation_share}: it must lie between 0 and 1")


@dataclass
class Report:
    """What came of it."""

    losses: list[float] = field(default_factory=list)  # of every step
    before: dict[str, float] = field(default_factory=dict)  # mean IoU on validation pictures by prompt
    after: dict[str, float] = field(default_factory=dict)
    training: int = 0  # pictures
    validation: int = 0
    trained: int = 0  # parameters
    frozen: int = 0


class _Step(nn.Module):
    """One forward pass as a module, so that accelerate can wrap it."""

    def __init__(self, model: Any, checkpointing: bool) -> None:
        super().__init__()
        self.model = model
        self.checkpointing = checkpointing

    def forward(self, lesson: Lesson, knobs: Knobs, rng: np.random.Generator) -> Outcome:
        return picture_pass(self.model, None, lesson, knobs, rng, checkpointing=self.checkpointing)


def freeze(model: nn.Module, parts: Sequence[str]) -> tuple[int, int]:
    """Let only the other parts be trained; returns how many numbers are trained and frozen."""
    prefixes = tuple(prefix for part in parts for prefix in PARTS[part])
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith(prefixes))
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return trained, sum(p.numel() for p in model.parameters()) - trained


class _Drawer:
    """Random samples of the training pictures; each process draws its own."""

    def __init__(self, examples: Sequence[Example], settings: FineTuning, size: int, rank: int) -> None:
        self._examples, self._settings, self._size = examples, settings, size
        self._rng = np.random.default_rng([settings.seed, rank, 1])
        self._kept: dict[int, tuple[Any, Any]] = {}

    def batch(self) -> Batch:
        """The next batch.

        Raises:
            SourceError: no crop of any picture shows an object large enough to be prompted.
        """
        samples: list[Batch] = []
        for _ in range(50 * self._settings.pictures):
            rgb, ids = self._read(int(self._rng.integers(len(self._examples))))
            sample = make_sample(self._rng, rgb[None], ids[None], self._size, self._settings.objects)
            if sample is not None:
                samples.append(sample)
            if len(samples) == self._settings.pictures:
                return stack(samples)
        raise SourceError(
            f"no object in {len(self._examples)} pictures is large enough to be prompted: check the labels"
        )

    def _read(self, index: int) -> tuple[Any, Any]:
        if index not in self._kept:
            if len(self._kept) >= self._settings.epochs_pool:
                self._kept.pop(next(iter(self._kept)))
            self._kept[index] = self._examples[index].read()
        return self._kept[index]


def validation_iou(model: Any, examples: Sequence[Example]) -> dict[str, float]:
    """Mean IoU over all objects of the examples, by kind of prompt, through the tracker."""
    model.eval()
    scores: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for example in examples:
        rgb, ids = example.read()
        truth = {int(k): ids == k for k in np.unique(ids) if k}
        for kind in KINDS:
            found = segment_all(model, rgb, truth, kind)
            scores[kind] += [region_similarity(found[k], true) for k, true in truth.items()]
    return {kind: float(np.mean(values)) for kind, values in scores.items()}


@without_denormals()
def fine_tune(model: Any, settings: FineTuning, report: Callable[[int, float], None] | None = None) -> Report:
    """Train `model` in place on the settings' folder and write it to `out` with a log.

    `report` gets every step's number and loss. Under `accelerate launch` the batches of all processes count
    as one; without it this is an ordinary loop on the model's own device.

    Raises:
        SourceError: the folder has no usable pictures.
        ConfigError: settings that do not fit.
    """
    training, validation = split(open_dataset(settings.data, settings.ignore), settings.validation_share, settings.seed)
    result = Report(training=len(training), validation=len(validation))
    result.trained, result.frozen = freeze(model, settings.frozen)
    engine = _engine(settings)
    result.before = validation_iou(model, validation) if engine.main else {}
    torch.manual_seed(settings.seed + engine.rank)
    model.float().train()
    weights = [p for p in model.parameters() if p.requires_grad]
    adam = torch.optim.AdamW(weights, lr=settings.learning_rate, weight_decay=0.01)
    step, optimiser = engine.prepare(_Step(model, settings.checkpointing), adam)
    drawer = _Drawer(training, settings, model.config.image_size, engine.rank)
    rng = np.random.default_rng([settings.seed, 0, 2])
    warmup = max(1, settings.steps // 20)
    for number in range(settings.steps):
        share = number / settings.steps
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * min(1.0, (number + 1) / warmup) * (1 - share)
        lesson = Lesson(drawer.batch(), next(model.parameters()).device)
        with engine.precision(lesson.pixels.device.type):
            outcome = step(lesson, Knobs(), rng)
        optimiser.zero_grad()
        engine.backward(outcome.loss)
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        result.losses.append(float(outcome.loss.detach()))
        if report is not None and engine.main:
            report(number + 1, result.losses[-1])
    if engine.main:
        result.after = validation_iou(model, validation)
        save_model(model, settings.out / "model", half=False)
        _write_log(settings.out / "log.csv", result.losses)
    return result


def _write_log(path: Path, losses: Sequence[float]) -> None:
    with replaced(path) as part, part.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["step", "loss"])
        writer.writerows([i, round(loss, 5)] for i, loss in enumerate(losses, start=1))


class _Alone:
    """One process, without accelerate."""

    main, rank = True, 0

    def __init__(self, mixed: bool) -> None:
        self._mixed = mixed

    def prepare(self, step: nn.Module, optimiser: torch.optim.Optimizer) -> tuple[nn.Module, torch.optim.Optimizer]:
        return step, optimiser

    def precision(self, device_type: str) -> torch.autocast:
        return mixed(device_type, enabled=self._mixed)

    def backward(self, loss: Tensor) -> None:
        loss.backward()  # type: ignore[no-untyped-call]


class _Accelerated(_Alone):
    """Several processes, started by `accelerate launch`."""

    def __init__(self, mixed: bool) -> None:
        super().__init__(mixed)
        try:
            accelerate: Any = importlib.import_module("accelerate")
        except ImportError:
            raise ConfigError("several processes need accelerate: pip install accelerate, or start only one") from None
        # Parts that single pictures do not use get no gradient.
        unused = accelerate.DistributedDataParallelKwargs(find_unused_parameters=True)
        self._accelerator = accelerate.Accelerator(mixed_precision="no", kwargs_handlers=[unused])
        self.main, self.rank = self._accelerator.is_main_process, self._accelerator.process_index
        started = int(os.environ.get("WORLD_SIZE", "1"))
        if self._accelerator.num_processes != started:
            raise ConfigError(
                f"{started} processes were started, accelerate knows of {self._accelerator.num_processes}: each would "
                f"train alone and write to the same --out; start them by accelerate launch --num_processes {started}"
            )

    def prepare(self, step: nn.Module, optimiser: torch.optim.Optimizer) -> tuple[nn.Module, torch.optim.Optimizer]:
        prepared: tuple[nn.Module, torch.optim.Optimizer] = self._accelerator.prepare(step, optimiser)
        return prepared

    def backward(self, loss: Tensor) -> None:
        self._accelerator.backward(loss)


def _engine(settings: FineTuning) -> _Alone:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return _Accelerated(settings.mixed_precision)
    return _Alone(settings.mixed_precision)
