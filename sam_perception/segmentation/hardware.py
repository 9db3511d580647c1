"""What torch can compute on here."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class TorchFacts:
    """The installed torch and the GPUs that it sees."""

    version: str
    cuda: str | None  # version of CUDA that it was built with; None: a CPU build
    gpus: tuple[str, ...]
    threads: int


def use_threads(count: int) -> None:
    """Compute on so many CPU cores; the order of sums, and with it the last bits of results, may depend on it."""
    torch.set_num_threads(count)


def torch_facts() -> TorchFacts:
    """Asks torch; starts no computation."""
    gpus = tuple(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
    return TorchFacts(str(torch.__version__), torch.version.cuda, gpus, torch.get_num_threads())
