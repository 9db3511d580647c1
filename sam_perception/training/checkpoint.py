"""A training run on disk: tensors as safetensors, the rest as JSON, replaced as a whole."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from sam_perception.errors import CheckpointError
from sam_perception.files import parsed_json

STATE = "state.json"
TENSORS = "tensors.safetensors"


@dataclass
class RunState:
    """Where a run stands."""

    recipe: str
    seed: int
    step: int = 0
    elapsed_s: float = 0.0  # of training, over all sittings
    progress: float = 0.0  # share of the whole, 0 to 1
    sittings: int = 0  # times it was started
    calibrated_by: float = 0.0  # added to the object score's bias at the end, after the checkpoint: 0 in it


def save_run(folder: Path, state: RunState, tensors: Mapping[str, Tensor]) -> None:
    """Write a checkpoint beside the old one, then put it in its place."""
    fresh, old = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    fresh.mkdir(parents=True)
    save_file({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, fresh / TENSORS)
    (fresh / STATE).write_text(json.dumps(asdict(state), indent=2) + "\n")
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def load_run(folder: Path) -> tuple[RunState, dict[str, Tensor]]:
    """Read a checkpoint.

    Raises:
        CheckpointError: missing or damaged.
    """
    state, folder = load_state(folder), _whole(folder)
    try:
        return state, load_file(folder / TENSORS)
    except Exception as error:  # file and safetensors errors have no common base
        raise _unusable(folder, error) from error


def load_state(folder: Path) -> RunState:
    """Where the run of a checkpoint stands, without its tensors.

    Raises:
        CheckpointError: missing or damaged.
    """
    folder = _whole(folder)
    try:
        return RunState(**parsed_json((folder / STATE).read_text()))
    except Exception as error:  # JSON, key and file errors have no common base
        raise _unusable(folder, error) from error


def _whole(folder: Path) -> Path:
    old = folder.with_name(folder.name + ".old")
    return old if not folder.exists() and old.exists() else folder  # interrupted between the two renames


def _unusable(folder: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"{folder} is no usable checkpoint ({error}): start without --resume")


def optimiser_tensors(optimisers: Sequence[torch.optim.Optimizer], names: Mapping[int, str]) -> dict[str, Tensor]:
    """The optimisers' state by parameter name; `names` maps id(parameter) to its name."""
    found: dict[str, Tensor] = {}
    for optimiser in optimisers:
        for parameter, values in optimiser.state.items():
            for key, value in values.items():
                found[f"optimiser/{names[id(parameter)]}/{key}"] = torch.as_tensor(value)
    return found


def restore_optimisers(
    optimisers: Sequence[torch.optim.Optimizer], names: Mapping[int, str], tensors: Mapping[str, Tensor]
) -> None:
    """Put back what `optimiser_tensors` gave."""
    by_name: dict[str, dict[str, Any]] = {}
    for key, value in tensors.items():
        head, _, rest = key.partition("/")
        if head == "optimiser":
            name, _, field = rest.rpartition("/")
            by_name.setdefault(name, {})[field] = value
    for optimiser in optimisers:
        for parameter in (p for group in optimiser.param_groups for p in group["params"]):
            values = by_name.get(names[id(parameter)])
            # What AdamW remembers of a matrix is of no use to Muon, should an earlier version have given it to AdamW.
            if values is not None and ("momentum_buffer" in values) == isinstance(optimiser, torch.optim.Muon):
                optimiser.state[parameter] = {k: v.to(parameter.device) if v.ndim else v for k, v in values.items()}
