"""Everything mode, step by step against transformers' mask generation with equal random weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from image_model_cases import KINDS, SIDE, image_model, image_part, picture
from torch.nn import functional
from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil, _generate_crop_boxes

from sam_perception.config import EverythingConfig
from sam_perception.errors import ConfigError, MalformedImage
from sam_perception.segmentation import GeneratedMask, MaskGenerator, load_model
from sam_perception.segmentation.pictures import amg_masks
from sam_perception.segmentation.pictures.amg_grid import crops_of
from sam_perception.segmentation.pictures.amg_masks import candidates_of, without_specks
from sam_perception.segmentation.pictures.everything import regions_of
from sam_perception.segmentation.pictures.image_networks import image_network
from sam_perception.segmentation.pictures.picture_scaling import PaddedScaling, SquashedScaling
from sam_perception.segmentation.pictures.rle import Rle

CPU = torch.device("cpu")
SQUARE = (150, 150)  # where transformers scales points for SAM 2 as SAM 2 does


torch.set_num_threads(1)


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model(kind: str) -> Any:
    return image_model(kind, seed=3)


# ------------------------------------------------------------------ transformers' steps


class Oracle:
    """Its image processor's functions around its model; only suppression, which needs torchvision, is ours."""

    def __init__(self, kind: str, model: Any, config: EverythingConfig, side: int = SIDE) -> None:
        self.kind, self.config, self.side = kind, config, side
        self.model = image_part(model) if kind == "sam2_video" else model
        self.processor = SamImageProcessorPil(size={"longest_edge": side}, pad_size={"height": side, "width": side})

    def masks(self, rgb: np.ndarray) -> list[tuple[list[int], float, list[int]]]:
        """Of each crop after the other: runs, score and corners (x0 y0 x1 y1) of what is kept before suppression."""
        config, size = self.config, rgb.shape[:2]
        boxes, points, cuts, _ = self.processor.generate_crop_boxes(
            rgb.transpose(2, 0, 1), self.side, config.crop_n_layers, config.crop_overlap_ratio, config.points_per_side,
            config.crop_n_points_downscale_factor,
        )  # fmt: skip
        kept = []
        for row, cut in enumerate(cuts):
            cut_size = cut.shape[-2:]
            logits, ious = self.ask(np.ascontiguousarray(cut.transpose(1, 2, 0)), points[:, :, row : row + 1])
            masks, scores, corners = self.processor.filter_masks(
                self.enlarged(logits, cut_size), ious, size, boxes[row], config.pred_iou_thresh,
                config.stability_score_thresh, 0.0, config.stability_score_offset,
            )  # fmt: skip
            found = zip(masks, scores.tolist(), corners.tolist(), strict=True)
            kept.append([(rle["counts"], score, box) for rle, score, box in found])
        self.crops = [[int(n) for n in box] for box in boxes.tolist()]
        return kept

    def ask(self, rgb: np.ndarray, points: Any) -> tuple[Any, Any]:
        scaling = PaddedScaling(self.side, CPU) if self.kind == "sam" else SquashedScaling(self.side, CPU)
        with torch.no_grad():
            out = self.model(
                pixel_values=scaling.pixels(rgb), input_points=points.float(),
                input_labels=torch.ones(points.shape[:3], dtype=torch.int32), multimask_output=True,
            )  # fmt: skip
        return out.pred_masks[0], out.iou_scores[0]

    def enlarged(self, logits: Any, size: tuple[int, int]) -> Any:
        if self.kind != "sam":
            return functional.interpolate(logits, size, mode="bilinear", align_corners=False)
        used = PaddedScaling(self.side, CPU).used(size)
        return self.processor.post_process_masks([logits], [size], [used], binarize=False)[0]


def suppressed(found: list[Any], scores: list[float], boxes: list[Any], limit: float) -> list[Any]:
    kept: list[int] = []
    for i in sorted(range(len(found)), key=lambda i: -scores[i]):
        if all(iou(boxes[i], boxes[k]) <= limit for k in kept):
            kept.append(i)
    return [found[i] for i in kept]


def iou(a: Any, b: Any) -> float:
    shared = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union else 0.0


@pytest.fixture(scope="module")
def thresholds(kind: str, model: Any) -> dict[str, float]:
    """Such that about a third of what this model says passes each."""
    return deciding(model, picture(*SQUARE))


def deciding(model: Any, rgb: np.ndarray) -> dict[str, float]:
    open_config = EverythingConfig(
        points_per_side=6, pred_iou_thresh=0.0, stability_score_thresh=0.0, stability_score_offset=0.1,
        box_nms_thresh=1.0,
    )  # fmt: skip
    seen = MaskGenerator(model, open_config).generate(rgb)
    assert len(seen) > 20
    middle = float(np.quantile([one.predicted_iou for one in seen], 0.5))
    stable = float(np.quantile([one.stability_score for one in seen if one.predicted_iou > middle], 0.4))
    # Off any value, so that rounding decides nothing.
    return {"pred_iou_thresh": middle + 1e-5, "stability_score_thresh": stable + 1e-5, "stability_score_offset": 0.1}


# ------------------------------------------------------------------ grids and crops


@pytest.mark.parametrize("size", [(480, 640), (640, 480), (97, 33), (2160, 3840)])
@pytest.mark.parametrize(("layers", "ratio", "factor"), [(0, 0.34, 1), (1, 512 / 1500, 2), (2, 0.2, 1), (2, 0.0, 4)])
def test_crops_and_points_are_transformers(size: tuple[int, int], layers: int, ratio: float, factor: int) -> None:
    blank = np.zeros((3, *size), np.uint8)
    if factor == 1:  # transformers stacks the crops' points into one array
        boxes, points, _, _ = _generate_crop_boxes(blank, SIDE, layers, ratio, 8, factor)
        seen = crops_of(*size, EverythingConfig(points_per_side=8, crop_n_layers=layers, crop_overlap_ratio=ratio))
        assert [list(crop.box) for crop in seen] == boxes.astype(int).tolist()
        for row, crop in enumerate(seen):
            scaled = PaddedScaling(SIDE, CPU).points(crop.points, crop.size)
            np.testing.assert_allclose(scaled, points[0, :, row], atol=1e-3)
    config = EverythingConfig(
        points_per_side=8, crop_n_layers=layers, crop_overlap_ratio=ratio, crop_n_points_downscale_factor=factor
    )
    counts = {len(crop.points) for crop in crops_of(*size, config)}
    assert counts == {max(1, 8 // factor**layer) ** 2 for layer in range(layers + 1)}


def test_crops_cover_the_picture_and_overlap_as_asked() -> None:
    config = EverythingConfig(crop_n_layers=1, crop_overlap_ratio=0.5, points_per_side=1)
    boxes = [crop.box for crop in crops_of(100, 200, config)]
    assert boxes == [(0, 0, 200, 100), (0, 0, 125, 75), (0, 25, 125, 100), (75, 0, 200, 75), (75, 25, 200, 100)]


def test_layers_of_crops_without_a_pixel_are_left_out() -> None:
    crops = crops_of(6, 6, EverythingConfig(crop_n_layers=4, crop_overlap_ratio=0.9, points_per_side=1))
    assert all(min(crop.size) >= 2 for crop in crops)


# ------------------------------------------------------------------ masks


def test_kept_masks_are_transformers(kind: str, model: Any, thresholds: dict[str, float]) -> None:
    rgb = picture(*SQUARE)
    config = EverythingConfig(points_per_side=6, points_per_batch=7, **thresholds)
    (found,) = Oracle(kind, model, config).masks(rgb)
    assert 3 < len(found) < 3 * 36 - 3, "the thresholds decide nothing"
    wanted = suppressed(found, [f[1] for f in found], [f[2] for f in found], config.box_nms_thresh)
    seen = MaskGenerator(model, config).generate(rgb)
    assert_same(seen, wanted)
    assert len(wanted) < len(found), "nothing was suppressed"


def test_sam_1_agrees_on_pictures_that_are_not_square(thresholds: dict[str, float], kind: str, model: Any) -> None:
    if kind != "sam":
        pytest.skip("transformers scales points for SAM 2 by the longer side, its pictures by both")
    rgb = picture(90, 150)
    config = EverythingConfig(points_per_side=6, **{**thresholds, "pred_iou_thresh": 0.0})
    (found,) = Oracle(kind, model, config).masks(rgb)
    wanted = suppressed(found, [f[1] for f in found], [f[2] for f in found], config.box_nms_thresh)
    assert_same(MaskGenerator(model, config).generate(rgb), wanted)
    assert wanted


@pytest.fixture(scope="module")
def nano() -> Any:
    """What random weights mark reaches every crop's edge, so that nothing is left: crops need a trained model."""
    return load_model("nano", "cpu")


CROPS = (300, 300)


def test_masks_of_crops_are_transformers_before_suppression(nano: Any) -> None:
    rgb = discs(CROPS[0])
    config = EverythingConfig(
        points_per_side=5, crop_n_layers=1, box_nms_thresh=1.0, crop_nms_thresh=1.0, **deciding(nano, rgb)
    )
    oracle = Oracle("sam2_video", nano, config, nano.config.image_size)
    wanted = oracle.masks(rgb)
    assert len(wanted) == 5
    assert sum(map(len, wanted[1:])) > 3, "no crop has a mask"
    seen = MaskGenerator(nano, config).generate(rgb)
    for box, found in zip(oracle.crops, wanted, strict=True):
        crop = (box[0], box[1], box[2] - box[0], box[3] - box[1])
        ours = [one for one in seen if one.crop_box == crop]
        ours.sort(key=lambda one: -one.predicted_iou)
        assert_same(ours, sorted(found, key=lambda f: -f[1]))


def test_of_crops_the_smaller_one_wins(nano: Any) -> None:
    rgb = discs(CROPS[0])
    config = EverythingConfig(points_per_side=5, crop_n_layers=1, **deciding(nano, rgb))
    oracle = Oracle("sam2_video", nano, config, nano.config.image_size)
    found, scores = [], []
    for masks, box in zip(oracle.masks(rgb), oracle.crops, strict=True):
        best = suppressed(masks, [m[1] for m in masks], [m[2] for m in masks], config.box_nms_thresh)
        found += best
        scores += [1 / ((box[2] - box[0]) * (box[3] - box[1]))] * len(best)
    wanted = suppressed(found, scores, [m[2] for m in found], config.crop_nms_thresh)
    assert len(wanted) < len(found), "crops show nothing twice"
    assert_same(MaskGenerator(nano, config).generate(rgb), wanted)


def discs(side: int) -> np.ndarray:
    """Some that a crop holds whole, and one in the middle that every crop cuts."""
    rgb = np.full((side, side, 3), 90, np.uint8)
    y, x = np.mgrid[:side, :side]
    for cx, cy, radius, colour in (
        (0.2, 0.2, 0.1, (230, 60, 40)), (0.78, 0.25, 0.12, (40, 200, 60)), (0.25, 0.75, 0.13, (50, 80, 230)),
        (0.8, 0.8, 0.08, (240, 220, 40)), (0.5, 0.5, 0.1, (230, 230, 230)),
    ):  # fmt: skip
        rgb[(x - cx * side) ** 2 + (y - cy * side) ** 2 < (radius * side) ** 2] = colour
    noise = np.random.default_rng(0).integers(-8, 9, rgb.shape)
    return np.clip(rgb.astype(int) + noise, 0, 255).astype(np.uint8)


def assert_same(seen: Any, wanted: list[tuple[list[int], float, list[int]]]) -> None:
    assert len(seen) == len(wanted)
    for one, (counts, score, box) in zip(seen, wanted, strict=True):
        mask = Rle.read({"size": list(one.rle.size), "counts": counts}).mask()
        # A pixel whose logit is zero but for rounding may fall on either side.
        assert np.count_nonzero(one.segmentation != mask) <= 2
        assert abs(one.predicted_iou - score) < 1e-4
        x, y, width, height = one.bbox
        np.testing.assert_allclose([x, y, x + width - 1, y + height - 1], box, atol=1)


def test_memory_is_bounded_and_changes_nothing(
    model: Any, thresholds: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    rgb = picture(*SQUARE)
    config = EverythingConfig(points_per_side=6, **thresholds)
    together = MaskGenerator(model, config).generate(rgb)
    sizes: list[int] = []
    plain = SquashedScaling.enlarged if hasattr(model, "no_memory_embedding") else PaddedScaling.enlarged
    owner: Any = SquashedScaling if hasattr(model, "no_memory_embedding") else PaddedScaling

    def watched(self: Any, logits: Any, size: tuple[int, int]) -> Any:
        sizes.append(len(logits) * size[0] * size[1])
        return plain(self, logits, size)

    monkeypatch.setattr(owner, "enlarged", watched)
    monkeypatch.setattr(amg_masks, "_PIXELS_AT_ONCE", 2 * SQUARE[0] * SQUARE[1])
    by_two = MaskGenerator(model, config).generate(rgb)
    assert max(sizes) == 2 * SQUARE[0] * SQUARE[1]
    assert [one.record("coco_rle") for one in by_two] == [one.record("coco_rle") for one in together]


def test_records_have_the_keys_and_shapes_people_know(model: Any, thresholds: dict[str, float]) -> None:
    rgb = picture(*SQUARE)
    seen = MaskGenerator(model, EverythingConfig(points_per_side=6, **thresholds)).generate(rgb)
    record = seen[0].record()
    keys = {"segmentation", "area", "bbox", "predicted_iou", "stability_score", "point_coords", "crop_box"}
    assert set(record) == keys
    assert record["segmentation"].shape == SQUARE
    assert record["area"] == record["segmentation"].sum()
    assert record["crop_box"] == [0, 0, 150, 150]
    x, y = record["point_coords"][0]
    assert x % 12.5 == pytest.approx(0)
    assert y % 12.5 == pytest.approx(0)
    rows, columns = np.nonzero(record["segmentation"])
    x0, y0, width, height = record["bbox"]
    assert (x0, y0, x0 + width - 1, y0 + height - 1) == (columns.min(), rows.min(), columns.max(), rows.max())
    for mode in ("uncompressed_rle", "coco_rle"):
        np.testing.assert_array_equal(Rle.read(seen[0].record(mode)["segmentation"]).mask(), record["segmentation"])


def test_steps_between_which_other_things_can_be_done(model: Any, thresholds: dict[str, float]) -> None:
    rgb = picture(*SQUARE)
    config = EverythingConfig(points_per_side=6, points_per_batch=10, **thresholds)
    generator = MaskGenerator(model, config)
    search = generator.search(rgb)
    steps, found = 0, ()
    while not found:
        try:
            next(search)
        except StopIteration as end:
            found = end.value
        else:
            steps += 1
    wanted = generator.generate(rgb)
    assert [one.rle.uncompressed() for one in found] == [one.rle.uncompressed() for one in wanted]
    assert steps == 1 + 4  # the features, and 36 points by tens


def test_features_that_are_there_are_not_computed_again(model: Any, thresholds: dict[str, float]) -> None:
    rgb = picture(*SQUARE)
    network = image_network(model)
    encoded = network.encode(rgb)
    calls = count_calls(network, "encode")
    generator = MaskGenerator(network, EverythingConfig(points_per_side=4, **thresholds))
    search = generator.search(rgb, encoded)
    for _ in search:
        pass
    assert calls == []


def count_calls(owner: Any, name: str) -> list[str]:
    calls: list[str] = []
    plain: Callable[..., Any] = getattr(owner, name)

    def counted(*args: Any) -> Any:
        calls.append(name)
        return plain(*args)

    setattr(owner, name, counted)
    return calls


def test_a_mask_without_a_pixel_is_none() -> None:
    logits = torch.full((1, 3, 8, 8), -1.0)
    logits[0, 1, 2:5, 2:5] = 5.0
    config = EverythingConfig(pred_iou_thresh=0.0, stability_score_thresh=0.0)
    seen = candidates_of(
        logits, torch.full((1, 3), 0.9), np.array([[3.0, 3.0]]), (16, 16), SquashedScaling(8, CPU), config
    )
    assert len(seen.masks((16, 16), SquashedScaling(8, CPU))) == len(seen.boxes) == 1
    assert seen.points.tolist() == [[3.0, 3.0]]


# ------------------------------------------------------------------ small holes and islands


def test_small_holes_are_filled_and_small_islands_removed() -> None:
    mask = np.zeros((40, 40), bool)
    mask[5:25, 5:25] = True
    mask[10:12, 10:12] = False  # a hole of 4
    mask[18:23, 18:23] = False  # a hole of 25
    mask[30:33, 30:33] = True  # an island of 9
    mask[25, 25] = True  # touches the square's corner: part of it, with 8 neighbours
    cleaned, changed = without_specks(mask, 10)
    wanted = mask.copy()
    wanted[10:12, 10:12] = True
    wanted[30:33, 30:33] = False
    assert changed
    np.testing.assert_array_equal(cleaned, wanted)
    again, changed = without_specks(cleaned, 10)
    assert not changed
    np.testing.assert_array_equal(again, cleaned)


def test_of_small_islands_only_the_largest_stays() -> None:
    mask = np.zeros((20, 20), bool)
    mask[2:4, 2:4] = mask[10:13, 10:13] = True
    cleaned, _ = without_specks(mask, 50)
    assert cleaned.sum() == 9
    assert cleaned[11, 11]


def test_masks_that_became_alike_are_one(model: Any, thresholds: dict[str, float]) -> None:
    rgb = picture(*SQUARE)
    config = EverythingConfig(points_per_side=6, min_mask_region_area=200, **thresholds)
    plain = MaskGenerator(model, EverythingConfig(points_per_side=6, **thresholds)).generate(rgb)
    cleaned = MaskGenerator(model, config).generate(rgb)
    assert 0 < len(cleaned) <= len(plain)
    for one in cleaned:
        _, changed = without_specks(one.segmentation, 200)
        assert not changed
        assert one.area == one.segmentation.sum()


# ------------------------------------------------------------------ regions and settings


def test_regions_are_numbered_from_the_largest() -> None:
    def one(width: int) -> GeneratedMask:
        mask = np.zeros((10, 12), bool)
        mask[1:3, 1 : 1 + width] = True
        return GeneratedMask(Rle.of(mask), (1, 1, width, 2), 2 * width, 0.9, 0.8, (1.5, 2.0), (0, 0, 12, 10))

    answer = regions_of((one(2), one(5), one(3)), 7, "camera", (10, 12))
    assert [(r.id, r.area_px) for r in answer.regions] == [(1, 10), (2, 6), (3, 4)]
    assert (answer.stamp_ns, answer.frame_id, answer.width, answer.height) == (7, "camera", 12, 10)
    assert answer.region(2).mask.sum() == 6


def test_wrong_pictures_and_settings_are_refused(model: Any) -> None:
    with pytest.raises(MalformedImage, match="uint8"):
        MaskGenerator(model).generate(np.zeros((30, 30, 3)))  # type: ignore[arg-type]
    for name, value in (("points_per_side", 0), ("pred_iou_thresh", 1.5), ("crop_n_layers", -1)):
        with pytest.raises(ConfigError, match=name):
            EverythingConfig(**{name: value})
