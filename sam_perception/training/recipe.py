"""The curriculum: what is taught when."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import partial

from sam_perception.errors import ConfigError
from sam_perception.training.loader import Demand
from sam_perception.training.rollout import Knobs


@dataclass(frozen=True)
class Stage:
    """One kind of batch, until this share of the whole training is done."""

    name: str
    until: float
    demand: Demand


@dataclass(frozen=True)
class Recipe:
    """Stages and the settings of the optimiser."""

    stages: tuple[Stage, ...]
    learning_rate: float = 1e-3
    muon_factor: float = 2.0  # of the learning rate, for the matrices that Muon updates
    warmup_steps: int = 60
    decay_from: float = 0.6  # share of training after which the rate falls to nothing
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    average_horizon: int = 300  # steps over which the shipped weights are averaged
    kept: float = 0.0  # share of the weights that a run began with in those that it ships
    calibrated_on: int = 0  # clips with hidden objects, by which the object score is set at the end; 0: left as learnt
    had: float = 0.0  # share of the lessons' course (`knobs`) that the weights it begins with have had

    def stage(self, progress: float) -> Stage:
        """The stage at `progress` (0 to 1)."""
        return next((s for s in self.stages if progress < s.until), self.stages[-1])

    def rate(self, progress: float, step: int) -> float:
        """Learning rate: linear warm-up, constant, then half a cosine."""
        rate = self.learning_rate * min(1.0, (step + 1) / self.warmup_steps)
        if progress > self.decay_from:
            phase = min(1.0, (progress - self.decay_from) / (1 - self.decay_from))
            rate *= 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * phase))
        return rate

    def knobs(self, progress: float) -> Knobs:
        """Easy first: balanced losses and drawn prompts go, corrections come."""
        progress = self.had + (1 - self.had) * progress
        return Knobs(
            balance=max(0.1, 1 - 3.0 * progress),
            dense_prompt=max(0.0, 0.6 - 3.0 * progress),
            correction=0.3 if progress > 0.15 else 0.0,
            forced_memory=max(0.2, 0.6 - 0.6 * progress),
            hints=max(0.1, 0.5 - 0.5 * progress),
        )


def nano_recipe() -> Recipe:
    """Pictures of 128 pixels, then clips, then 256 pixels, then long clips."""
    easy, middle, hard = (0.0, 0.5), (0.1, 0.7), (0.2, 1.0)
    return Recipe(
        (
            Stage("pictures 128", 0.30, Demand(128, 16, 1, 1, 4, 0.0, easy)),
            Stage("clips 128", 0.55, Demand(128, 16, 5, 4, 3, 0.6, middle)),
            Stage("clips 256", 0.80, Demand(256, 6, 2, 4, 3, 0.55, middle)),
            Stage("long clips 256", 1.01, Demand(256, 6, 1, 9, 4, 0.6, hard)),
        ),
        calibrated_on=30,
    )


# Batches of what comes after nano's course, but for what is in them.
_large = partial(Demand, difficulty=(0.15, 0.95), uses=3.0, strides=(1, 6))
_at_384 = partial(_large, 384, render_px=(256, 400))
_at_448 = partial(_large, 448, render_px=(256, 480))


def further_recipe() -> Recipe:
    """For weights that nano's course has made: 384 pixels, pictures first, then clips of 9 frames.

    The rate falls almost all the way, since there is nothing left to find out at a high one.
    """
    return Recipe(
        (
            Stage("pictures 384", 0.35, _at_384(4, 1, 5, 4, 0.4)),
            Stage("long clips 384", 1.01, _at_384(4, 1, 9, 4, 0.6)),
        ),
        learning_rate=4e-4,
        warmup_steps=100,
        decay_from=0.1,
        calibrated_on=30,
        had=0.5,
    )


def polish_recipe() -> Recipe:
    """A course for weights that `further` has made: 448 pixels.

    What it ships is the mean of what it learnt and what it began with: that tracked better than either.
    """
    return dataclasses.replace(
        further_recipe(),
        stages=(
            Stage("pictures 448", 0.30, _at_448(4, 1, 5, 4, 0.4)),
            Stage("long clips 448", 1.01, _at_448(4, 1, 9, 4, 0.65)),
        ),
        kept=0.5,
    )


def tiny_recipe() -> Recipe:
    """The same course with batches of one or two small pictures: shows that the code runs."""
    return Recipe(
        (
            Stage("pictures", 0.5, Demand(64, 2, 1, 1, 2, 0.0, (0.0, 0.2))),
            Stage("clips", 1.01, Demand(64, 2, 1, 3, 2, 0.7, (0.0, 0.3))),
        ),
        warmup_steps=2,
        average_horizon=2,
    )


RECIPES = {"nano": nano_recipe, "further": further_recipe, "polish": polish_recipe, "tiny": tiny_recipe}


def recipe_by_name(name: str, learning_rate: float | None = None) -> Recipe:
    """A recipe, with another learning rate where one is given.

    Raises:
        ConfigError: no recipe of this name.
    """
    if name not in RECIPES:
        raise ConfigError(f"no recipe {name!r}: choose one of {', '.join(RECIPES)}")
    recipe = RECIPES[name]()
    return recipe if learning_rate is None else dataclasses.replace(recipe, learning_rate=learning_rate)
