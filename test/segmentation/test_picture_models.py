"""Detectors of fixed classes, semantic segmentation and depth from colour, on tiny models and on planted answers."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import helper_models
import numpy as np
import pytest
import torch
import transformers

from sam_perception.config import PerceptionConfig
from sam_perception.discovery import Models, load_models
from sam_perception.errors import ConfigError, ModelError
from sam_perception.frame import DepthSource
from sam_perception.perception import Perception
from sam_perception.prompts import TextPrompt
from sam_perception.scene import SurfaceLabel
from sam_perception.segmentation.detection.appearance import describe
from sam_perception.segmentation.detection.object_detector import (
    BoxDetector,
    InstanceSegmenter,
    box_of,
    load_object_detector,
)
from sam_perception.segmentation.detection.semantic import SemanticSegmenter, load_semantic
from sam_perception.segmentation.hub import load_image_processor
from sam_perception.segmentation.mono_depth import load_mono_depth
from sam_perception.settings import with_settings
from sam_perception.sources.synthetic import SyntheticSource

RGB = np.random.default_rng(0).integers(0, 255, (120, 160, 3)).astype(np.uint8)
CONFIG = SimpleNamespace(id2label={0: "cup", 1: "book", 2: "bottle"})


class Planted:
    """A model that answers what a test puts into it."""

    def __init__(self, config: Any = CONFIG, **answer: torch.Tensor) -> None:
        self.config, self.device = config, torch.device("cpu")
        self._answer = answer

    def __call__(self, **inputs: torch.Tensor) -> Any:
        assert inputs["pixel_values"].shape[1] == 3
        return SimpleNamespace(**self._answer)


def test_a_detr_s_answer_is_read_as_the_paper_says() -> None:
    # Three queries over three classes and "nothing": logits whose softmax is known.
    probabilities = torch.tensor([[[0.9, 0.04, 0.03, 0.03], [0.1, 0.6, 0.1, 0.2], [0.02, 0.02, 0.06, 0.9]]])
    boxes = torch.tensor([[[0.5, 0.5, 0.5, 0.5], [0.25, 0.25, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]]])
    images = transformers.DetrImageProcessorPil(size={"shortest_edge": 60, "longest_edge": 80})
    detector = BoxDetector(Planted(logits=probabilities.log(), pred_boxes=boxes), images)
    found = detector.detect(RGB, threshold=0.5)
    assert [d.label for d in found] == ["cup", "book"]  # the third is nothing
    assert [d.score for d in found] == pytest.approx([0.9, 0.6])
    np.testing.assert_allclose([d.box for d in found], [(40, 30, 120, 90), (0, 0, 80, 60)], atol=1e-4)
    assert [d.label for d in detector.detect(RGB, threshold=0.7)] == ["cup"]
    assert [d.label for d in detector.detect(RGB, threshold=0.5, nms_iou=0.1)] == ["cup"]  # they share a seventh
    assert detector.classes == ("cup", "book", "bottle")


def test_a_mask2former_s_answer_is_read_with_its_masks() -> None:
    # Four classes with "nothing"; two queries with masks on the left and on the lower right.
    classes = torch.full((1, 3, 4), -10.0)
    classes[0, 0, 2] = classes[0, 1, 0] = classes[0, 2, 3] = 10.0
    masks = torch.full((1, 3, 30, 40), -10.0)
    masks[0, 0, :, :10] = 10.0
    masks[0, 1, 20:, 20:] = 10.0
    images = transformers.Mask2FormerImageProcessorPil(size={"height": 60, "width": 80}, num_labels=3, ignore_index=255)
    model = Planted(class_queries_logits=classes, masks_queries_logits=masks)
    found = InstanceSegmenter(model, images).detect(RGB, threshold=0.5)
    assert sorted(d.label for d in found) == ["bottle", "cup"]
    bottle = next(d for d in found if d.label == "bottle")
    assert bottle.mask is not None
    expected = np.zeros((120, 160), bool)
    expected[:, :40] = True
    assert np.count_nonzero(bottle.mask != expected) < 0.02 * expected.size  # the border is interpolated
    assert bottle.box == pytest.approx((0, 0, 40, 120), abs=3)
    assert bottle.score > 0.95


def test_the_box_of_a_mask_is_its_outermost_edges() -> None:
    mask = np.zeros((10, 10), bool)
    mask[2:5, 7] = mask[4, 3] = True
    assert box_of(mask) == (3, 2, 8, 5)


@pytest.mark.parametrize("name", ["rt_detr", "yolos", "mask2former"])
def test_detectors_of_other_families_load_and_answer(tmp_path: Path, name: str) -> None:
    detector = load_object_detector(getattr(helper_models, name)(tmp_path), "cpu")
    assert detector.classes == ("cup", "book", "bottle")
    everything = detector.detect(RGB, threshold=0.0, nms_iou=1.0)
    for detection in everything:
        assert detection.label in detector.classes
        assert 0 <= detection.score <= 1
        assert 0 <= detection.box[0] < detection.box[2] <= 160
        assert 0 <= detection.box[1] < detection.box[3] <= 120
    scores = [d.score for d in everything]
    assert scores == sorted(scores, reverse=True)
    middle = scores[len(scores) // 2] if scores else 0.5
    assert all(d.score >= middle for d in detector.detect(RGB, threshold=middle, nms_iou=1.0))


def test_classes_become_floor_and_wall() -> None:
    # Like ADE20K's, a name may be several.
    config = SimpleNamespace(id2label={0: "wall", 1: "floor, flooring", 2: "mug", 3: "door;double door"})
    logits = torch.zeros(1, 4, 2, 2)
    logits[0, 0, 0, 0] = logits[0, 1, 1, :] = logits[0, 3, 0, 1] = 9.0
    images = transformers.SegformerImageProcessorPil(size={"height": 32, "width": 32})
    segmenter = SemanticSegmenter(Planted(config, logits=logits), images)
    labels = segmenter.surfaces(RGB, "Floor, road", "double door")
    assert labels.shape == (120, 160)
    assert labels.dtype == np.uint8
    assert labels[110, 5] == labels[110, 150] == SurfaceLabel.FLOOR.value
    assert labels[5, 150] == SurfaceLabel.WALL.value
    assert labels[5, 5] == SurfaceLabel.UNKNOWN.value  # "wall" was not asked for
    with pytest.raises(ConfigError, match="name no class of the model; it has wall, floor, flooring, mug"):
        segmenter.surfaces(RGB, "lawn", "hedge")


def test_a_semantic_model_loads_and_numbers_every_pixel(tmp_path: Path) -> None:
    segmenter = load_semantic(helper_models.segformer(tmp_path), "cpu")
    numbers = segmenter.numbers(RGB)
    assert numbers.shape == (120, 160)
    assert set(np.unique(numbers)) <= {0, 1, 2}
    with pytest.raises(ModelError, match="wanted to guess depth: one of depth_anything"):
        load_mono_depth(tmp_path)


@pytest.mark.parametrize("kind", ["relative", "metric", "glpn"])
def test_depth_is_told_as_inverse_depth(tmp_path: Path, kind: str) -> None:
    folder = helper_models.glpn(tmp_path) if kind == "glpn" else helper_models.depth_anything(tmp_path, kind)
    model = load_mono_depth(folder, "cpu")
    assert model.metric == (kind != "relative")
    disparity = model.disparity(RGB)
    assert disparity.shape == (120, 160)
    assert np.isfinite(disparity).all()
    raw = transformers.AutoModelForDepthEstimation.from_pretrained(folder).eval()
    with torch.inference_mode():
        told = raw(pixel_values=load_image_processor(folder)(images=[RGB], return_tensors="pt")["pixel_values"])
    corner = float(told.predicted_depth[0, 0, 0])
    assert disparity[0, 0] == pytest.approx(1 / max(corner, 1e-3) if model.metric else corner, rel=1e-4)


def test_the_settings_name_the_models(tmp_path: Path) -> None:
    clip, depth = helper_models.clip(tmp_path / "clip"), helper_models.glpn(tmp_path / "glpn")
    settings = {"words.model": str(clip), "depth.model": str(depth), "depth.mode": "fill"}
    models = load_models(with_settings(PerceptionConfig(device="cpu"), settings))
    assert models.words is not None
    assert models.words.find(RGB, ["a mug"], box_threshold=1.0) == []
    assert models.depth is not None
    assert models.depth.metric
    assert models.detector is None
    assert models.semantic is None
    assert load_models(with_settings(PerceptionConfig(), {"depth.model": "unused"})) == Models()
    with pytest.raises(ModelError, match="wanted to detect objects"):
        load_models(with_settings(PerceptionConfig(device="cpu"), {"detector.model": str(clip)}))
    with pytest.raises(ModelError, match="wanted to tell floor and walls"):
        load_models(with_settings(PerceptionConfig(device="cpu"), {"semantic.model": str(clip)}))


def test_all_of_them_work_together_in_the_recipe(tmp_path: Path) -> None:
    makers = {
        "words.model": helper_models.owl,
        "detector.model": helper_models.yolos,
        "semantic.model": helper_models.segformer,
        "depth.model": helper_models.glpn,
    }
    settings: dict[str, object] = {name: str(make(tmp_path / name)) for name, make in makers.items()}
    settings |= {"words.box_threshold": 0.0, "detector.threshold": 0.0, "depth.mode": "fill", "max_objects": 3}
    perception = Perception(with_settings(PerceptionConfig(device="cpu"), settings))
    perception.prompt(TextPrompt(1, "a mug", max_instances=2))
    source = SyntheticSource(8, width=160, height=120, frames=2)
    first, second = (perception.step(frame) for frame in source)
    assert first.object(1).label == "a mug"
    assert {"words model", "detector model", "semantic model", "depth model"} <= set(first.timings_ms)
    # Random weights know nothing of depth, and the fit sees that.
    assert any("depth is not guessed: the guess is off by" in note for note in first.notes)
    assert first.depth_source is second.depth_source is DepthSource.SENSOR
    assert len(second.objects) == 3


def test_looks_tell_things_apart_and_leave_out_what_all_share() -> None:
    # Three channels: one that is large everywhere, one that tells left from right, one top from bottom.
    features = torch.zeros(1, 3, 4, 4)
    features[0, 0] = 100.0 + torch.arange(16.0).reshape(4, 4) * 1e-6
    features[0, 1, :, :2], features[0, 1, :, 2:] = 1.0, -1.0
    features[0, 2, :2], features[0, 2, 2:] = 5.0, -5.0
    masks = np.zeros((4, 40, 40), bool)
    masks[0, :20, :20] = masks[1, 2:12, 3:13] = masks[2, 20:, 20:] = True
    vectors = describe(features, masks)
    assert vectors.shape == (4, 3)
    np.testing.assert_allclose(np.linalg.norm(vectors[:3], axis=1), 1.0, atol=1e-5)
    assert float(vectors[0] @ vectors[1]) > 0.9  # parts of one corner
    assert float(vectors[0] @ vectors[2]) < -0.9  # the opposite one
    assert not vectors[3].any()  # an empty mask
    assert abs(vectors[0, 1]) == pytest.approx(abs(vectors[0, 2]), rel=1e-3)  # each in units of its spread
