"""prompts.yaml: the documented format, and for every mistake its line and its cure."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from sam_perception.commands.process import EPILOG
from sam_perception.errors import EmptyPrompt, PromptError
from sam_perception.prompts import BoxPrompt, MaskPrompt, PointPrompt, TextPrompt
from sam_perception.sources import prompt_file
from sam_perception.sources.prompt_file import read_prompts


def write(folder: Path, text: str) -> Path:
    path = folder / "prompts.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    labels = np.zeros((6, 8), np.uint8)
    labels[1:3, 2:5], labels[4:, :] = 3, 9
    cv2.imwrite(str(tmp_path / "mask.png"), labels)
    cv2.imwrite(str(tmp_path / "colour.png"), np.zeros((6, 8, 3), np.uint8))
    return tmp_path


def test_all_kinds_of_prompts_at_their_frames(masks: Path) -> None:
    schedule = read_prompts(
        write(
            masks,
            """
            - {object_id: 1, label: mug, box: [1, 2, 3, 4.5]}
            - {object_id: 2, points: [[5, 6], [1, 1]], point_labels: [1, 0], frame: 2}
            - {object_id: 3, mask: mask.png, value: 3, stamp_ns: 77}
            - {object_id: 4, mask: mask.png}
            - {object_id: 1, box: [1, 2, 3, 4], points: [[2, 3]], frame: 2}
            """,
        )
    )
    assert schedule.object_ids == [1, 2, 3, 4]
    box, mask = schedule.due(0, 10)
    assert isinstance(box, BoxPrompt)
    assert isinstance(mask, MaskPrompt)
    assert (box.object_id, box.label, box.box) == (1, "mug", (1, 2, 3, 4.5))
    assert mask.mask.sum() == 6 + 16
    assert list(schedule.due(1, 20)) == []
    points, refined = schedule.due(2, 30)
    assert isinstance(points, PointPrompt)
    assert isinstance(refined, BoxPrompt)
    assert points.labels.tolist() == [1, 0]
    assert refined.points.tolist() == [[2, 3]]
    (by_value,) = schedule.due(9, 77)
    assert isinstance(by_value, MaskPrompt)
    assert by_value.mask.sum() == 6
    assert schedule.unused == []


def test_the_examples_in_help_and_docstring_can_be_read(masks: Path) -> None:
    (masks / "masks").mkdir()
    (masks / "masks/000012.png").write_bytes((masks / "mask.png").read_bytes())
    shown = EPILOG.split("prompts.yaml:\n")[1]
    assert read_prompts(write(masks, shown)).object_ids == [1, 2, 3, 4]
    documented = (prompt_file.__doc__ or "").split("prompt:\n")[1]
    assert yaml.safe_load(documented)
    assert read_prompts(write(masks, documented)).object_ids == [1, 2, 3, 4]


def test_words_with_their_count(tmp_path: Path) -> None:
    schedule = read_prompts(write(tmp_path, "- {object_id: 7, text: a red  mug., max_instances: 2, frame: 3}"))
    assert list(schedule.due(2, 0)) == []
    (prompt,) = schedule.due(3, 0)
    assert prompt == TextPrompt(7, "a red mug", 2, label="a red mug")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "write a list"),
        ("object_id: 1", "write a list"),
        ("- object_id: [", "not YAML"),
        ("- 5", "line 1: 5 is not a mapping"),
        ("- object_id: 1\n  box: [0, 0, 2, 2]\n- box: [0, 0, 2, 2]", "line 3: object_id is missing"),
        ("- object_id: 1\n  boxx: [0, 0, 2, 2]", "line 1: unknown boxx; known are object_id"),
        ("\n- object_id: 1", "line 2: neither box, points, mask nor text"),
        ("- {object_id: 1, text: mug, box: [0, 0, 2, 2]}", "line 1: text beside box"),
        ("- {object_id: 1, text: ''}", "says nothing"),
        ("- {object_id: 1, text: mug, max_instances: 0}", "max_instances is 0"),
        ("- {object_id: 0, box: [0, 0, 2, 2]}", "line 1: object id is 0"),
        ("- {object_id: one, box: [0, 0, 2, 2]}", "whole number from 1"),
        ("- {object_id: 1, box: [0, 0, 2]}", "line 1: box"),
        ("- {object_id: 1, box: wide}", "line 1: "),
        ("- {object_id: 1, box: 5}", "write numbers"),
        ("- {object_id: 1, points: [[1, 2]], point_labels: [2]}", "1 is foreground"),
        ("- {object_id: 1, box: [0, 0, 2, 2], frame: -1}", "frame is -1"),
        ("- {object_id: 1, box: [0, 0, 2, 2], frame: 1.5}", "frame is 1.5"),
        ("- {object_id: 1, box: [0, 0, 2, 2], frame: 1, stamp_ns: 5}", "keep one"),
        ("- {object_id: 1, mask: nowhere.png}", "cannot be read"),
        ("- {object_id: 1, mask: colour.png}", "one channel"),
        ("- {object_id: 1, mask: mask.png, value: 5}", r"no pixel of value 5; it has \[0, 3, 9\]"),
        ("- {object_id: 1, mask: mask.png, box: [0, 0, 2, 2]}", "keep one of them"),
    ],
)
def test_mistakes_name_their_line_and_cure(masks: Path, text: str, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        read_prompts(write(masks, text))


def test_an_error_keeps_its_kind(masks: Path) -> None:
    with pytest.raises(EmptyPrompt, match="line 1"):
        read_prompts(write(masks, "- {object_id: 1, box: [2, 2, 2, 2]}"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="nowhere"):
        read_prompts(tmp_path / "nowhere.yaml")


def test_another_answer_to_a_click_can_be_chosen(tmp_path: Path) -> None:
    schedule = read_prompts(write(tmp_path, "- {object_id: 1, points: [[5, 6]], choose: 2}"))
    (prompt,) = schedule.due(0, 0)
    assert isinstance(prompt, PointPrompt)
    assert prompt.choose == 2
    for entry in ("box: [1, 2, 3, 4], choose: 1", "points: [[1, 2], [3, 4]], choose: 1", "points: [[1, 2]], choose: 7"):
        with pytest.raises(PromptError, match="choose"):
            read_prompts(write(tmp_path, f"- {{object_id: 1, {entry}}}"))
