"""The tracker on onnxruntime against the tracker on torch, on equal random weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reference import Reference, Script, run_tracker, worst_difference
from small_models import clip, random_model, small_config

from sam_perception.config import TrackerConfig
from sam_perception.errors import ConfigError
from sam_perception.prompts import BoxPrompt, MaskPrompt, PointPrompt
from sam_perception.segmentation import StreamingTracker, load_model

pytest.importorskip("onnx", reason="onnx is not installed: pip install 'sam_perception[onnx]'")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'sam_perception[onnx]'")

from sam_perception.segmentation.export.exporting import ExportPlan, export_model

FRAMES, SIZE = 30, 128
# Logits have a standard deviation of about 2; rounding memories to bfloat16 turns 1e-7 into 4e-3 of a value.
LOGIT_TOLERANCE = 2e-2
PRESENT = 3.0  # bias of the object score with which every object is there


def disc(x: float, y: float, radius: float, size: int = SIZE) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size]
    return (columns - x * size) ** 2 + (rows - y * size) ** 2 < (radius * size) ** 2


SCRIPTS = {
    "clicks": Script(
        [(0, PointPrompt(1, [(40, 50)])), (0, PointPrompt(2, [(70, 78), (20, 100), (75, 70)], [1, 0, 1]))]
    ),
    "boxes": Script([(0, BoxPrompt(3, (60, 60, 110, 120))), (0, BoxPrompt(4, (20, 30, 60, 70), [(42, 52)]))]),
    "chosen answers": Script([(0, PointPrompt(1 + k, [(40 + 4 * k, 50)], choose=k)) for k in range(4)]),
    "masks": Script([(0, MaskPrompt(5, disc(0.35, 0.4, 0.15))), (4, MaskPrompt(6, disc(0.6, 0.6, 0.2)))]),
    "several of different ages": Script(
        [(k, BoxPrompt(10 + k, (4 * k, 10 + 5 * k, 4 * k + 50, 70 + 5 * k))) for k in range(5)], removals=[(12, 11)]
    ),
    "corrections": Script(
        [
            (0, PointPrompt(1, [(40, 50)])),
            (0, BoxPrompt(3, (60, 60, 110, 120))),
            (6, PointPrompt(1, [(50, 40)])),
            (9, MaskPrompt(3, disc(0.6, 0.6, 0.2))),
            (14, BoxPrompt(1, (25, 25, 76, 90))),
            (14, PointPrompt(1, [(90, 90)], [0])),
        ]
    ),
    # Stamps are the frames' numbers: these name frames that are already gone by, one of them before another's start.
    "late": Script(
        [
            (0, BoxPrompt(1, (60, 60, 110, 120))),
            (5, PointPrompt(2, [(40, 50)], stamp_ns=3)),
            (9, PointPrompt(1, [(80, 80)], stamp_ns=7)),
            (12, MaskPrompt(3, disc(0.35, 0.4, 0.15), stamp_ns=10)),
        ]
    ),
}


@pytest.fixture(scope="module")
def small() -> Any:
    return random_model(small_config(SIZE), seed=0, presence_bias=PRESENT)


@pytest.fixture(scope="module")
def exported(small: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Folders by batch; 0 is dynamic. With a batch of two, three objects need two calls, the second filled up."""
    folders = {batch: tmp_path_factory.mktemp("export") / f"small{batch}" for batch in (0, 2)}
    for batch, folder in folders.items():
        export_model(small, "small", folder, ExportPlan(batch=batch), ignore)
    return folders


def ignore(check: Any) -> None:
    """Nobody looks at the table."""


def assert_equal_tracks(ours: Any, theirs: Any) -> None:
    for t, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        np.testing.assert_array_equal(a.ids, b.ids)
        assert a.states == b.states, f"frame {t}"
        np.testing.assert_allclose(a.scores, b.scores, atol=1e-3)
        if len(a.ids):
            assert float((a.logits - b.logits).abs().max()) < LOGIT_TOLERANCE, f"frame {t}"
        for row in range(len(a.ids)):
            union = int((a.masks[row] | b.masks[row]).sum())
            both = int((a.masks[row] & b.masks[row]).sum())
            assert both >= 0.999 * union, f"frame {t}, object {a.ids[row]}: IoU {both / union}"


@pytest.fixture(scope="module")
def on_torch(small: Any) -> Callable[[str], list[Any]]:
    """By name of a script, the tracks that torch gives."""
    return cache(lambda name: run_tracker(StreamingTracker(small), clip(FRAMES, SIZE), SCRIPTS[name]))


@pytest.mark.parametrize(
    ("name", "batch"), [*((name, 0) for name in SCRIPTS), ("several of different ages", 2), ("late", 2)]
)
def test_equals_torch_over_thirty_frames(
    on_torch: Callable[[str], list[Any]], exported: dict[int, Path], name: str, batch: int
) -> None:
    theirs = on_torch(name)
    ours = run_tracker(StreamingTracker(load_model(exported[batch], "cpu")), clip(FRAMES, SIZE), SCRIPTS[name])
    assert sum(bool(t.masks[row].any()) for t in theirs for row in range(len(t.ids))) > FRAMES  # masks to compare
    assert_equal_tracks(ours, theirs)


def test_absent_objects_and_unsure_masks_equal_torch(tmp_path: Path) -> None:
    """Object scores change their sign, and the single mask gives way where its edge is not sure."""
    config = small_config(SIZE)
    config.mask_decoder_config.dynamic_multimask_via_stability = True
    config.mask_decoder_config.dynamic_multimask_stability_thresh = 0.945  # three of the boxes lie on either side
    model = random_model(config, seed=4, presence_bias=0.2)
    export_model(model, "small", tmp_path / "small", ExportPlan(), ignore)
    pictures = clip(FRAMES, SIZE, seed=4)
    for t in range(10, 18):
        pictures[t] = np.random.default_rng(t).integers(0, 256, pictures[t].shape).astype(np.uint8)
    boxes = [BoxPrompt(2 + k, (10 + 9 * k, 70 - 8 * k, 60 + 10 * k, 120 - 6 * k)) for k in range(6)]
    script = Script([(0, PointPrompt(1, [(40, 50)])), *((0, box) for box in boxes)])
    theirs = run_tracker(StreamingTracker(model), pictures, script)
    assert len({bool(score > 0.5) for t in theirs for score in t.scores}) == 2
    network = load_model(tmp_path / "small", "cpu")
    unsure, stable = [], network._stable
    network._stable = lambda logits: unsure.append(stable(logits)) or unsure[-1]
    assert_equal_tracks(run_tracker(StreamingTracker(network), pictures, script), theirs)
    assert {bool(s) for answer in unsure for s in answer} == {True, False}


def test_a_wrong_temporal_row_would_be_noticed(small: Any, exported: dict[int, Path]) -> None:
    """The comparison has teeth."""
    pictures = clip(10, SIZE)
    network = load_model(exported[0], "cpu")
    bank = network.bank(8, TrackerConfig())
    tracker = StreamingTracker(network)
    recall = bank.__class__.recall
    tracker._bank.recall = lambda slots, frame: _rolled(recall(tracker._bank, slots, frame))  # type: ignore[method-assign]
    ours = run_tracker(tracker, pictures, SCRIPTS["boxes"])
    theirs = run_tracker(StreamingTracker(small), pictures, SCRIPTS["boxes"])
    with pytest.raises(AssertionError):
        assert_equal_tracks(ours, theirs)


def _rolled(recalled: Any) -> Any:
    return replace(recalled, rows=(recalled.rows + 1) % 7)


def test_memory_does_not_grow(exported: dict[int, Path]) -> None:
    tracker = StreamingTracker(load_model(exported[0], "cpu"), max_objects=2)
    tracker.prompt(BoxPrompt(1, (60, 60, 110, 120)))
    picture = clip(1, SIZE)[0]
    held = []
    for t in range(40):
        tracker.step(picture, stamp_ns=t)
        bank = tracker._bank
        held.append((bank._values.numel(), bank._pointers.numel(), len(list(tracker._cache))))
    assert held[-1] == held[5]


def test_a_fixed_batch_has_place_for_its_own_conditioning_frames_only(exported: dict[int, Path]) -> None:
    model = load_model(exported[2], "cpu")
    with pytest.raises(ConfigError, match=r"3 frames are to be kept .* place for 2: lower them, or export"):
        StreamingTracker(model, config=TrackerConfig(conditioning_frames=3))


def test_sam_2_without_its_later_additions_equals_the_session_and_torch(tmp_path: Path) -> None:
    """SAM 2 of 2024-07 has neither ages of object pointers nor an embedding for occlusion."""
    config = small_config(SIZE)
    config.enable_temporal_pos_encoding_for_object_pointers = False
    config.enable_occlusion_spatial_embedding = False
    model = random_model(config, seed=3, presence_bias=0.5)
    pictures = clip(14, SIZE, seed=3)
    script = Script([(0, PointPrompt(1, [(40, 50)])), (0, BoxPrompt(2, (60, 70, 110, 120)))])
    theirs = run_tracker(StreamingTracker(model), pictures, script)
    assert worst_difference(theirs, Reference(model, like_meta=False).run(pictures, script)) < 1e-3
    export_model(model, "small", tmp_path / "small", ExportPlan(), ignore)
    assert_equal_tracks(run_tracker(StreamingTracker(load_model(tmp_path / "small", "cpu")), pictures, script), theirs)
