"""COCO and label PNGs as training pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from sam_perception.errors import MalformedImage, SourceError
from sam_perception.training.datasets import coco_mask, open_dataset, split, unpack_run_lengths
from sam_perception.training.recordings import Recording


def write_coco(folder: Path, annotations: list[dict[str, Any]]) -> None:
    (folder / "images").mkdir(parents=True)
    cv2.imwrite(str(folder / "images" / "a.png"), np.full((20, 30, 3), (10, 20, 200), np.uint8))
    values = {
        "images": [{"id": 7, "file_name": "a.png", "height": 20, "width": 30}],
        "annotations": [{"id": i, "image_id": 7, "category_id": 1, **a} for i, a in enumerate(annotations)],
        "categories": [{"id": 1, "name": "part"}],
    }
    (folder / "instances.json").write_text(json.dumps(values))


def test_polygons_and_run_lengths_of_one_rectangle_agree() -> None:
    # x 4 to 11 and y 5 to 9 in a picture of 20 rows and 30 columns, counted down the columns.
    true = np.zeros((20, 30), np.bool_)
    true[5:10, 4:12] = True
    polygon = [[4, 5, 12, 5, 12, 10, 4, 10]]
    runs = [4 * 20 + 5] + [5, 15] * 7 + [5, 18 * 20 + 10]
    np.testing.assert_array_equal(coco_mask({"size": [20, 30], "counts": runs}, 20, 30), true)
    np.testing.assert_array_equal(coco_mask(polygon, 20, 30), true)


def test_polygons_are_as_large_as_they_are_drawn() -> None:
    square = [[5, 5, 15, 5, 15, 15, 5, 15]]
    assert coco_mask(square, 20, 30).sum() == 100
    assert coco_mask([[5.4, 5.4, 15.4, 5.4, 15.4, 15.4, 5.4, 15.4]], 20, 30).sum() == 100
    assert coco_mask([[-5, -5, 40, -5, 40, 40, -5, 40]], 20, 30).all()  # beyond all four edges
    assert coco_mask([[0, 0, 2, 0, 2, 2, 0, 2], [28, 18, 30, 18, 30, 20, 28, 20]], 20, 30).sum() == 8
    with pytest.raises(SourceError, match="not finite"):
        coco_mask([[0, 0, float("nan"), 0, 2, 2]], 20, 30)


def test_polygons_agree_with_pycocotools() -> None:
    masks = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(0)
    excess = []
    for corners in (4, 7, 12, 40) * 10:
        angles = (np.arange(corners) + rng.uniform(0.1, 0.9, corners)) * 2 * np.pi / corners
        radii = rng.uniform(30, 110, corners)
        polygon = np.stack([160 + radii * np.cos(angles), 120 + radii * np.sin(angles)], axis=1).ravel().tolist()
        true = masks.decode(masks.frPyObjects([polygon], 240, 320))[..., 0].astype(bool)
        ours = coco_mask([polygon], 240, 320)
        assert (ours ^ true).sum() <= 0.015 * true.sum()
        excess.append((int(ours.sum()) - int(true.sum())) / int(true.sum()))
    assert abs(np.mean(excess)) < 0.001  # neither fatter nor thinner


def test_packed_run_lengths_worked_out_by_hand() -> None:
    # Worked out by hand: runs 2, 1, 1, 4, 1 -> from the third on, differences to the run before the last:
    # 2, 1, 1 (third: stored as it is), 4 - 1 = 3, 1 - 1 = 0 -> characters 48 + value.
    assert unpack_run_lengths("21130") == [2, 1, 1, 4, 1]
    # 100 = 4 + 3 * 32: low bits 4 with the continuation bit (48 + 36 = 'T'), then 3 ('3').
    assert unpack_run_lengths("T3") == [100]
    # -1 as a difference: all five bits set, sign bit among them: 48 + 31 = 'O'. Runs 5, 9, 3, 9 - 1 = 8.
    assert unpack_run_lengths("593O") == [5, 9, 3, 8]


def test_a_coco_folder_is_read_and_small_instances_lie_on_large_ones(tmp_path: Path) -> None:
    small, large = [[10, 5, 16, 5, 16, 11, 10, 11]], [[2, 2, 26, 2, 26, 18, 2, 18]]
    crowd = {"segmentation": large, "iscrowd": 1}
    write_coco(tmp_path, [{"segmentation": small}, {"segmentation": large}, crowd])
    (example,) = open_dataset(tmp_path)
    rgb, ids = example.read()
    assert rgb[0, 0].tolist() == [200, 20, 10]  # red first
    assert ids[8, 12] == 1
    assert ids[3, 3] == 2
    assert set(np.unique(ids)) == {0, 1, 2}


def test_label_pngs_leave_out_what_is_no_object(shared_data: Path) -> None:
    examples = open_dataset(shared_data / "stills_osd")
    counts = [len(np.unique(example.read()[1])) - 1 for example in examples]
    assert counts == [2, 2, 3, 7, 16, 3]  # as its manifest says, without the table
    with_table = open_dataset(shared_data / "stills_osd", ignore=[0])
    assert len(np.unique(with_table[0].read()[1])) - 1 == 3


def test_the_split_is_by_picture_and_by_seed(shared_data: Path) -> None:
    examples = open_dataset(shared_data / "stills_osd")
    training, validation = split(examples, 0.34, 1)
    assert (len(training), len(validation)) == (4, 2)
    assert {e.name for e in training}.isdisjoint(e.name for e in validation)
    assert [e.name for e in split(examples, 0.34, 1)[1]] == [e.name for e in validation]
    with pytest.raises(SourceError, match="validation another"):
        split(examples[:1], 0.5, 0)


def test_what_is_wrong_with_a_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="neither a COCO json"):
        open_dataset(tmp_path)
    write_coco(tmp_path, [{"segmentation": {"size": [20, 30], "counts": [5, 5]}}])
    with pytest.raises(SourceError, match="add up to 10"):
        open_dataset(tmp_path)[0].read()
    (tmp_path / "images" / "a.png").write_bytes(b"no picture")
    with pytest.raises(MalformedImage, match="cannot be decoded"):
        open_dataset(tmp_path)[0].read()


def test_jsons_about_the_same_picture_make_one_example_of_it(tmp_path: Path) -> None:
    first, second = [[2, 2, 10, 2, 10, 10, 2, 10]], [[15, 5, 25, 5, 25, 15, 15, 15]]
    write_coco(tmp_path, [{"segmentation": first}])
    values = json.loads((tmp_path / "instances.json").read_text())
    values["images"][0] |= {"id": 3, "file_name": "images/a.png"}  # the same file, by another name and number
    values["annotations"][0] |= {"image_id": 3, "segmentation": second}
    (tmp_path / "more.json").write_text(json.dumps(values))
    (example,) = open_dataset(tmp_path)
    _, ids = example.read()
    assert sorted(np.bincount(ids.ravel()).tolist()) == [64, 100, 600 - 164]


def test_frames_of_a_clip_are_held_out_in_one_stretch(tmp_path: Path) -> None:
    for folder in ("color", "labels"):
        (tmp_path / folder).mkdir()
        for k in range(20):
            picture = np.zeros((16, 16, 3), np.uint8) if folder == "color" else np.ones((16, 16), np.uint8)
            cv2.imwrite(str(tmp_path / folder / f"{k:03}.png"), picture)
    starts = set()
    for seed in range(8):
        training, validation = split(open_dataset(tmp_path), 0.25, seed)
        held = [int(e.name[-3:]) for e in validation]
        assert held == list(range(held[0], held[0] + 5))
        assert len(training) == 15
        assert {e.name for e in training}.isdisjoint(e.name for e in validation)
        starts.add(held[0])
    assert len(starts) > 2  # by the seed
    (tmp_path / "info.json").write_text('{"type": "stills"}')
    held = sorted(int(e.name[-3:]) for e in split(open_dataset(tmp_path), 0.25, 0)[1])
    assert held != list(range(held[0], held[0] + 5))


@pytest.mark.parametrize(
    ("name", "dropped"),
    [
        ("table", True),
        ("Supporting Table", True),
        ("wooden_table_2", True),
        ("tables", True),
        ("tabletop", True),
        ("ground plane", True),
        ("the floor", True),
        ("floor (carpet)", True),
        ("no data (invalid or cropped away)", True),
        ("background", True),
        ("tablet", False),
        ("vegetable", False),
        ("playground ball", False),
        ("floor lamp", False),
        ("tablecloth", False),
        ("table lamp", False),
        ("cup on the table", False),
        ("foreground", False),
    ],
)
def test_only_what_is_itself_no_object_is_dropped_by_name(tmp_path: Path, name: str, dropped: bool) -> None:
    (tmp_path / "color").mkdir()
    cv2.imwrite(str(tmp_path / "color" / "a.png"), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "labels.json").write_text(json.dumps({"0": "background", "3": name}))
    assert Recording(tmp_path).ignored == ({0, 3} if dropped else {0})
