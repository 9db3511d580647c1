"""Prompts on single pictures, against transformers' own models with equal weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_model_cases import KINDS, SIDE, image_model, image_part, picture
from PIL import Image
from torch.nn import functional
from transformers import SamProcessor
from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil

from sam_perception.errors import (
    EmptyPrompt,
    MalformedImage,
    ModelError,
    ModelNotFound,
    PromptError,
    PromptOutsideImage,
)
from sam_perception.segmentation import ImagePredictor, Prediction, load_image_model
from sam_perception.segmentation.pictures.picture_scaling import PaddedScaling, SquashedScaling

HEIGHT, WIDTH = 90, 150
POINTS = np.array([[40.0, 45.0], [108.0, 20.0]], np.float32)
LABELS = np.array([1, 0], np.int32)
BOXES = np.array([[20.0, 10.0, 80.0, 70.0], [90.0, 5.0, 120.0, 88.0], [0.0, 0.0, 150.0, 90.0]], np.float32)
CPU = torch.device("cpu")
_MEAN, _STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])

torch.set_num_threads(1)


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model(kind: str) -> Any:
    return image_model(kind)


@pytest.fixture(scope="module")
def predictor(model: Any) -> ImagePredictor:
    predictor = ImagePredictor(model)
    predictor.set_image(picture(HEIGHT, WIDTH))
    return predictor


class Oracle:
    """transformers' model and steps around it, on the same picture."""

    def __init__(self, kind: str, model: Any) -> None:
        self.kind, self.model = kind, image_part(model) if kind == "sam2_video" else model
        scaling = PaddedScaling(SIDE, CPU) if kind == "sam" else SquashedScaling(SIDE, CPU)
        self.pixels = scaling.pixels(picture(HEIGHT, WIDTH))
        # SAM 1 scales both sides by 128 / 150, to 128 x 76.8, which rounds to 77; SAM 2 each to 128.
        self.scale = np.array([SIDE / WIDTH, 77 / HEIGHT if kind == "sam" else SIDE / HEIGHT])

    def __call__(self, many: bool, points: Any = None, labels: Any = None, boxes: Any = None, masks: Any = None) -> Any:
        inputs: dict[str, Any] = {"multimask_output": many}
        if points is not None:
            inputs["input_points"] = torch.tensor(points * self.scale, dtype=torch.float32)[None]
            inputs["input_labels"] = torch.tensor(labels)[None]
        if boxes is not None:
            scaled = boxes.reshape(-1, 2, 2) * self.scale
            inputs["input_boxes"] = torch.tensor(scaled, dtype=torch.float32).reshape(1, -1, 4)
        if masks is not None:
            inputs["input_masks"] = torch.from_numpy(masks)
        with torch.no_grad():
            out = self.model(pixel_values=self.pixels, **inputs)
        return out.pred_masks[0].numpy(), out.iou_scores[0].numpy()

    def enlarged(self, logits: Any) -> Any:
        masks = torch.from_numpy(logits)
        if self.kind == "sam":
            processor = SamImageProcessorPil()
            sizes = [(HEIGHT, WIDTH)], [(77, SIDE)]
            return processor.post_process_masks([masks], *sizes, pad_size={"height": SIDE, "width": SIDE})[0].numpy()
        return (functional.interpolate(masks, (HEIGHT, WIDTH), mode="bilinear", align_corners=False) > 0).numpy()


@pytest.fixture(scope="module")
def oracle(kind: str, model: Any) -> Oracle:
    return Oracle(kind, model)


def assert_same(seen: Prediction, wanted: tuple[Any, Any], oracle: Oracle) -> None:
    logits, scores = wanted
    assert np.ptp(logits) > 0.5, "the model says the same everywhere"
    np.testing.assert_allclose(seen.logits, logits, atol=1e-4)
    np.testing.assert_allclose(seen.scores, scores, atol=1e-4)
    batch = logits if logits.ndim == 4 else logits[None]
    enlarged = oracle.enlarged(batch).reshape(seen.masks.shape)
    # A pixel whose logit is zero but for rounding may fall on either side.
    assert np.mean(seen.masks != enlarged) < 1e-4


@pytest.mark.parametrize("many", [True, False])
def test_points(predictor: ImagePredictor, oracle: Oracle, many: bool) -> None:
    seen = predictor.predict(POINTS, LABELS, multimask_output=many)
    assert seen.masks.shape == (3 if many else 1, HEIGHT, WIDTH)
    logits, scores = oracle(many, POINTS[None], LABELS[None])
    assert_same(seen, (logits[0], scores[0]), oracle)


def test_a_box(predictor: ImagePredictor, oracle: Oracle) -> None:
    logits, scores = oracle(False, boxes=BOXES[:1])
    assert_same(predictor.predict(box=BOXES[0], multimask_output=False), (logits[0], scores[0]), oracle)


def test_points_and_a_box_together(predictor: ImagePredictor, oracle: Oracle) -> None:
    logits, scores = oracle(True, POINTS[None], LABELS[None], BOXES[:1])
    assert_same(predictor.predict(POINTS, LABELS, BOXES[0]), (logits[0], scores[0]), oracle)


def test_boxes_at_once_are_boxes_one_by_one(predictor: ImagePredictor, oracle: Oracle) -> None:
    seen = predictor.predict(box=BOXES)
    assert seen.masks.shape == (3, 3, HEIGHT, WIDTH)
    assert_same(seen, oracle(True, boxes=BOXES), oracle)
    for row, box in enumerate(BOXES):
        np.testing.assert_allclose(predictor.predict(box=box).logits, seen.logits[row], atol=1e-4)


def test_clicks_at_once(predictor: ImagePredictor, oracle: Oracle) -> None:
    clicks = POINTS[:, None]  # two prompts of one click
    seen = predictor.predict(clicks, np.ones((2, 1), np.int32))
    assert_same(seen, oracle(True, clicks, np.ones((2, 1), np.int32)), oracle)


def test_logits_fed_back(predictor: ImagePredictor, oracle: Oracle) -> None:
    first = predictor.predict(POINTS[:1])
    best = first.logits[first.scores.argmax()]
    seen = predictor.predict(POINTS, LABELS, mask_input=best, multimask_output=False)
    logits, scores = oracle(False, POINTS[None], LABELS[None], masks=best[None, None])
    assert_same(seen, (logits[0], scores[0]), oracle)
    without = predictor.predict(POINTS, LABELS, multimask_output=False)
    assert np.abs(without.logits - seen.logits).max() > 1e-3, "the mask has no effect"


def test_only_a_mask(predictor: ImagePredictor, kind: str, oracle: Oracle) -> None:
    logits = predictor.predict(POINTS[:1]).logits[0]
    seen = predictor.predict(mask_input=logits)
    if kind == "sam":  # SamModel's mask decoder takes no points at all then
        wanted = oracle(True, masks=logits[None, None])
    else:
        nowhere, nothing = np.zeros((1, 1, 2)), np.full((1, 1), -1)
        wanted = oracle(True, nowhere, nothing, masks=logits[None, None])
    assert_same(seen, (wanted[0][0], wanted[1][0]), oracle)


def test_a_drawn_mask_is_taken_at_the_pictures_size(predictor: ImagePredictor) -> None:
    drawn = np.zeros((HEIGHT, WIDTH), bool)
    drawn[20:60, 30:90] = True
    seen = predictor.predict(mask_input=drawn)
    assert seen.masks.shape == (3, HEIGHT, WIDTH)
    assert np.abs(seen.logits - predictor.predict(mask_input=~drawn).logits).max() > 1e-2


def test_best_is_the_mask_with_the_highest_score(predictor: ImagePredictor) -> None:
    one, several = predictor.predict(POINTS[:1]), predictor.predict(box=BOXES)
    np.testing.assert_array_equal(one.best, one.masks[int(np.argmax(one.scores))])
    for row in range(3):
        np.testing.assert_array_equal(several.best[row], several.masks[row, int(np.argmax(several.scores[row]))])


# ------------------------------------------------------------------ pictures


@pytest.mark.parametrize("size", [(90, 150), (301, 77), (48, 48), (128, 128), (480, 640)])
def test_sam_1s_pictures_equal_its_image_processors(size: tuple[int, int]) -> None:
    processor = SamImageProcessorPil(size={"longest_edge": SIDE}, pad_size={"height": SIDE, "width": SIDE})
    rgb = picture(*size)
    wanted = processor(rgb, return_tensors="pt")["pixel_values"]
    seen = PaddedScaling(SIDE, CPU).pixels(rgb)
    # One step of 255 at most, where two resizers round a half differently.
    assert (seen - wanted).abs().max() <= 1.01 / (255 * _STD.min())
    assert ((seen - wanted).abs() > 1e-4).float().mean() < 0.01


def test_sam_1s_coordinates_equal_its_processors() -> None:
    images = SamImageProcessorPil(size={"longest_edge": SIDE}, pad_size={"height": SIDE, "width": SIDE})
    inputs = SamProcessor(images)(picture(HEIGHT, WIDTH), input_points=[POINTS.tolist()], return_tensors="np")
    seen = PaddedScaling(SIDE, CPU).points(POINTS, (HEIGHT, WIDTH))
    np.testing.assert_allclose(seen, np.asarray(inputs["input_points"]).reshape(-1, 2), atol=1e-4)


@pytest.mark.parametrize("size", [(90, 150), (301, 77), (480, 640)])
def test_sam_2s_pictures_are_squeezed_as_pillow_does_it(size: tuple[int, int]) -> None:
    rgb = picture(*size)
    resized = np.asarray(Image.fromarray(rgb).resize((SIDE, SIDE), Image.Resampling.BILINEAR), np.float64)
    wanted = ((resized / 255 - _MEAN) / _STD).transpose(2, 0, 1)
    seen = SquashedScaling(SIDE, CPU).pixels(rgb)[0].numpy()
    assert np.abs(seen - wanted).max() <= 1.01 / (255 * _STD.min())
    assert np.mean(np.abs(seen - wanted) > 1e-4) < 0.01


# ------------------------------------------------------------------ what is refused


def test_wrong_prompts_say_what_is_wrong(predictor: ImagePredictor, model: Any) -> None:
    cases: list[tuple[type[Exception], str, dict[str, Any]]] = [
        (EmptyPrompt, "nothing to predict", {}),
        (PromptError, "points have shape", {"points": [1.0, 2.0]}),
        (PromptError, "one per point", {"points": POINTS, "labels": [1]}),
        (PromptError, "labels without points", {"labels": [1], "box": BOXES[0]}),
        (PromptError, "different numbers", {"points": POINTS[None], "labels": LABELS[None], "box": BOXES}),
        (PromptError, "mask_input is", {"mask_input": np.zeros((5, 5), np.float32)}),
        (PromptOutsideImage, "leaves the 150 x 90", {"points": [[151.0, 10.0]]}),
        (PromptOutsideImage, "leaves the 150 x 90", {"box": [0.0, 0.0, 10.0, 91.0]}),
        (EmptyPrompt, "box is empty", {"box": [10.0, 10.0, 10.0, 20.0]}),
    ]
    for error, words, arguments in cases:
        with pytest.raises(error, match=words):
            predictor.predict(**arguments)
    with pytest.raises(PromptError, match="set_image"):
        ImagePredictor(model).predict(POINTS)
    with pytest.raises(MalformedImage, match="uint8"):
        predictor.set_image(np.zeros((4, 4), np.uint8))


def test_other_models_are_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="timm"):
        load_image_model("edgetam")
    with pytest.raises(ModelError, match="Linear"):
        ImagePredictor(torch.nn.Linear(1, 1))
    with pytest.raises(ModelNotFound, match="sam-vit-base"):
        load_image_model("sam-vit-gigantic")
    folder = tmp_path / "edge"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"")
    for written, words in (("edgetam_video", "timm"), ("detr", "'detr'")):
        (folder / "config.json").write_text(f'{{"model_type": "{written}"}}')
        with pytest.raises(ModelError, match=words):
            load_image_model(folder)


def test_models_come_back_from_their_folder(
    kind: str, model: Any, predictor: ImagePredictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.save_pretrained(tmp_path / "sam-vit-base")
    wanted = predictor.predict(POINTS, LABELS).logits
    again = ImagePredictor.load(tmp_path / "sam-vit-base", "cpu")
    again.set_image(picture(HEIGHT, WIDTH))
    np.testing.assert_allclose(again.predict(POINTS, LABELS).logits, wanted, atol=1e-5)
    monkeypatch.setenv("SAM_PERCEPTION_MODELS", str(tmp_path))
    by_name = ImagePredictor(load_image_model("sam-vit-base", "cpu"))
    assert by_name.mask_input_size == again.mask_input_size


def test_half_precision_says_nearly_the_same(kind: str, model: Any, predictor: ImagePredictor, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    half = ImagePredictor.load(tmp_path, "cpu", "bfloat16")
    half.set_image(picture(HEIGHT, WIDTH))
    seen, wanted = half.predict(box=BOXES[0]), predictor.predict(box=BOXES[0])
    assert np.mean(seen.masks != wanted.masks) < 0.05
    np.testing.assert_allclose(seen.scores, wanted.scores, atol=0.1)
