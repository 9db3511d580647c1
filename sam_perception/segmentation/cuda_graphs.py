"""Programs of fixed shapes recorded once, and started with one call from then on, in whatever thread.

torch.compile can record by itself, but keeps what it recorded for the thread that did (its trees of graphs,
and in `cudagraphify` single graphs as well), while a node makes its tracker in one thread and runs it in
another. It also copies every tensor before each start that is not a module's own, the memory attention's
tables among them. Here whoever calls starts the same recording, and only a program's inputs are copied: all
else that a program reads it finds where that was when it was recorded, so it must stay there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from sam_perception.segmentation.current_device import on_device

Tensor = torch.Tensor
Program = Callable[..., Any]
# A program and the tensors that it is to read, to what starts it again and to where its answer is then.
Recorder = Callable[[Program, list[Tensor]], tuple[Callable[[], None], Any]]


@dataclass(frozen=True, eq=False)
class _Recording:
    inputs: list[Tensor]
    start: Callable[[], None]
    answer: Any


class Recorded:
    """A program of tensors that is recorded the first time that they come in new shapes.

    Args:
        program: from tensors to a tensor, or to a tuple of tensors and None.
        recorder: `CudaGraphs`, on a GPU.
    """

    def __init__(self, program: Program, recorder: Recorder) -> None:
        self._program, self._recorder = program, recorder
        self._recordings: dict[tuple[Any, ...], _Recording] = {}

    @torch.inference_mode()
    def __call__(self, *inputs: Tensor) -> Any:
        """The program's answer, as copies: the recording writes to the same place each time."""
        key = tuple((x.shape, x.dtype) for x in inputs)
        recording = self._recordings.get(key)
        if recording is None:
            mine = [self._place(number, x) for number, x in enumerate(inputs)]
            recording = self._recordings[key] = _Recording(mine, *self._recorder(self._program, mine))
        for own, given in zip(recording.inputs, inputs, strict=True):
            own.copy_(given)
        recording.start()
        return _copied(recording.answer)

    def _place(self, number: int, like: Tensor) -> Tensor:
        """Where input `number` is copied to: the first rows of one that is there already, if they do."""
        for recording in self._recordings.values():
            there = recording.inputs[number]
            if there.dtype == like.dtype and there.shape[1:] == like.shape[1:] and len(there) >= len(like):
                return there[: len(like)]
        return like.clone(memory_format=torch.contiguous_format)


class CudaGraphs:
    """Records what a program starts on a GPU as a CUDA graph.

    What programs make on the way, and their answers, lie in memory that they share: one may run at a time, and
    its answer has to be read before the next one starts.

    Args:
        device: the GPU, which need not be the current one.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        with on_device(device):
            self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, program: Program, inputs: list[Tensor]) -> tuple[Callable[[], None], Any]:
        """A `Recorder`."""
        with on_device(self._device):
            program(*inputs)  # compiles
            # Once more in the stream that records: libraries set themselves up for each, which cannot be recorded.
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                program(*inputs)
            torch.cuda.current_stream().wait_stream(self._stream)
            graph = torch.cuda.CUDAGraph()
            # Other threads may go on using the GPU meanwhile.
            with torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"):
                answer = program(*inputs)

        def start() -> None:
            with on_device(self._device):
                graph.replay()

        return start, answer


def _copied(answer: Any) -> Any:
    if isinstance(answer, tuple):
        return tuple(_copied(part) for part in answer)
    return None if answer is None else answer.clone()
