"""Recorded once for each shape, started from any thread; what a CPU cannot do is simulated."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from recorders import Rerunning

from sam_perception.segmentation.cuda_graphs import CudaGraphs, Recorded

Tensor = torch.Tensor


def _both(x: Tensor, y: Tensor) -> tuple[Tensor, None, Tensor]:
    return x + y, None, x * 2


def _rows(count: int, value: float = 1.0) -> Tensor:
    return torch.full((count, 3), value)


def test_a_program_is_recorded_once_for_each_shape_and_type() -> None:
    recorder = Rerunning()
    program = Recorded(_both, recorder)
    for x in (_rows(4), _rows(2), _rows(4, 2.0), _rows(2).double(), _rows(2, 5.0)):
        total, nothing, double = program(x, torch.tensor([1.0]))
        assert torch.equal(total, x + 1)
        assert torch.equal(double, x * 2)
        assert nothing is None
        assert total.dtype == x.dtype
    assert [inputs[0].shape for inputs in recorder.inputs] == [(4, 3), (2, 3), (2, 3)]


def test_an_answer_stays_when_the_next_one_comes_and_layout_does_not_matter() -> None:
    recorder = Rerunning()
    program = Recorded(lambda x: x + 1, recorder)
    first = program(_rows(3))
    flipped = torch.arange(9.0).reshape(3, 3).T
    assert torch.equal(program(flipped), flipped + 1)
    assert torch.equal(first, _rows(3) + 1)
    assert len(recorder.inputs) == 1


def test_any_thread_starts_what_one_has_recorded() -> None:
    recorder = Rerunning()
    program = Recorded(_both, recorder)
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        one.submit(program, _rows(2), _rows(2)).result()
        total, _, _ = other.submit(program, _rows(2, 3.0), _rows(2)).result()
    assert torch.equal(total, _rows(2, 4.0))
    assert len(recorder.inputs) == 1


def test_fewer_rows_are_copied_to_where_more_are() -> None:
    recorder = Rerunning()
    program = Recorded(_both, recorder)
    for count in (4, 2, 1):
        program(_rows(count), torch.ones(1))
    assert len({inputs[0].data_ptr() for inputs in recorder.inputs}) == 1
    assert len({inputs[1].data_ptr() for inputs in recorder.inputs}) == 1
    program(_rows(5), torch.ones(1))
    assert recorder.inputs[3][0].data_ptr() != recorder.inputs[0][0].data_ptr()


def test_what_goes_wrong_comes_through_and_leaves_no_recording() -> None:
    def program(x: Tensor) -> Tensor:
        if x.sum() > 10:
            raise ValueError("too much")
        return x + 1

    recorder = Rerunning()
    recorded = Recorded(program, recorder)
    with pytest.raises(ValueError, match="too much"):
        recorded(_rows(2, 100.0))
    assert not recorder.inputs
    assert torch.equal(recorded(_rows(2)), _rows(2, 2.0))


class SimulatedCuda:
    """The parts of torch.cuda that record, as notes of what was called inside of what."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.notes: list[str] = []
        self._inside: list[str] = []
        self._wanted = inspect.signature(torch.cuda.graph.__init__)
        for name in ("device", "stream", "graph"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))
        monkeypatch.setattr(torch.cuda, "Stream", lambda: self._made("side"))
        monkeypatch.setattr(torch.cuda, "current_stream", lambda: self._made("current"))
        monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "pool")
        monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: self._made("graph"))

    def note(self, what: str) -> None:
        """Note it with what it is inside of."""
        self.notes.append(" ".join([*self._inside, what]))

    def _made(self, name: str) -> Any:
        cuda = self

        class Made:
            def __str__(self) -> str:
                return name

            def wait_stream(self, other: Any) -> None:
                cuda.note(f"{name} waits for {other}")

            def replay(self) -> None:
                cuda.note("replay")

        return Made()

    @contextmanager
    def _within(self, what: str) -> Iterator[None]:
        self._inside.append(what)
        try:
            yield
        finally:
            self._inside.pop()

    def device(self, index: int) -> Any:
        return self._within(f"cuda:{index}")

    def stream(self, stream: Any) -> Any:
        return self._within(f"in {stream}")

    def graph(self, *args: Any, **kwargs: Any) -> Any:
        given = self._wanted.bind(None, *args, **kwargs).arguments
        return self._within(f"recording in {given['stream']}, {given['pool']}, {given['capture_error_mode']}:")


def test_a_graph_is_recorded_on_its_own_device_after_a_run_and_a_run_in_its_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cuda = SimulatedCuda(monkeypatch)

    def program(x: Tensor) -> Tensor:
        cuda.note("run")
        return x + 1

    recorder = CudaGraphs(torch.device("cuda", 3))
    start: Callable[[], None]
    start, answer = recorder(program, [_rows(2)])
    assert torch.equal(answer, _rows(2, 2.0))
    start()
    assert cuda.notes == [
        "cuda:3 run",
        "cuda:3 side waits for current",
        "cuda:3 in side run",
        "cuda:3 current waits for side",
        "cuda:3 recording in side, pool, thread_local: run",
        "cuda:3 replay",
    ]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_gpu_starts_recordings_from_another_thread() -> None:
    """On the last GPU, while the first one is current."""
    device = torch.device("cuda", torch.cuda.device_count() - 1)
    weight = torch.rand(64, 64, device=device)
    program = Recorded(lambda x: (x @ weight).relu() + 1, CudaGraphs(device))
    for count in (8, 3):
        program(torch.rand(count, 64, device=device))
    with ThreadPoolExecutor(1) as other:
        for count in (3, 8, 3):
            x = torch.rand(count, 64, device=device)
            torch.testing.assert_close(other.submit(program, x).result(), (x @ weight).relu() + 1)
