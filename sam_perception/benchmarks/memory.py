"""How the process and its part of a GPU grow over a long stream, ours and transformers', each in its own process."""

from __future__ import annotations

import gc
import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psutil

from sam_perception.benchmarks.contenders import Step, compiled, ours, theirs
from sam_perception.benchmarks.models import benchmark_model
from sam_perception.benchmarks.pictures import pictures
from sam_perception.errors import PerceptionError
from sam_perception.segmentation.current_device import on_device

MIB = 1 << 20


@dataclass(frozen=True)
class Growth:
    """Memory of one process."""

    side: str  # ours or transformers
    model: str
    objects: int
    frames: tuple[int, ...]  # after so many
    mib: tuple[float, ...]  # resident memory of the host then
    # On a GPU, by torch's allocator: what tensors take, and what it holds for them and for later.
    allocated_mib: tuple[float, ...] = ()
    reserved_mib: tuple[float, ...] = ()

    def change(self, first: int, last: int) -> float:
        """Memory after `last` frames relative to that after `first`, minus one: a GPU's where there is one."""
        of = dict(zip(self.frames, self.allocated_mib or self.mib, strict=True))
        return of[last] / of[first] - 1.0


def measure_growth(
    side: str,
    model: str,
    objects: int,
    at: Sequence[int],
    *,
    device: str = "cpu",
    dtype: str = "auto",
    compile: bool = False,  # noqa: A002 - as the setting is called
    threads: int = 1,
    on_frame: Callable[[int], object] | None = None,
) -> Growth:
    """Run a stream in a new process and look at its memory after each number of frames in `at`.

    Args:
        side: ours or transformers.
        model: as `benchmark_model` takes it, with `device` and `dtype`.
        objects: tracked by boxes.
        at: numbers of frames.
        device: auto, cpu, cuda or cuda:N.
        dtype: number format.
        compile: our side runs compiled.
        threads: of torch.
        on_frame: called with the number of a frame, every now and then.

    Raises:
        PerceptionError: the process ended early.
    """
    context = multiprocessing.get_context("spawn")  # a fork would inherit this process' memory
    receiving, sending = context.Pipe(duplex=False)
    what = (side, model, objects, tuple(at), device, dtype, compile, threads)
    process = context.Process(target=_stream, args=(sending, *what))
    process.start()
    sending.close()
    found: dict[int, tuple[float, ...]] = {}
    try:
        while True:
            frame, sizes = receiving.recv()
            if sizes is not None:
                found[frame] = sizes
            if on_frame is not None:
                on_frame(frame)
    except EOFError:
        process.join()
    except BaseException:
        process.terminate()
        raise
    if set(found) != set(at):
        raise PerceptionError(
            f"the process that measured {side} ended with code {process.exitcode} after "
            f"{max(found, default=0)} of {max(at)} frames: it may have run out of memory"
        )
    return growth_of(side, model, objects, found)


def growth_of(side: str, model: str, objects: int, found: Mapping[int, Sequence[float]]) -> Growth:
    """From MiB by frame: of the host, and on a GPU of tensors and of what its allocator holds."""
    frames = sorted(found)
    columns = zip(*(found[frame] for frame in frames), strict=True)
    return Growth(side, model, objects, tuple(frames), *(tuple(column) for column in columns))


def _stream(
    sending: object, side: str, model: str, objects: int, at: Sequence[int], device: str, dtype: str, compiles: bool,
    threads: int,
) -> None:  # fmt: skip
    import torch

    from sam_perception.segmentation.models import resolve_device

    torch.set_num_threads(threads)
    place = resolve_device(device)
    with on_device(place):
        step = _side(side, benchmark_model(model, device, dtype), objects, compiles=compiles)
        process, clip = psutil.Process(), pictures(32)
        for frame in range(1, max(at) + 1):
            step(clip[frame % len(clip)])
            if frame in at:
                gc.collect()
                sizes = (process.memory_info().rss / MIB, *_on_gpu(place))
                sending.send((frame, sizes))  # type: ignore[attr-defined]
            elif frame % 20 == 0:
                sending.send((frame, None))  # type: ignore[attr-defined]
    sending.close()  # type: ignore[attr-defined]


def _side(side: str, model: Any, objects: int, *, compiles: bool) -> Step:
    if side == "transformers":
        return theirs(model, objects)
    return ours(compiled(model, objects) if compiles else model, objects)


def _on_gpu(device: Any) -> tuple[float, ...]:
    """MiB that tensors take, and that torch's allocator holds; nothing on a CPU."""
    import torch

    if device.type != "cuda":
        return ()
    return torch.cuda.memory_allocated(device) / MIB, torch.cuda.memory_reserved(device) / MIB
