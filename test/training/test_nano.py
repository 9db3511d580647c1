"""The checkpoint that ships in the package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sam_perception
from sam_perception.errors import CheckpointError
from sam_perception.segmentation import load_model
from sam_perception.training.metrics import region_similarity
from sam_perception.training.model import WEIGHTS, new_model, sha256
from sam_perception.training.recordings import Recording
from sam_perception.training.scenes import Clip
from sam_perception.training.scoring import filled_box, mean_by_prompt, score_stills
from sam_perception.training.synthetic import MIN_PROMPT_PX, MIN_VISIBLE_PX, held_out_clips, score_synthetic

NANO = Path(sam_perception.__path__[0]) / "models" / "nano"


@pytest.fixture(scope="module")
def nano() -> Any:
    return load_model("nano", "cpu", "float32")


def test_it_is_small_and_its_checksums_hold() -> None:
    assert (NANO / WEIGHTS).stat().st_size <= 12_000_000
    for line in (NANO / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert sha256(NANO / name) == digest
    assert (NANO / "README.md").is_file()


def test_a_changed_weight_is_noticed(tmp_path: Path) -> None:
    for name in ("config.json", "SHA256SUMS", WEIGHTS):
        (tmp_path / name).write_bytes((NANO / name).read_bytes())
    data = bytearray((tmp_path / WEIGHTS).read_bytes())
    data[-1000] ^= 1
    (tmp_path / WEIGHTS).write_bytes(bytes(data))
    with pytest.raises(CheckpointError):
        load_model(tmp_path, "cpu", "float32")


def test_its_configuration_is_the_one_that_training_makes(nano: Any) -> None:
    own = {k: v.shape for k, v in new_model(nano.config.image_size).state_dict().items()}
    assert {k: v.shape for k, v in nano.state_dict().items()} == own


def kept_box(clip: Clip) -> list[float]:
    """J in later frames of the box in which each object was pointed at: what no tracking at all gives."""
    scores = []
    for k in clip.object_ids:
        first = clip.ids[0] == k
        if first.sum() >= MIN_PROMPT_PX:
            later = [ids == k for ids in clip.ids[1:]]
            scores += [region_similarity(filled_box(first), true) for true in later if true.sum() >= MIN_VISIBLE_PX]
    return scores


def test_rendered_objects_are_tracked_from_a_box(nano: Any) -> None:
    clips = list(held_out_clips(4, frames=12))
    tally = score_synthetic(nano, clips, kinds=("box",))["box"]
    without = [j for clip in clips for j in kept_box(clip)]
    assert len(tally.visible) == len(without)
    assert tally.summary()["J visible"] > np.mean(without) + 0.1


def test_real_objects_are_cut_out_better_than_by_the_box_itself(nano: Any, shared_data: Path) -> None:
    recording = Recording(shared_data / "stills_object_cloud")
    scores = list(score_stills(nano, recording, kinds=("box",), baselines=False))
    boxes = [region_similarity(filled_box(s.true), s.true) for s in scores if s.true is not None]
    means = mean_by_prompt(scores)
    assert means["stills_object_cloud", "box"][0] > np.mean(boxes) + 0.05
