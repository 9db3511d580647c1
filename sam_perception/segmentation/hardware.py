"""What torch can compute on here, and how the CPU does."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import torch

_FOR_ALL_THREADS = 1 << 22  # numbers, torch gives each thread at least 32768


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


@contextmanager
def without_denormals() -> Iterator[None]:
    """Meanwhile, numbers too small to be normal ones count as zero in this thread, and for good in those it starts.

    Networks make many of them, of nearly closed gates and of attention to what is nearly left out, and CPUs compute
    with them many times slower. Threads that torch has started before keep them: `start_threads`.
    """
    before = sys.float_info.min / 2 == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


@contextmanager
def inferring() -> Iterator[None]:
    """Networks run without a thought of gradients, and without denormals."""
    with torch.inference_mode(), without_denormals():
        yield


@cache
def start_threads() -> None:
    """Have torch start the threads that it computes with, without denormals; to be called before anything else is."""
    with without_denormals():
        torch.zeros(_FOR_ALL_THREADS).add_(1)
