"""The command line itself: help, lightness, exit codes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sam_perception.cli import main, make_parser
from sam_perception.commands import process
from sam_perception.sinks.text_table import text_table

COMMANDS = ["demo", "bench", "process", "export", "doctor", "train", "eval"]


@pytest.mark.parametrize("command", [[], *([c] for c in COMMANDS)])
def test_help_has_examples(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "examples:" in shown
    assert "sam-perception process" in shown or command != ["process"]


@pytest.mark.parametrize("arguments", [[], ["fly"], ["process"], ["process", "in", "out", "--storage", "rosbag1"]])
def test_wrong_usage_is_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_interrupting_is_no_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(arguments: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(process, "run", interrupted)
    assert main(["process", "in", "out"]) == 130
    assert capsys.readouterr().err == "sam-perception: interrupted\n"


def test_parsing_imports_nothing_heavy() -> None:
    code = (
        "import sys; from sam_perception.cli import make_parser; make_parser();"
        "heavy = ('torch', 'open3d', 'rclpy', 'pyrealsense2', 'transformers', 'matplotlib');"
        "print([m for m in heavy if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert shown.stdout.strip() == "[]"


def test_the_program_is_called_as_it_is_installed() -> None:
    assert make_parser().prog == "sam-perception"


def test_tables_line_up() -> None:
    assert (
        text_table(("object", "n"), [("1 cup", "12"), ("2", "3")]) == "object   n\n------  --\n1 cup   12\n2        3"
    )
