"""Compiled once: no number of objects, points or prompts makes a new program, and none changes the masks."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from recorders import Rerunning
from small_models import clip, random_model, small_config
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sam_perception.config import PerceptionConfig, TrackerConfig
from sam_perception.errors import ConfigError
from sam_perception.prompts import BoxPrompt, MaskPrompt, PointPrompt, Prompt
from sam_perception.segmentation import StreamingTracker, Tracks
from sam_perception.segmentation import compiled as compiled_module
from sam_perception.segmentation import memory_bank as memory_bank_module
from sam_perception.segmentation.compiled import CompiledNetwork
from sam_perception.segmentation.loading import load_tracker
from sam_perception.segmentation.transfer import upload
from sam_perception.settings import with_settings

SIZE, OBJECTS, FRAMES = 64, 3, 14
CONFIG = TrackerConfig(feature_cache_frames=4)

# By frame: from one object to three and back, from one point to four, boxes, masks, late ones, several at once.
PROMPTS: dict[int, list[Prompt]] = {
    1: [PointPrompt(1, [(20, 25)])],
    3: [BoxPrompt(2, (30, 30, 56, 60)), PointPrompt(1, [(24, 28), (5, 5)], [1, 0])],
    5: [MaskPrompt(3, np.tri(SIZE, dtype=bool))],
    7: [PointPrompt(2, [(40, 42), (44, 50), (10, 10), (36, 40)], [1, 1, 0, 1], stamp_ns=5)],
    8: [PointPrompt(1, [(22, 26)]), BoxPrompt(2, (28, 28, 58, 60)), PointPrompt(3, [(10, 50)])],
    12: [BoxPrompt(1, (10, 10, 40, 40), [(20, 20), (30, 30), (12, 12)])],
}
REMOVALS = {10: 2, 11: 1}


class Counting:
    """A compiler that makes programs as torch's does, runs them uncompiled, and counts them."""

    def __init__(self) -> None:
        self.programs = 0

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return torch.compile(function, fullgraph=True, dynamic=False, backend=self._backend)

    def _backend(self, graph: Any, _: Any) -> Any:
        self.programs += 1
        return graph.forward


@pytest.fixture(scope="module")
def model() -> Any:
    return random_model(small_config(SIZE), seed=0, presence_bias=3.0)


def _run(tracker: StreamingTracker) -> list[Tracks]:
    tracks = []
    # Pictures of another size too: what a resized picture is like in memory must not matter.
    for t, picture in enumerate(clip(FRAMES, SIZE)):
        for prompt in PROMPTS.get(t, []):
            tracker.prompt(prompt)
        if t in REMOVALS:
            tracker.remove(REMOVALS[t])
        tracks.append(tracker.step(picture if t % 2 or t in PROMPTS else picture[:, :40], stamp_ns=t))
    return tracks


def _worst(have: list[Tracks], want: list[Tracks]) -> float:
    worst = 0.0
    for a, b in zip(have, want, strict=True):
        assert a.ids.tolist() == b.ids.tolist()
        if len(a.ids):
            worst = max(worst, float((a.logits - b.logits).abs().max()), float(np.abs(a.scores - b.scores).max()))
    return worst


def test_every_program_is_made_beforehand_and_masks_stay_the_same(model: Any) -> None:
    compiler, said = Counting(), []
    network = CompiledNetwork(model, OBJECTS, compiler)
    assert network.buckets == (1, 2, 3)
    network.warm_up(CONFIG, said.append)
    made = compiler.programs
    assert made == 3 + 3 * 3  # of the picture; of each number of objects
    assert [line.split(" in ")[0] for line in said] == [
        "compiled the image encoder",
        *(f"compiled tracking of {size} of 3 objects" for size in (3, 2, 1)),
    ]
    have = _run(StreamingTracker(network, OBJECTS, CONFIG))
    want = _run(StreamingTracker(model, OBJECTS, CONFIG))
    assert {len(t.ids) for t in have} == {0, 1, 2, 3}
    assert _worst(have, want) < 1e-3
    assert compiler.programs == made


@pytest.mark.parametrize(
    ("most", "buckets"), [(1, (1,)), (2, (1, 2)), (8, (1, 2, 4, 8)), (11, (1, 2, 4, 8, 11)), (16, (1, 2, 4, 8, 16))]
)
def test_buckets_double_up_to_the_most_objects(model: Any, most: int, buckets: tuple[int, ...]) -> None:
    assert CompiledNetwork(model, most, lambda function: function).buckets == buckets


def test_filling_up_changes_nothing_in_any_bucket(model: Any) -> None:
    """Without a compiler: eleven places, so that one to three objects are filled up to 1, 2 and 4 rows."""
    have = _run(StreamingTracker(CompiledNetwork(model, 11, lambda function: function), 11, CONFIG))
    assert _worst(have, _run(StreamingTracker(model, 11, CONFIG))) < 1e-3


def test_keys_that_are_not_kept_are_filled_up_too(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sam_perception.segmentation.memory_bank.KEY_LIMIT_BYTES", 0)
    have = _run(StreamingTracker(CompiledNetwork(model, OBJECTS, lambda function: function), OBJECTS, CONFIG))
    assert _worst(have, _run(StreamingTracker(model, OBJECTS, CONFIG))) < 1e-3


# ---------------------------------------------------------------- recorded, as on a GPU


def test_what_one_thread_recorded_beforehand_another_one_starts(model: Any) -> None:
    """As in the node, which loads the model in one thread and steps in another."""
    recorder = Rerunning()
    network = CompiledNetwork(model, OBJECTS, lambda function: function, recorder)
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        one.submit(network.warm_up, CONFIG).result()
        made = len(recorder.inputs)
        have = other.submit(_run, StreamingTracker(network, OBJECTS, CONFIG)).result()
    assert made == len(recorder.inputs) == 3 + 3 * 3
    assert _worst(have, _run(StreamingTracker(model, OBJECTS, CONFIG))) < 1e-3


def test_only_what_changes_is_copied_and_smaller_buckets_share_its_place(model: Any) -> None:
    recorder = Rerunning()
    network = CompiledNetwork(model, OBJECTS, lambda function: function, recorder)
    network.warm_up(CONFIG)
    layers = len(network.attention.layers)
    per_bucket = [6 + layers, 3, 4]  # what memory attention reads, the decoder, the memory encoder
    assert [len(inputs) for inputs in recorder.inputs] == [1, 1, 1] + per_bucket * 3
    for program in range(3):
        places = [[x.data_ptr() for x in inputs] for inputs in recorder.inputs[3 + program :: 3]]
        assert places[0] == places[1] == places[2]


class OnDevice(TorchDispatchMode):
    """Refuses tensors on the host, which a CUDA graph cannot copy from; the meta device has no values to copy there."""

    def __torch_dispatch__(self, op: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        answer = op(*args, **(kwargs or {}))
        for tensor in tree_leaves((args, kwargs, answer)):
            assert not isinstance(tensor, torch.Tensor) or tensor.device.type == "meta", op
        return answer


def test_programs_stay_on_their_device(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The meta device, which has no values, stands for a GPU: code that is for CPUs is left out there too."""

    def recorder(program: Callable[..., Any], inputs: list[torch.Tensor]) -> tuple[Callable[[], None], Any]:
        with OnDevice():
            answer = program(*inputs)
        recorded.append(program)
        return lambda: None, answer

    def moved(values: Any, device: torch.device) -> torch.Tensor:
        return upload(values, device).to(device)

    recorded: list[Any] = []
    for module in (compiled_module, memory_bank_module):
        monkeypatch.setattr(module, "upload", moved)
    network = CompiledNetwork(copy.deepcopy(model).to("meta"), 2, lambda function: function, recorder)
    network.warm_up(CONFIG)
    assert len(recorded) == 3 + 3 * 2


def test_what_fails_while_it_is_recorded_says_so(model: Any) -> None:
    def failing(error: Exception) -> CompiledNetwork:
        def recorder(*_: Any) -> Any:
            raise error

        return CompiledNetwork(model, 1, lambda function: function, recorder)

    with pytest.raises(ConfigError, match="operation not permitted when stream is capturing"):
        failing(RuntimeError("CUDA error: operation not permitted when stream is capturing")).ready(CONFIG)
    with pytest.raises(torch.OutOfMemoryError, match="on this GPU"):
        failing(torch.OutOfMemoryError("no memory on this GPU")).ready(CONFIG)


@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_gpu_gives_the_same_masks_from_another_thread(model: Any) -> None:
    on_gpu = copy.deepcopy(model).to(torch.device("cuda", torch.cuda.device_count() - 1))
    network = CompiledNetwork(on_gpu, OBJECTS)
    network.warm_up(CONFIG)
    with ThreadPoolExecutor(1) as other:
        have = other.submit(_run, StreamingTracker(network, OBJECTS, CONFIG)).result()
    assert _worst(have, _run(StreamingTracker(on_gpu, OBJECTS, CONFIG))) < 1e-2


# ---------------------------------------------------------------- asked for in the settings

NANO = PerceptionConfig(model="nano", device="cpu", max_objects=2, compile=True)


def test_settings_compile_the_model_and_say_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def warm_up(network: CompiledNetwork, config: TrackerConfig, progress: Callable[[str], None]) -> None:
        assert network.buckets == (1, 2)
        assert config == NANO.tracker
        progress("compiled the image encoder in 1.0 s")

    monkeypatch.setattr(CompiledNetwork, "warm_up", warm_up)
    with caplog.at_level("INFO", logger="sam_perception"):
        guarded = load_tracker(NANO)
    assert isinstance(guarded._inner._network._backend, CompiledNetwork)
    assert caplog.messages == ["compiling nano for up to 2 objects", "compiled the image encoder in 1.0 s"]
    plain = load_tracker(with_settings(NANO, {"compile": False}))
    assert not isinstance(plain._inner._network._backend, CompiledNetwork)


def test_a_machine_that_cannot_compile_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def warm_up(*_: Any) -> None:
        raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found\n in a long list")

    monkeypatch.setattr(CompiledNetwork, "warm_up", warm_up)
    with pytest.raises(ConfigError, match=r"No working C\+\+ compiler found\): .*install g\+\+.*set compile to false"):
        load_tracker(NANO)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch's own compiler needs g++ on a CPU")
def test_torch_s_own_compiler_gives_the_same_masks(model: Any) -> None:
    network = CompiledNetwork(model, 2)
    network.warm_up(CONFIG)
    trackers = StreamingTracker(network, 2, CONFIG), StreamingTracker(model, 2, CONFIG)
    for tracker in trackers:
        tracker.prompt(PROMPTS[1][0])
        tracker.prompt(PROMPTS[3][0])
    pictures = clip(10, SIZE)
    have, want = ([t.step(p, stamp_ns=k) for k, p in enumerate(pictures)] for t in trackers)
    assert _worst(have, want) < 1e-3
