"""Memory that runs out: simulated by a network that raises what CUDA raises."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from scarce import OUT_OF_MEMORY, PROMPTS, SIZE, Clock, Scarce, guarded
from small_models import clip, random_model, small_config

from sam_perception.config import TrackerConfig
from sam_perception.errors import DeviceMemoryError
from sam_perception.segmentation import frugal
from sam_perception.segmentation.device_memory import device_memory_errors, is_device_memory_error
from sam_perception.segmentation.frugal import FrugalBackend
from sam_perception.segmentation.guarded import GuardedTracker
from sam_perception.segmentation.memory_ladder import MemoryLadder, Place, steps_for
from sam_perception.segmentation.network import Network
from sam_perception.segmentation.preprocess import masks_and_numbers
from sam_perception.segmentation.tracker import StreamingTracker


@pytest.fixture(scope="module")
def model() -> Any:
    return random_model(small_config(SIZE), seed=0, presence_bias=3.0)


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    return clip(12, SIZE)


def undisturbed(model: Any, pictures: list[np.ndarray], count: int) -> Any:
    tracker = StreamingTracker(model, 4)
    for prompt in PROMPTS:
        tracker.prompt(prompt)
    return [tracker.step(pictures[t], t + 1) for t in range(count)][-1]


# ---------------------------------------------------------------------- what memory errors are


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError(OUT_OF_MEMORY),
        MemoryError(),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried ..."),
    ],
)
def test_what_says_that_memory_ran_out_is_recognised(error: Exception) -> None:
    assert is_device_memory_error(error)
    cure = r"cutting up the picture: .*; end what else uses this device"
    with pytest.raises(DeviceMemoryError, match=cure), device_memory_errors("cutting up the picture"):
        raise error


def test_torch_itself_raises_such_an_error_here() -> None:
    with pytest.raises(DeviceMemoryError), device_memory_errors("asking for 4 EB"):
        torch.empty(2**60, dtype=torch.float32)


def test_other_errors_pass_as_they_are() -> None:
    with pytest.raises(RuntimeError, match="sizes differ"), device_memory_errors("adding"):
        raise RuntimeError("sizes differ")


# ---------------------------------------------------------------------- the steps


def test_the_steps_go_down_in_order_and_come_back_when_it_is_quiet() -> None:
    clock = Clock()
    ladder = MemoryLadder(steps_for(8, (Place.CPU,)), 10.0, clock)
    seen = []
    while ladder.step_down("out of memory"):
        seen.append((ladder.turns, ladder.one_frame, ladder.place))
    configured = Place.CONFIGURED
    assert seen == [
        (0, False, configured), (4, False, configured), (2, False, configured), (1, False, configured),
        (1, True, configured), (0, False, Place.CPU),
    ]  # fmt: skip
    assert ladder.summary == "device memory is short: inference goes on on the CPU (step 6 of 6)"
    for left in range(5, -1, -1):
        assert ladder.due_back() is None
        clock.now_s += 10.0
        assert ladder.due_back() is not None
        ladder.step_back()
        assert len(ladder.taken) == left
    assert ladder.summary == ""


def test_a_step_taken_back_too_early_waits_twice_as_long_the_next_time() -> None:
    clock = Clock()
    ladder = MemoryLadder(steps_for(2, ()), 10.0, clock)
    ladder.step_down("full")
    for wait_s in (10.0, 20.0, 40.0):
        clock.now_s += wait_s - 0.1
        assert ladder.due_back() is None
        clock.now_s += 0.2
        assert ladder.due_back() is not None
        ladder.step_back()
        clock.now_s += 1.0
        ladder.step_down("full again")
    clock.now_s += 80.1
    ladder.step_back()
    clock.now_s += 80.1  # this time it lasts
    assert ladder.due_back() is None
    ladder.step_down("full")
    clock.now_s += 10.1
    assert ladder.due_back() is not None


# ---------------------------------------------------------------------- tracking with less


def test_objects_in_turns_are_tracked_as_all_at_once(model: Any, pictures: list[np.ndarray]) -> None:
    scarce = Scarce(model)
    scarce.room = 1
    tracker = guarded(lambda _: scarce)
    notes: list[str] = []
    for t in range(5):
        tracks = tracker.step(pictures[t], t + 1)
        notes += tracks.notes
    assert scarce.largest == 1
    expected = undisturbed(model, pictures, 5)
    assert tracks.ids.tolist() == expected.ids.tolist() == [3, 7, 9]
    torch.testing.assert_close(tracks.logits, expected.logits, atol=2e-3, rtol=1e-3)
    np.testing.assert_array_equal(tracks.states, expected.states)
    assert [n.rpartition(": ")[2] for n in notes] == [
        "torch's cache is emptied", "objects go in turns of 2", "objects go in turns of 1",
    ]  # fmt: skip
    assert "CUDA out of memory" in notes[0]
    assert tracker.degraded == "device memory is short: objects go in turns of 1 (step 3 of 4)"


def test_after_a_while_all_objects_go_at_once_again(model: Any, pictures: list[np.ndarray]) -> None:
    clock, scarce = Clock(), Scarce(model)
    scarce.room = 2
    tracker = guarded(lambda _: scarce, clock=clock, memory_recover_s=10.0)
    tracker.step(pictures[0], 1)
    assert "turns of 2" in tracker.degraded
    scarce.room = 100
    for t in range(1, 3):
        clock.now_s += 11
        notes = tracker.step(pictures[t], t + 1).notes
        assert any("device memory has sufficed for 10 s" in note for note in notes)
    scarce.largest = 0
    tracker.step(pictures[3], 4)
    assert (tracker.degraded, scarce.largest) == ("", 3)


def test_with_nothing_left_to_try_one_frame_is_dropped_and_no_prompt_lost(
    model: Any, pictures: list[np.ndarray]
) -> None:
    scarce = Scarce(model)
    tracker = guarded(lambda _: scarce)
    scarce.encodings = 0
    with pytest.raises(DeviceMemoryError, match=r"CUDA out of memory.*turns of 1.*track fewer objects"):
        tracker.step(pictures[0], 1)
    assert tracker.object_ids == ()
    assert set(tracker.waiting) == {3, 7, 9}
    scarce.encodings = 100
    assert tracker.step(pictures[0], 2).ids.tolist() == [3, 7, 9]


def test_told_not_to_make_do_it_drops_the_frame(model: Any, pictures: list[np.ndarray]) -> None:
    scarce = Scarce(model)
    tracker = guarded(lambda _: scarce, memory_fallback=False)
    tracker.step(pictures[0], 1)
    scarce.room = 1
    with pytest.raises(DeviceMemoryError, match="memory_fallback"):
        tracker.step(pictures[1], 2)
    assert tracker.degraded == ""
    scarce.room = 100
    assert tracker.step(pictures[2], 3).ids.tolist() == [3, 7, 9]


def test_at_last_it_moves_to_the_cpu_with_its_objects_and_comes_back(model: Any, pictures: list[np.ndarray]) -> None:
    clock, gpu, cpu = Clock(), Scarce(model), Scarce(model)
    tracker = guarded(lambda place: cpu if place is Place.CPU else gpu, Place.CPU, clock=clock, memory_recover_s=10.0)
    before = [tracker.step(pictures[t], t + 1) for t in range(3)][-1]
    gpu.encodings = 0
    tracks = tracker.step(pictures[3], 4)
    assert "inference goes on on the CPU" in tracker.degraded
    assert any("CUDA out of memory" in note and note.endswith("on the CPU") for note in tracks.notes)
    assert cpu.largest > 0
    visible = [i for i, s in zip(before.ids.tolist(), before.states, strict=True) if s.visible]
    assert set(visible) <= set(tracks.ids.tolist())
    assert dict(zip(tracks.ids.tolist(), tracks.labels, strict=True))[7] == "mug"
    for object_id in visible:  # the masks go on where they were, not anywhere
        a, b = before.masks[before.index(object_id)], tracks.masks[tracks.index(object_id)]
        assert (a & b).sum() > 0.3 * (a | b).sum()
    clock.now_s += 11  # still no room: it is tried, and stays where it is
    assert tracker.step(pictures[4], 5).ids.tolist() == tracks.ids.tolist()
    assert "on the CPU" in tracker.degraded
    gpu.encodings, gpu.largest = 1000, 0
    clock.now_s += 21
    tracker.step(pictures[5], 6)
    assert "newest frame only" in tracker.degraded
    assert gpu.largest > 0


def test_a_model_that_does_not_fit_is_taken_to_the_cpu_at_once(model: Any, pictures: list[np.ndarray]) -> None:
    def load(place: Place) -> Any:
        if place is not Place.CPU:
            raise torch.OutOfMemoryError(OUT_OF_MEMORY)
        return model

    tracker = guarded(load, Place.HALF, Place.CPU)
    assert "on the CPU" in tracker.degraded
    assert tracker.step(pictures[0], 1).ids.tolist() == [3, 7, 9]
    with pytest.raises(DeviceMemoryError, match="loading the model: CUDA out of memory"):
        guarded(load)


def test_it_comes_back_uncompiled_and_says_so(model: Any, pictures: list[np.ndarray]) -> None:
    """A compiler takes minutes, which a stream does not have."""
    clock, gpu, compiled = Clock(), Scarce(model), []
    tracker = GuardedTracker(
        lambda _: gpu, 4, TrackerConfig(memory_recover_s=10.0), (Place.CPU,), clock, lambda m: compiled.append(m) or m
    )
    tracker.prompt(PROMPTS[0])
    tracker.step(pictures[0], 1)
    assert (compiled, tracker.degraded) == ([gpu], "")
    tracker._make_do("full")
    while tracker._ladder.place is not Place.CPU:
        tracker._make_do("full")
    clock.now_s += 11
    notes = tracker.step(pictures[1], 2).notes
    assert any("uncompiled" in note for note in notes)
    while tracker._ladder.taken:
        clock.now_s += 11
        tracker.step(pictures[2], int(clock.now_s))
    assert "as configured again, but uncompiled" in tracker.degraded
    assert compiled == [gpu]


def test_masks_go_to_the_host_in_turns_too(
    model: Any, pictures: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    def scarce(logits: torch.Tensor, *rest: Any) -> Any:
        sizes.append(len(logits))
        if len(logits) > 1:
            raise MemoryError
        return masks_and_numbers(logits, *rest)

    tracker = guarded(lambda _: Scarce(model), feature_cache_frames=8)
    tracker.step(pictures[0], 1)
    monkeypatch.setattr(frugal, "masks_and_numbers", scarce)
    tracks = tracker.step(pictures[1], 2)
    expected = undisturbed(model, pictures, 2)
    assert sizes == [3, 3, 2, 1, 1, 1]
    np.testing.assert_array_equal(tracks.masks, expected.masks)
    np.testing.assert_array_equal(tracks.scores, expected.scores)
    assert [f.index for f in tracker._inner._cache] == [0, 1]


def test_memories_are_made_in_turns_where_the_decoder_has_one_hypothesis(model: Any) -> None:
    network = Network(model)
    ladder = MemoryLadder(steps_for(4, ()), 10.0, Clock())
    while ladder.turns != 1:
        ladder.step_down("full")
    with torch.inference_mode():
        features = network.encode_image(torch.zeros(1, 3, SIZE, SIZE))
        several = network.fresh(features).repeat(3, 1, 1, 1)
        decoded = dataclasses.replace(network.decode(several, features), rivals=None)
        projected, prompted = network.project(features), [False, True, False]
        memories = FrugalBackend(network, ladder).memorise(projected, decoded, prompted)
        torch.testing.assert_close(memories, network.memorise(projected, decoded, prompted))


def test_objects_are_removed_renamed_and_reset_through_it(model: Any, pictures: list[np.ndarray]) -> None:
    tracker = guarded(lambda _: model)
    tracker.step(pictures[0], 1)
    tracker.remove(9)
    tracker.rename(3, "cup")
    tracks = tracker.step(pictures[1], 2)
    assert (tracks.ids.tolist(), tracks.labels) == ([3, 7], ("cup", "mug"))
    tracker.forget_memory()
    tracker.reset()
    assert tracker.object_ids == tracker.waiting == ()
