"""`sam-perception segment`: what is written, read back by others, and what is refused."""

from __future__ import annotations

import csv
import io
import json
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from sam_perception.cli import main, make_parser
from sam_perception.commands.segment import config_from
from sam_perception.config import EverythingConfig
from sam_perception.errors import SinkError, SourceError
from sam_perception.segmentation import GeneratedMask
from sam_perception.segmentation.pictures.rle import Rle
from sam_perception.settings import settings_of
from sam_perception.sinks.mask_folder import COLUMNS, MaskFolder, draw_masks
from sam_perception.sinks.video import VideoWriter
from sam_perception.sources.pictures import PictureSource

# What nano says of this, cut to what is quick.
QUICK = [
    "--points-per-side", "4", "--pred-iou-thresh", "0.3", "--stability-score-thresh", "0.5", "--device", "cpu",
]  # fmt: skip


def scene(seed: int = 0, height: int = 120, width: int = 160) -> np.ndarray:
    rgb = np.full((height, width, 3), 90, np.uint8)
    cv2.circle(rgb, (40, 60), 25, (230, 60, 40), -1)
    cv2.rectangle(rgb, (90, 30), (140, 80), (40, 80, 230), -1)
    noise = np.random.default_rng(seed).integers(-6, 7, rgb.shape)
    return np.clip(rgb.astype(int) + noise, 0, 255).astype(np.uint8)


def save(path: Path, rgb: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), rgb[..., ::-1])


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder of two pictures and one that is broken, segmented; and what was said."""
    folder = tmp_path_factory.mktemp("segment")
    save(folder / "in" / "cup.png", scene())
    save(folder / "in" / "plate.jpg", scene(1, 90, 150))
    (folder / "in" / "broken.png").write_bytes(b"\x89PNG and no more")
    (folder / "in" / "notes.txt").write_text("no picture")
    said = io.StringIO()
    with redirect_stdout(said):
        assert main(["segment", str(folder / "in"), str(folder / "out"), *QUICK]) == 0
    return folder / "out", said.getvalue()


def test_masks_and_tables_are_as_amg_writes_them(written: tuple[Path, str]) -> None:
    out, _ = written
    for name, size in (("cup", (120, 160)), ("plate", (90, 150))):
        with (out / name / "metadata.csv").open(newline="") as table:
            rows = list(csv.DictReader(table))
        assert rows, "nano finds nothing"
        assert tuple(rows[0]) == COLUMNS
        assert sorted(int(p.stem) for p in (out / name).glob("*.png")) == [int(row["id"]) for row in rows]
        for row in rows:
            mask = cv2.imread(str(out / name / f"{row['id']}.png"), cv2.IMREAD_UNCHANGED)
            assert mask.shape == size
            assert set(np.unique(mask)) <= {0, 255}
            assert int(row["area"]) == np.count_nonzero(mask)
            x, y, width, height = cv2.boundingRect(mask)
            box = [int(row[f"bbox_{key}"]) for key in ("x0", "y0", "w", "h")]
            assert box == [x, y, width, height]
            assert float(row["predicted_iou"]) > 0.3
            assert float(row["stability_score"]) >= 0.5
            assert [int(row[f"crop_box_{key}"]) for key in ("x0", "y0", "w", "h")] == [0, 0, size[1], size[0]]


def test_pycocotools_reads_the_annotations(written: tuple[Path, str]) -> None:
    out, _ = written
    coco_module: Any = pytest.importorskip("pycocotools.coco")
    with redirect_stdout(io.StringIO()):
        coco = coco_module.COCO(str(out / "annotations.json"))
    images = {image["file_name"]: image for image in coco.loadImgs(coco.getImgIds())}
    assert set(images) == {"cup.png", "plate.jpg"}
    for name, image in images.items():
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
        for number, annotation in enumerate(annotations):
            mask = cv2.imread(str(out / Path(name).stem / f"{number}.png"), cv2.IMREAD_UNCHANGED)
            np.testing.assert_array_equal(coco.annToMask(annotation), mask > 0)
            assert annotation["area"] == np.count_nonzero(mask)


def test_the_disc_is_found_and_pictures_are_drawn(written: tuple[Path, str]) -> None:
    out, _ = written
    disc = np.zeros((120, 160), np.uint8)
    cv2.circle(disc, (40, 60), 25, 1, -1)
    masks = [cv2.imread(str(p), cv2.IMREAD_UNCHANGED) > 0 for p in (out / "cup").glob("*.png")]
    best = max(np.count_nonzero(m & (disc > 0)) / np.count_nonzero(m | (disc > 0)) for m in masks)
    assert best > 0.8
    for name, rgb in (("cup", scene()), ("plate", scene(1, 90, 150))):
        drawn = cv2.imread(str(out / f"{name}.jpg"))
        assert drawn.shape == rgb.shape
        assert np.abs(drawn[..., ::-1].astype(int) - rgb).max() > 60


def test_what_was_left_out_and_the_sum_are_said(written: tuple[Path, str]) -> None:
    out, said = written
    masks = len(json.loads((out / "annotations.json").read_text())["annotations"])
    assert f"2 pictures, {masks} masks" in said
    assert "broken.png (16 bytes) is no whole picture" in said


def test_a_video_gives_a_folder_per_frame(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "film.mp4", 160, 120)
    for number in range(6):
        writer.write(scene(number), number * 33_000_000)
    writer.close()
    source = PictureSource(tmp_path / "film.mp4", every=2)
    assert [picture.name for picture in source] == ["film_000000", "film_000002", "film_000004"]
    assert len(source) == 3
    assert all(np.abs(p.rgb.astype(int) - scene()).mean() < 12 for p in source), "colours are not RGB"
    arguments = ["--every", "4", "--no-masks", "--no-overlay", *QUICK]
    assert main(["segment", str(tmp_path / "film.mp4"), str(tmp_path / "out"), *arguments]) == 0
    assert sorted(p.name for p in (tmp_path / "out").rglob("*") if p.is_file()) == ["annotations.json"] + 2 * [
        "metadata.csv"
    ]


def test_nothing_found_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path / "one.png", scene())
    arguments = ["--points-per-side", "1", "--pred-iou-thresh", "1", "--device", "cpu"]
    assert main(["segment", str(tmp_path / "one.png"), str(tmp_path / "out"), *arguments]) == 0
    assert "no mask passed --pred-iou-thresh 1" in capsys.readouterr().out
    assert (tmp_path / "out" / "one" / "metadata.csv").read_text().strip() == ",".join(COLUMNS)


def test_every_parameter_can_be_given_by_its_own_name() -> None:
    names = [s.name for s in settings_of(EverythingConfig()) if s.name != "model"]
    values: list[str] = []
    for name in names:
        spelt = f"--{name}" if len(values) % 4 else f"--{name.replace('_', '-')}"
        values += [spelt, "2" if isinstance(getattr(EverythingConfig(), name), int) else "0.5"]
    config = config_from(make_parser().parse_args(["segment", "in", "out", *values]))
    assert all(getattr(config, name) in (2, 0.5) for name in names)
    assert config_from(make_parser().parse_args(["segment", "in", "out"])) == EverythingConfig()


def test_pictures_of_one_name_stay_apart(tmp_path: Path) -> None:
    save(tmp_path / "cup.png", scene())
    save(tmp_path / "cup.jpg", scene())
    assert [picture.name for picture in PictureSource(tmp_path)] == ["cup_jpg", "cup_png"]


def test_wrong_input_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "old").write_text("")
    save(tmp_path / "one.png", scene())
    (tmp_path / "no.mp4").write_bytes(b"no film")
    one, out = str(tmp_path / "one.png"), str(tmp_path / "out")
    for arguments, words in (
        ([str(tmp_path / "nowhere"), out], "is not there"),
        ([str(tmp_path / "empty"), out], "has no pictures"),
        ([str(tmp_path / "no.mp4"), out], "cannot be opened as a video"),
        ([one, str(tmp_path / "full"), "--device", "cpu"], "is not empty"),
        ([one, out, "--every", "0"], "--every is 0"),
        ([one, out, "--points-per-side", "0"], "points_per_side is 0"),
        ([one, out, "--model", "edgetam"], "timm"),
    ):
        assert main(["segment", *arguments]) == 2, arguments
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1
    assert not Path(out).exists()


def test_a_folder_without_one_readable_picture_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "broken.png").write_bytes(b"")
    assert main(["segment", str(tmp_path / "in"), str(tmp_path / "out"), "--device", "cpu"]) == 2
    assert "no picture could be read" in capsys.readouterr().err


# ------------------------------------------------------------------ parts


def one_mask() -> GeneratedMask:
    mask = np.zeros((10, 12), bool)
    mask[2:5, 3:9] = True
    return GeneratedMask(Rle.of(mask), (3, 2, 6, 3), 18, 0.9, 0.8, (4.0, 3.0), (0, 0, 12, 10))


def test_what_was_done_is_kept_where_the_rest_fails(tmp_path: Path) -> None:
    def write_and_fail() -> None:
        with MaskFolder(tmp_path / "out") as folder:
            folder.write("a", "a.png", np.zeros((10, 12, 3), np.uint8), [one_mask()])
            raise SourceError("the disk is gone")

    with pytest.raises(SourceError, match="the disk is gone"):
        write_and_fail()
    annotations = json.loads((tmp_path / "out" / "annotations.json").read_text())["annotations"]
    assert [a["bbox"] for a in annotations] == [[3, 2, 6, 3]]


def test_a_folder_that_cannot_be_written_is_a_sink_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match="cannot be made"):
        MaskFolder(tmp_path / "file" / "out")


def test_drawn_masks_change_what_they_cover_and_little_else() -> None:
    rgb = np.full((60, 80, 3), 120, np.uint8)
    mask = np.zeros((60, 80), bool)
    mask[20:40, 30:60] = True
    drawn = draw_masks(rgb, [mask])
    changed = (drawn != rgb).any(axis=2)
    assert changed[mask].all()
    grown = cv2.dilate(mask.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    assert not changed[~grown].any()
    assert (rgb == 120).all()
