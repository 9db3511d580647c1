"""Doctor's findings about the optional models."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sam_perception.cli import main
from sam_perception.commands.doctor_helpers import HELPERS, check_helper, check_vision_msgs
from sam_perception.commands.doctor_machine import FAIL, OK, Finding
from sam_perception.errors import CheckpointError, ModelNotFound
from sam_perception.segmentation.hub import KINDS


def check(found: Path | Exception, wanted: str = "") -> Finding:
    def find(name: str) -> Path:
        assert name == (wanted or "owner/usual")
        if isinstance(found, Exception):
            raise found
        return found

    return check_helper("words", wanted, "owner/usual", "hf download owner/usual", find)


def test_every_kind_of_model_has_its_check() -> None:
    assert set(HELPERS) == set(KINDS)
    for kind in KINDS.values():
        assert kind.how_to_get.startswith(f"hf download {kind.suggestion} --include")


def test_what_is_not_wanted_need_not_be_here() -> None:
    finding = check(ModelNotFound("no model"))
    assert (finding.status, finding.name) == (OK, "words")
    assert "none needed; hf download owner/usual gets one for words.model" in finding.text


def test_what_is_wanted_has_to_be_here(tmp_path: Path) -> None:
    assert check(ModelNotFound("no model 'mine'"), "mine").status == FAIL
    assert check(CheckpointError("cut"), "mine").cure == "get its files again"
    finding = check(tmp_path, "mine")
    assert (finding.status, "has no preprocessor_config.json" in finding.text) == (FAIL, True)
    (tmp_path / "preprocessor_config.json").write_text("{}")
    assert check(tmp_path, "mine") == Finding("words", OK, f"mine in {tmp_path}")


@pytest.mark.parametrize("installed", [True, False])
def test_vision_msgs(installed: bool) -> None:
    machine: Any = SimpleNamespace(can_import=lambda name: installed and name == "vision_msgs.msg")
    finding = check_vision_msgs(machine)
    assert finding.status == OK
    assert ("apt install ros-$ROS_DISTRO-vision-msgs" in finding.text) != installed


def test_on_the_command_line(monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    main(["doctor", "--listen", "0", "--depth-model", str(tmp_path / "nowhere")])
    shown = capsys.readouterr().out
    assert f"FAIL  depth model    no model '{tmp_path / 'nowhere'}' to guess depth on this machine" in shown
    assert "  ok  words          " in shown
