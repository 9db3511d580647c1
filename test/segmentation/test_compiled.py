"""Compiled once: no number of objects, points or prompts makes a new program, and none changes the masks."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from small_models import clip, random_model, small_config

from sam_perception.config import PerceptionConfig, TrackerConfig
from sam_perception.errors import ConfigError
from sam_perception.prompts import BoxPrompt, MaskPrompt, PointPrompt, Prompt
from sam_perception.segmentation import StreamingTracker, Tracks
from sam_perception.segmentation.compiled import CompiledNetwork
from sam_perception.segmentation.loading import load_tracker
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
    network.buckets = (3,)  # one and two objects are filled up then; and each bucket takes its time to trace
    network.warm_up(CONFIG, said.append)
    made = compiler.programs
    assert made == 3 + 3  # of the picture; of each number of objects
    assert [line.split(" in ")[0] for line in said] == [
        "compiled the image encoder",
        "compiled tracking of 3 of 3 objects",
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
