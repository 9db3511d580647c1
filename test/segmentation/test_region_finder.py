"""Everything mode for frames: with the model that tracks, and with one of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_model_cases import image_model, picture

from sam_perception.config import EverythingConfig, PerceptionConfig
from sam_perception.errors import MalformedImage, ModelError, ModelNotFound
from sam_perception.frame import CameraIntrinsics, RgbdFrame
from sam_perception.perception import Perception
from sam_perception.prompts import MaskPrompt
from sam_perception.segmentation import MaskGenerator, ModelRegions
from sam_perception.segmentation.pictures.everything import regions_of

torch.set_num_threads(1)

RGB = picture(90, 120)
FRAME = RgbdFrame(
    RGB, np.ones(RGB.shape[:2], np.float32), CameraIntrinsics(120, 90, 100.0, 100.0, 59.5, 44.5), 10**9, "camera"
)
OPEN = EverythingConfig(points_per_side=3, pred_iou_thresh=0.0, stability_score_thresh=0.0, box_nms_thresh=0.5)


def all_of(search: Any) -> Any:
    while True:
        try:
            next(search)
        except StopIteration as end:
            return end.value


def test_the_trackers_own_model_is_used_as_it_is() -> None:
    model = image_model("sam2_video", seed=3)
    asked: list[int] = []
    finder = ModelRegions(lambda: asked.append(1) or model)  # type: ignore[func-returns-value]
    seen = all_of(finder.search(FRAME, OPEN))
    assert asked
    wanted = regions_of(MaskGenerator(model, OPEN).generate(RGB), 10**9, "camera", (90, 120))
    assert [r.area_px for r in seen.regions] == [r.area_px for r in wanted.regions]
    assert (seen.stamp_ns, seen.frame_id) == (10**9, "camera")
    areas = [r.area_px for r in seen.regions]
    assert areas == sorted(areas, reverse=True)
    assert [r.id for r in seen.regions] == list(range(1, len(areas) + 1))


def test_another_model_is_loaded_beside_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = image_model("sam", seed=5)
    own.save_pretrained(tmp_path)
    loads: list[str] = []
    from sam_perception.segmentation.pictures import region_finder

    plain = region_finder.load_image_model

    def counted(name: Any, *args: Any) -> Any:
        loads.append(str(name))
        return plain(name, *args)

    monkeypatch.setattr(region_finder, "load_image_model", counted)
    finder = ModelRegions(lambda: pytest.fail("the tracker's model is not wanted"), "cpu")
    config = replace(OPEN, model=str(tmp_path))
    first, second = all_of(finder.search(FRAME, config)), all_of(finder.search(FRAME, config))
    assert loads == [str(tmp_path)]
    wanted = MaskGenerator(own, OPEN).generate(RGB)
    assert sorted(r.area_px for r in first.regions) == sorted(one.area for one in wanted)
    assert [r.area_px for r in second.regions] == [r.area_px for r in first.regions]


def test_what_cannot_be_used_is_said() -> None:
    finder = ModelRegions(lambda: torch.nn.Linear(1, 1), "cpu")
    with pytest.raises(ModelError, match="Linear"):
        all_of(finder.search(FRAME, OPEN))
    exported = ModelRegions(object, "cpu")
    with pytest.raises(ModelError, match=r"everything\.model"):
        all_of(exported.search(FRAME, OPEN))
    with pytest.raises(ModelNotFound, match="no model 'nowhere'"):
        all_of(finder.search(FRAME, replace(OPEN, model="nowhere")))


def test_perception_cuts_frames_up_with_its_own_model_and_tracks_what_comes_out() -> None:
    everything = EverythingConfig(points_per_side=4, pred_iou_thresh=0.3, stability_score_thresh=0.5)
    perception = Perception(PerceptionConfig(device="cpu", everything=everything))
    shares = []
    search = perception.search_regions(FRAME)
    try:
        while True:
            shares.append(next(search))
    except StopIteration as end:
        regions = end.value
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert [r.area_px for r in perception.regions(FRAME).regions] == [r.area_px for r in regions.regions]
    region = regions.regions[-1]
    perception.prompt(MaskPrompt(5, region.mask, "it", FRAME.stamp_ns))
    scene = perception.step(FRAME)
    np.testing.assert_array_equal(scene.object(5).mask, region.mask)
    tiny = RgbdFrame(
        RGB[:8, :8].copy(), np.ones((8, 8), np.float32), CameraIntrinsics(8, 8, 9.0, 9.0, 3.5, 3.5), 1, "camera"
    )
    with pytest.raises(MalformedImage, match="16 x 16"):
        perception.regions(tiny)


def test_without_a_finder_the_reason_is_said() -> None:
    from fake_tracker import ColorTracker

    with pytest.raises(ModelError, match="without a finder"):
        Perception(PerceptionConfig(), ColorTracker()).regions(FRAME)
