"""Detectors that read words: their texts, boxes and scores against transformers' own processors, on tiny models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import helper_models
import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray

from sam_perception.errors import CheckpointError, ModelError, ModelNotFound, PromptError
from sam_perception.segmentation.detection import clip_grid
from sam_perception.segmentation.detection.clip_grid import ClipGrid
from sam_perception.segmentation.detection.grounding_dino import GroundingDino, assigned
from sam_perception.segmentation.detection.open_vocabulary import load_detector
from sam_perception.segmentation.detection.owl import Owl
from sam_perception.segmentation.hub import load_image_processor, load_tokenizer

TEXTS = ["a red mug", "book"]
RGB = np.random.default_rng(0).integers(0, 255, (120, 160, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {
        "dino": helper_models.grounding_dino(root / "dino"),
        "owl1": helper_models.owl(root / "owl1", version=1),
        "owl2": helper_models.owl(root / "owl2"),
        "clip": helper_models.clip(root / "clip"),
    }


def test_grounding_dino_reads_the_phrases_as_transformers_does(folders: dict[str, Path]) -> None:
    detector = load_detector(folders["dino"], "cpu")
    assert isinstance(detector, GroundingDino)
    tokenizer = load_tokenizer(folders["dino"])
    ids, spans = detector.tokenised(["a red  Mug", "book"])
    assert ids == tokenizer("a red mug. book.")["input_ids"]
    words = [[tokenizer.convert_ids_to_tokens(ids[i]) for i in span] for span in spans]
    assert words == [["red", "mug"], ["book"]]  # what an article fits tells nothing
    ids, spans = detector.tokenised(["the"])
    assert tokenizer.convert_ids_to_tokens(ids[spans[0][0]]) == "the"
    with pytest.raises(PromptError, match="tokens, the model reads 256"):
        detector.tokenised(["mug " * 298])


def test_grounding_dinos_boxes_are_those_of_transformers_processor(folders: dict[str, Path]) -> None:
    images, tokenizer = load_image_processor(folders["dino"]), load_tokenizer(folders["dino"])
    model = transformers.GroundingDinoForObjectDetection.from_pretrained(folders["dino"]).eval()
    processor = transformers.GroundingDinoProcessor(image_processor=images, tokenizer=tokenizer)
    inputs = processor(images=RGB, text="a red mug. book.", return_tensors="pt")
    with torch.inference_mode():
        output = model(**inputs)
    wanted = processor.post_process_grounded_object_detection(
        output, inputs["input_ids"], threshold=-1.0, target_sizes=[RGB.shape[:2]]
    )[0]["boxes"].numpy()
    found = load_detector(folders["dino"], "cpu").find(RGB, TEXTS, box_threshold=0, text_threshold=0, nms_iou=1.0)
    assert {d.label for d in found} <= set(TEXTS)
    assert len(found) > 3
    clipped = np.clip(wanted, 0, [160, 120, 160, 120])
    probabilities = output.logits[0].sigmoid().numpy()
    for detection in found:
        row = int(np.abs(clipped - detection.box).sum(axis=1).argmin())
        np.testing.assert_allclose(clipped[row], detection.box, atol=1e-3)
        span = [2, 3] if detection.label == "a red mug" else [5]
        assert detection.score == pytest.approx(probabilities[row, span].max(), abs=1e-5)
    assert [d.score for d in found] == sorted((d.score for d in found), reverse=True)


def test_a_blue_mug_is_no_red_mug() -> None:
    # Tokens: 0 red, 1 mug, 2 blue, 3 mug; phrases "red mug" and "blue mug".
    spans = [np.array([0, 1]), np.array([2, 3])]
    probabilities = np.array(
        [[0.6, 0.5, 0.1, 0.5], [0.05, 0.6, 0.5, 0.6], [0.02, 0.4, 0.03, 0.4], [0.2, 0.2, 0.2, 0.2]], np.float32
    )
    rows, scores, labels = assigned(probabilities, spans, box_threshold=0.3, text_threshold=0.3)
    assert rows.tolist() == [0, 1]  # the third is a mug of another colour, the fourth is nothing much
    assert labels == [0, 1]
    np.testing.assert_allclose(scores, [0.6, 0.6])
    rows, _, labels = assigned(probabilities, spans, box_threshold=0.3, text_threshold=0.0)
    assert rows.tolist() == [0, 1, 2]


@pytest.mark.parametrize("version", ["owl1", "owl2"])
def test_owls_boxes_and_scores_are_those_of_transformers_processor(folders: dict[str, Path], version: str) -> None:
    kind: Any = transformers.Owlv2ForObjectDetection if version == "owl2" else transformers.OwlViTForObjectDetection
    images, tokenizer = load_image_processor(folders[version]), load_tokenizer(folders[version])
    with torch.inference_mode():
        output = kind.from_pretrained(folders[version]).eval()(
            **tokenizer(TEXTS, padding="max_length", max_length=16, return_tensors="pt"),
            pixel_values=images(images=[RGB], return_tensors="pt")["pixel_values"],
        )
    wanted = images.post_process_object_detection(output, threshold=-1.0, target_sizes=[RGB.shape[:2]])[0]
    detector = load_detector(folders[version], "cpu")
    assert isinstance(detector, Owl)
    found = detector.find(RGB, TEXTS, box_threshold=0.0, nms_iou=1.0)
    boxes = np.clip(wanted["boxes"].numpy(), 0, [160, 120, 160, 120])
    on = (boxes[:, 2:] - boxes[:, :2] >= 1).all(axis=1)
    assert len(found) == np.count_nonzero(on) > 5
    scores, labels = wanted["scores"].numpy()[on], wanted["labels"].numpy()[on]
    # By box, since many scores of random weights are as good as equal.
    theirs, ours = np.lexsort(boxes[on].round(1).T), np.lexsort(np.array([d.box for d in found]).round(1).T)
    np.testing.assert_allclose([found[i].box for i in ours], boxes[on][theirs], atol=1e-2)
    np.testing.assert_allclose([found[i].score for i in ours], scores[theirs], atol=1e-5)
    assert [found[i].label for i in ours] == [TEXTS[i] for i in labels[theirs]]


def test_clip_judges_crops_as_transformers_model_does(folders: dict[str, Path]) -> None:
    detector = load_detector(folders["clip"], "cpu")
    assert isinstance(detector, ClipGrid)
    crops = [RGB[:40, :40], RGB[30:110, 60:140], RGB]
    names = ["a red mug", "book", "a table", "a floor", "a wall", "an empty surface", "a blurry background"]
    images, tokenizer = load_image_processor(folders["clip"]), load_tokenizer(folders["clip"])
    model = transformers.CLIPModel.from_pretrained(folders["clip"]).eval()
    with torch.inference_mode():
        logits = model(
            **tokenizer([f"a photo of {name}" for name in names], padding=True, return_tensors="pt"),
            pixel_values=images(images=crops, return_tensors="pt")["pixel_values"],
        ).logits_per_image
    np.testing.assert_allclose(
        ClipGrid(detector._model, images, tokenizer, batch=2).probabilities(crops, TEXTS),
        logits.softmax(dim=-1)[:, :2].numpy(),
        atol=1e-5,
    )


class Spotter(ClipGrid):
    """Thinks that a crop shows a thing as far as it holds red pixels."""

    def __init__(self) -> None:
        super().__init__(None, None, None)

    def probabilities(self, crops: Any, texts: Any) -> NDArray[np.float32]:
        shares = [min(1.0, 4 * float((crop[..., 0] > 128).mean())) for crop in crops]
        return np.array([[share] * len(texts) for share in shares], np.float32)


def test_crops_that_show_a_thing_give_a_click_on_it() -> None:
    rgb = np.zeros((240, 320, 3), np.uint8)
    rgb[60:110, 200:250, 0] = 255
    rgb[150:190, 40:80, 0] = 255
    found = Spotter().find(rgb, ["a red thing"], box_threshold=0.5)
    clicks = [d.point for d in found]
    assert all(point is not None and rgb[round(point[1]), round(point[0]), 0] for point in clicks[:2])
    on_left = [point is not None and point[0] < 160 for point in clicks[:2]]
    assert sorted(on_left) == [False, True]
    assert Spotter().find(np.zeros((240, 320, 3), np.uint8), ["a red thing"]) == []


@pytest.mark.parametrize(("width", "height"), [(640, 480), (97, 61), (48, 200)])
def test_crops_of_every_scale_cover_the_picture(width: int, height: int) -> None:
    boxes, scales = clip_grid.crop_boxes(width, height)
    for scale in range(len(clip_grid.SCALES)):
        covered = np.zeros((height, width), bool)
        for x0, y0, x1, y1 in boxes[scales == scale].tolist():
            assert 0 <= x0 < x1 <= width
            assert 0 <= y0 < y1 <= height
            covered[y0:y1, x0:x1] = True
        assert covered.all()


@pytest.mark.parametrize("name", ["dino", "owl2", "clip"])
def test_thresholds_and_texts_leave_out(folders: dict[str, Path], name: str) -> None:
    detector = load_detector(folders[name], "cpu")
    everything = detector.find(RGB, TEXTS, box_threshold=0.0, text_threshold=0.0, nms_iou=1.0)
    middle = sorted(d.score for d in everything)[len(everything) // 2]
    assert middle <= min(d.score for d in detector.find(RGB, TEXTS, box_threshold=middle, text_threshold=0.0))
    assert all(d.score == 1.0 for d in detector.find(RGB, TEXTS, box_threshold=1.0))
    assert detector.find(RGB, []) == []


def test_a_model_that_is_not_here_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("SAM_PERCEPTION_MODELS", raising=False)
    with pytest.raises(ModelNotFound, match=r"hf download nobody/no-such-detector --include '\*\.json'"):
        load_detector("nobody/no-such-detector")
    with pytest.raises(ModelNotFound, match=r"pass a directory with config\.json"):
        load_detector(tmp_path / "nowhere")


def test_what_is_no_such_model_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no config\.json or no \.safetensors"):
        load_detector(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickled")
    with pytest.raises(CheckpointError, match="never read"):
        load_detector(tmp_path)
    (tmp_path / "config.json").write_text("{")
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="has no model_type"):
        load_detector(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelError, match="type 'bert', wanted to find things by words: one of grounding-dino, owlv2"):
        load_detector(tmp_path)
    for name in ("config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"):
        source = folders["clip"] / name
        if source.is_file():
            (tmp_path / name).write_bytes(source.read_bytes())
    with pytest.raises(CheckpointError, match="get it again"):
        load_detector(tmp_path, "cpu")
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"preprocessor_config\.json of the same model"):
        load_detector(tmp_path, "cpu")


def test_models_are_found_below_the_folder_of_models(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAM_PERCEPTION_MODELS", str(folders["clip"].parent))
    assert isinstance(load_detector("some/clip", "cpu"), ClipGrid)
