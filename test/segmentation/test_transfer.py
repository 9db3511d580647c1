"""What crosses between host and device in a step, without a GPU: torch's meta device stands for one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from small_models import clip, random_model, small_config

from sam_perception.benchmarks.syncs import WaitingOperations, waiting_operations
from sam_perception.prompts import BoxPrompt, MaskPrompt, PointPrompt
from sam_perception.segmentation import StreamingTracker, observing, transfer
from sam_perception.segmentation.transfer import download, upload

META = torch.device("meta")
SIZE = 64


def queued(values: Any, device: torch.device) -> torch.Tensor:
    """`upload` as a GPU sees it: a tensor of that shape, which did not make the host wait."""
    local = torch.from_numpy(np.array(values))
    return torch.empty(local.shape, dtype=local.dtype, device=device)


def read_once(logits: torch.Tensor, numbers: torch.Tensor, height: int, width: int) -> tuple[Any, Any]:
    """`masks_and_numbers`, which is to wait: everything is there."""
    assert logits.device == numbers.device == META
    return np.ones((len(logits), height, width), bool), np.full(tuple(numbers.shape), 0.9, np.float32)


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> StreamingTracker:
    """A tracker on a device that computes shapes only."""
    for name, module in list(sys.modules.items()):
        if name.startswith("sam_perception.segmentation") and getattr(module, "upload", None) is upload:
            monkeypatch.setattr(module, "upload", queued)
    monkeypatch.setattr(observing, "masks_and_numbers", read_once)
    return StreamingTracker(random_model(small_config(SIZE)).to(META), max_objects=4)


def run(tracker: StreamingTracker, turns: Sequence[list[int] | None]) -> list[tuple[int, ...]]:
    """Who rested in each frame."""
    return [tracker.step(p, None, None, only).resting for p, only in zip(clip(len(turns), SIZE), turns, strict=True)]


def test_a_step_is_queued_as_a_whole_also_where_objects_rest(away: StreamingTracker) -> None:
    # What would wait: `item()` raises on this device, copies and indices from the host are seen by the mode.
    tracker = away
    tracker.prompt(BoxPrompt(1, (5, 5, 30, 30)))
    tracker.prompt(PointPrompt(3, [(40, 40)]))
    tracker.prompt(MaskPrompt(2, np.eye(SIZE, dtype=bool)))
    seen: list[tuple[int, ...]] = []
    waits = waiting_operations(lambda: seen.extend(run(tracker, [None, None, [1], [2], None])))
    assert seen == [(), (), (2, 3), (1, 3), ()]
    assert waits == {}
    tracker.prompt(PointPrompt(2, [(20, 20), (1, 1)], [1, 0]))
    assert waiting_operations(lambda: run(tracker, [[1]])) == {}


@pytest.mark.parametrize(
    ("work", "name"),
    [
        (lambda t: t[torch.tensor([1, 0])], "index by a tensor on the host"),
        (lambda t: t.__setitem__(torch.tensor([1, 0]), 0.0), "index_put_ by a tensor on the host"),
        (lambda t: torch.ones(4).to(t.device), "copy from the host"),
        (lambda t: torch.ones(4).to(t.device, non_blocking=True), "copy from the host"),  # not page-locked
        (lambda t: t.copy_(torch.ones(4)), "copy from the host"),
        (lambda t: torch.empty(4).copy_(t, non_blocking=True), "copy to the host"),  # nobody can read it yet
        (lambda t: t.cpu(), "copy to the host"),
    ],
)
@pytest.mark.parametrize("inference", [False, True])
def test_what_crosses_is_found(work: Any, name: str, inference: bool) -> None:
    with torch.inference_mode(inference):
        there = torch.empty(4, device=META)
        with WaitingOperations() as seen, suppress(NotImplementedError):  # this device has no numbers to give away
            work(there)
        assert seen.counts == {name: 1}
        assert waiting_operations(lambda: there + torch.tensor(2.0)) == {}  # a number goes along with the kernel


def test_a_gpu_writes_to_page_locked_memory_and_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    device, done, locked = torch.device("cuda", 1), [], np.arange(3, dtype=np.uint8)
    on_gpu = SimpleNamespace(device=device, shape=(3,), dtype=torch.uint8)

    class Host:
        def copy_(self, source: Any, *, non_blocking: bool) -> None:
            done.append(("copied", source is on_gpu, non_blocking))

        def numpy(self) -> np.ndarray:
            done.append("read")
            return locked

    def empty(shape: Any, *, dtype: Any, pin_memory: bool) -> Host:
        done.append((shape, dtype, pin_memory))
        return Host()

    monkeypatch.setattr(transfer.torch, "empty", empty)
    wait = SimpleNamespace(synchronize=lambda: done.append("waited"))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda of: wait if of == device else None)
    found = download(on_gpu)  # type: ignore[arg-type]
    locked[:] = 9  # by the next frame
    assert found.tolist() == [0, 1, 2]
    assert done == [((3,), torch.uint8, True), ("copied", True, True), "waited", "read"]


def test_what_goes_up_comes_down_equal() -> None:
    values = np.arange(6).reshape(2, 3)[:, ::-1]
    np.testing.assert_array_equal(download(upload(values, torch.device("cpu"))), values)
