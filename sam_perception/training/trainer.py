"""The loop that trains nano from scratch on rendered scenes."""

from __future__ import annotations

import copy
import multiprocessing as mp
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sam_perception.errors import CheckpointError, ConfigError
from sam_perception.segmentation.hardware import without_denormals
from sam_perception.segmentation.models import verify_checksums
from sam_perception.training import checkpoint
from sam_perception.training.autocast import has_bfloat16, mixed
from sam_perception.training.calibration import calibrate, calibration_cases
from sam_perception.training.checkpoint import RunState
from sam_perception.training.lesson import Lesson
from sam_perception.training.loader import Loader
from sam_perception.training.losses import DenseHeads
from sam_perception.training.model import begin_with, initialise, new_model, resized, save_model
from sam_perception.training.muon import Float32Muon
from sam_perception.training.peers import Peers
from sam_perception.training.recipe import Recipe, Stage, recipe_by_name
from sam_perception.training.rollout import Outcome, clip_pass, picture_pass
from sam_perception.training.run_log import Clock, Log

LOG_EVERY = 20
CHOICES = 3  # ends the seed of what is drawn here, apart from those that `loader` ends in 1 and 2
END = 1e9  # progress that ends a sitting before its course is over
CLIP_KINDS, CLIP_CHANCES = ("point", "box", "mask"), (0.5, 0.3, 0.2)
# In the names of matrices that are no maps between hidden layers: learnt rows (embeddings, tokens, what stands for
# nothing or for something hidden), and the dense heads. `token` alone would also name attention to and from tokens.
ROWS = ("embed", "_token.weight", "_tokens.weight", "no_", "occlusion", "heads/")


@dataclass(frozen=True)
class Settings:
    """One sitting of training.

    The course is scaled to `steps`, or to `minutes` of training over all sittings where steps is 0.
    """

    out: Path
    recipe: str = "nano"
    seed: int = 0
    steps: int = 0
    minutes: float = 0.0
    device: str = "cpu"
    workers: int = 1
    resume: bool = False
    learning_rate: float | None = None
    start: Path | None = None  # model directory whose weights the run begins with; None: random ones
    compile: bool = False  # encoder, decoder and memory encoder by torch.compile: minutes first, faster steps then
    processes: int = 1  # that average their gradients; one per core is best on CPU
    save_every_s: float = 300.0
    stop_after_s: float = 0.0  # end this sitting early, to be resumed; 0: go on to the end

    def __post_init__(self) -> None:
        if self.resume and self.start is not None:
            raise ConfigError(
                f"--start {self.start} with --resume: a run that is gone on with has its own weights in {self.out}; "
                "pass --resume alone, or --start with another --out"
            )

    @property
    def folder(self) -> Path:
        """Where the checkpoint lies."""
        return self.out / "checkpoint"


def new_optimisers(
    named: list[tuple[str, nn.Parameter]], recipe: Recipe, device_type: str = "cpu"
) -> list[torch.optim.Optimizer]:
    """Muon for the matrices between hidden layers, AdamW for everything else.

    Muon (Jordan, 2024) makes every update of a matrix orthogonal. In a trial of 120 steps it was where AdamW
    alone was after twice as many.
    """
    matrices = [p for n, p in named if p.ndim == 2 and not any(part in n for part in ROWS)]
    rest_ids = {id(p) for p in matrices}
    rest = [p for _, p in named if id(p) not in rest_ids]
    rate, decay = recipe.learning_rate, recipe.weight_decay
    muon = torch.optim.Muon if has_bfloat16(device_type) else Float32Muon
    return [
        torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.98), weight_decay=decay),
        muon(matrices, lr=rate, weight_decay=decay, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
    ]


def check_resumed(settings: Settings, state: RunState) -> None:
    """See that the run of `state` is the one that the settings go on with.

    Raises:
        ConfigError: it has another recipe or seed.
    """
    for name, asked, had in (("recipe", settings.recipe, state.recipe), ("seed", settings.seed, state.seed)):
        if asked != had:
            raise ConfigError(
                f"the run in {settings.out} has {name} {had}, asked for is {name} {asked}: "
                f"pass --{name} {had} to go on with it, or another --out"
            )


class Trainer:
    """Model, optimiser and averaged weights of a run; `train` does the steps.

    Raises:
        ConfigError: neither steps nor minutes, an unknown recipe, or another one than the resumed run's, or its seed.
        CheckpointError: nothing to resume from, a run is there that was not to be resumed, or weights to
            start with that do not fit or are not those of their checksum.
        ModelNotFound: no weights to start with.
    """

    def __init__(self, settings: Settings, peers: Peers | None = None) -> None:
        self.peers = peers or Peers()
        if settings.steps <= 0 and settings.minutes <= 0:
            raise ConfigError("training has no end: pass a number of steps or of minutes above 0")
        self.settings = settings
        self.recipe: Recipe = recipe_by_name(settings.recipe, settings.learning_rate)
        self.device = torch.device(settings.device)
        self.state = RunState(settings.recipe, settings.seed)
        torch.manual_seed(settings.seed)
        # In bfloat16 on CPU the plain attention is faster than the fused one, forwards and backwards.
        attention = "eager" if self.device.type == "cpu" and has_bfloat16("cpu") else "sdpa"
        size = self.recipe.stages[0].demand.image_size
        self.model = new_model(size, attention=attention)
        initialise(self.model)
        self.begun: dict[str, Tensor] = {}  # what `averaged` keeps a share of; empty where that was random
        if settings.start is not None:
            verify_checksums(settings.start)
            begin_with(self.model, settings.start)
            self.begun = {k: v.clone() for k, v in self.model.state_dict().items()}
        self.heads = DenseHeads(self.model.hidden_dim)
        if settings.folder.exists() and not settings.resume:
            raise CheckpointError(f"{settings.out} holds a run: pass --resume to go on with it, or another --out")
        tensors = self._read() if settings.resume else {}
        self.model, self.heads = self.model.to(self.device).train(), self.heads.to(self.device)
        self._compile()
        self.average: dict[str, Tensor] = {k: v.clone() for k, v in self.model.state_dict().items()}
        self.optimisers = self._new_optimisers()
        if tensors:
            checkpoint.restore_optimisers(self.optimisers, self._names(), tensors)
            self.average = {k: tensors["average/" + k].to(self.device) for k in self.average}
        self.begun = {k: v.to(self.device) for k, v in self.begun.items()}
        # The same choices in every process, so that their steps take equally long; but other draws.
        self.rng = np.random.default_rng([settings.seed, self.state.step, CHOICES])
        torch.manual_seed(settings.seed + 7919 * self.state.step + self.peers.rank)
        self.state.sittings += 1

    def _read(self) -> dict[str, Tensor]:
        self.state, tensors = checkpoint.load_run(self.settings.folder)
        check_resumed(self.settings, self.state)
        try:
            self.model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model/")})
        except RuntimeError as error:  # torch's, with every tensor's name
            out = self.settings.out
            raise CheckpointError(
                f"the run in {out} has another model than nano is now: begin a new one with --start {out / 'model'}"
            ) from error
        self.heads.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("heads/")})
        self.begun = {k[6:]: v for k, v in tensors.items() if k.startswith("begun/")}
        return tensors

    def _named(self) -> list[tuple[str, nn.Parameter]]:
        both = (("model", self.model), ("heads", self.heads))
        return [(f"{part}/{name}", p) for part, module in both for name, p in module.named_parameters()]

    def _names(self) -> dict[int, str]:
        return {id(p): name for name, p in self._named()}

    def _new_optimisers(self) -> list[torch.optim.Optimizer]:
        return new_optimisers(self._named(), self.recipe, self.device.type)

    def _compile(self) -> None:
        """Compile what is called with few shapes; memory attention is not, its memories grow with every frame."""
        if self.settings.compile:
            # One program per number of clicks and objects, more than the 8 that are kept by default.
            torch._dynamo.config.recompile_limit = 64
            for part in (self.model.vision_encoder, self.model.mask_decoder.transformer, self.model.memory_encoder):
                part.compile(dynamic=False)

    def _enter(self, stage: Stage) -> None:
        """Rebuild the model for the stage's picture size; weights and the optimiser's state go along."""
        if self.model.config.image_size == stage.demand.image_size:
            return
        tensors = checkpoint.optimiser_tensors(self.optimisers, self._names())
        self.model = resized(self.model, stage.demand.image_size).train()
        self._compile()
        self.optimisers = self._new_optimisers()
        checkpoint.restore_optimisers(self.optimisers, self._names(), tensors)

    def _progress(self, elapsed_s: float) -> float:
        """Share of the course that is done, `elapsed_s` into this sitting; at least 1 also ends the sitting."""
        settings = self.settings
        if 0 < settings.stop_after_s < elapsed_s:
            return END
        if settings.steps > 0:
            return self.state.step / settings.steps
        return (self.state.elapsed_s + elapsed_s) / (60 * settings.minutes)

    def train(self, report: Callable[[dict[str, Any]], None] | None = None) -> RunState:
        """Train until the course or this sitting is over; `report` gets every row of the log."""
        settings = self.settings
        settings.out.mkdir(parents=True, exist_ok=True)
        clock = Clock(settings.save_every_s)
        log = Log(settings.out / "log.csv")
        if self.peers.first:
            log.begin(self.state.step)
        stage: Stage | None = None
        progress = self._progress(0.0)
        with Loader(settings.seed, settings.workers, self.state.step, self.peers.rank) as loader:
            while progress < 1:
                self.state.progress = progress
                if self.recipe.stage(progress) is not stage:
                    stage = self.recipe.stage(progress)
                    self._enter(stage)
                    loader.ask(stage.demand)
                begun = time.monotonic()
                lesson = Lesson(loader.get(), self.device)
                waited = time.monotonic() - begun
                rate = self.recipe.rate(progress, self.state.step)
                outcome, told = self._step(lesson, progress, rate, self._progress(clock.elapsed_s))
                log.add(outcome, waited, time.monotonic() - begun)
                if self.peers.first and self.state.step % LOG_EVERY == 0:
                    row = log.row(stage.name, self.state.step, (self.state.elapsed_s + clock.elapsed_s) / 60, rate)
                    if report is not None:
                        report({**row, "progress": progress})
                if self.peers.first and clock.save_due():
                    self._save_at(clock.elapsed_s)
                # Steps are counted alike by all; of clocks, the first process's counts.
                by_clock = settings.steps == 0 or settings.stop_after_s > 0
                progress = told if by_clock and self.peers.world > 1 else self._progress(clock.elapsed_s)
        self.state.progress = max(self.state.progress, min(progress, 1.0)) if progress < END else self.state.progress
        self.state.elapsed_s += clock.elapsed_s
        if self.peers.first:
            self.save()
            if 1 <= progress < END:
                self._calibrate()
        return self.state

    def _save_at(self, elapsed_s: float) -> None:
        earlier = self.state.elapsed_s
        self.state.elapsed_s = earlier + elapsed_s
        self.save()
        self.state.elapsed_s = earlier

    def _step(self, lesson: Lesson, progress: float, rate: float, word: float) -> tuple[Outcome, float]:
        """One step of the optimisers and of the averaged weights; `word` is the first process's to the others."""
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate * (self.recipe.muon_factor if isinstance(optimiser, torch.optim.Muon) else 1.0)
        knobs = self.recipe.knobs(progress)
        with mixed(self.device.type):
            if lesson.frames == 1:
                outcome = picture_pass(self.model, self.heads, lesson, knobs, self.rng)
            else:
                kind = str(self.rng.choice(CLIP_KINDS, p=CLIP_CHANCES))
                outcome = clip_pass(self.model, self.heads, lesson, kind, knobs, self.rng)
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)
        outcome.loss.backward()  # type: ignore[no-untyped-call]
        parameters = [p for _, p in self._named()]
        told = self.peers.average(parameters, word)
        nn.utils.clip_grad_norm_(parameters, self.recipe.clip_norm)
        for optimiser in self.optimisers:
            optimiser.step()
        self.state.step += 1
        self._fold()
        outcome.loss = outcome.loss.detach()
        return outcome, told

    @torch.no_grad()
    def _fold(self) -> None:
        # The horizon grows with the run, or the first, random weights would stay in the average for long.
        share = 1 / min(self.recipe.average_horizon, 2 + self.state.step / 5)
        own = self.model.state_dict()
        floating = [k for k, v in own.items() if v.is_floating_point()]
        torch._foreach_lerp_([self.average[k] for k in floating], [own[k] for k in floating], share)

    def averaged(self) -> Any:
        """A copy of the model with the averaged weights, for pictures of the course's last size.

        Of weights that the run began with, the share is in it that the recipe keeps.
        """
        model = resized(self.model, self.recipe.stages[-1].demand.image_size)
        weights = dict(self.average)
        if self.recipe.kept > 0:
            weights |= {k: weights[k].lerp(v, self.recipe.kept) for k, v in self.begun.items() if v.is_floating_point()}
        model.load_state_dict(weights)
        return model.eval()

    def save(self) -> None:
        """Write the checkpoint, and the averaged model in the layout that is shipped."""
        tensors = {f"model/{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"heads/{k}": v for k, v in self.heads.state_dict().items()}
        tensors |= {f"average/{k}": v for k, v in self.average.items()}
        tensors |= {f"begun/{k}": v for k, v in self.begun.items()}
        tensors |= checkpoint.optimiser_tensors(self.optimisers, self._names())
        checkpoint.save_run(self.settings.folder, copy.copy(self.state), tensors)
        save_model(self.averaged(), self.settings.out / "model")

    def _calibrate(self) -> None:
        """Write the model once more, calibrated; a course that is prolonged goes on from what was learnt."""
        if self.recipe.calibrated_on > 0:
            model = self.averaged()
            self.state.calibrated_by = calibrate(model, calibration_cases(self.recipe.calibrated_on))
            save_model(model, self.settings.out / "model")


@without_denormals()
def _join(settings: Settings, rank: int, meeting: str, threads: int) -> None:
    torch.set_num_threads(threads)
    peers = Peers(rank, settings.processes, Path(meeting))
    Trainer(settings, peers).train()
    peers.close()


@without_denormals()
def train(settings: Settings, report: Callable[[dict[str, Any]], None] | None = None) -> RunState:
    """Train as the settings say, in as many processes as they say.

    Raises:
        ConfigError: neither steps nor minutes, an unknown recipe, or another one than the resumed run's, or its seed.
        CheckpointError: nothing to resume from, or a run is there that was not to be resumed.
    """
    if settings.resume:  # here, so that it is said once and not by every process
        check_resumed(settings, checkpoint.load_state(settings.folder))
    if settings.processes <= 1:
        return Trainer(settings).train(report)
    if settings.device != "cpu":
        raise ConfigError(
            f"{settings.processes} processes on {settings.device}: processes share out CPU cores; "
            "a GPU takes one process, with more --workers to render for it"
        )
    context = mp.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        meeting, threads = str(Path(folder) / "meeting"), torch.get_num_threads()
        ranks = range(1, settings.processes)
        # Not daemons: they have children of their own, which render.
        others = [context.Process(target=_join, args=(settings, r, meeting, threads)) for r in ranks]
        for process in others:
            process.start()
        try:
            peers = Peers(0, settings.processes, Path(meeting))
            state = Trainer(settings, peers).train(report)
            peers.close()
        finally:
            for process in others:
                process.join(timeout=30)
                if process.is_alive():
                    process.terminate()
    return state
