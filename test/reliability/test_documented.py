"""docs/reliability.md: every row names a test that is there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

from package_facts import ROOT

DOCUMENT = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip().strip("|").split("|")]
    for line in DOCUMENT.partition("## The table")[2].partition("\n## ")[0].splitlines()
    if line.startswith("|") and "---" not in line
][1:]


@cache
def names_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_there_are_forty_faults_and_more() -> None:
    assert len({row[0] for row in ROWS}) >= 40


def test_every_row_has_a_fault_what_happens_what_is_said_and_a_test() -> None:
    for row in ROWS:
        assert len(row) == 4, row
        assert row[0], row
        assert row[1] or row[2], row
        assert re.fullmatch(r"`test/\S+\.py::test_\w+`", row[3]), row


def test_every_test_named_is_there() -> None:
    for row in ROWS:
        path, _, name = row[3].strip("`").partition("::")
        assert (ROOT / path).is_file(), row
        assert name in names_in(ROOT / path), row


def test_every_setting_named_is_there() -> None:
    import pytest

    pytest.importorskip("rclpy")
    from sam_perception.config import PerceptionConfig
    from sam_perception.ros.settings import NodeConfig
    from sam_perception.settings import settings_of

    settings = {s.name: s for config in (PerceptionConfig(), NodeConfig()) for s in settings_of(config)}
    table = DOCUMENT.partition("## What to tune")[2].partition("\n\nThe steps")[0]
    rows = [line.split("|") for line in table.splitlines() if line.startswith("| `")]
    assert len(rows) == 5
    for row in rows:
        setting = settings[row[1].strip(" `")]
        assert str(setting.default).lower().removesuffix(".0") == row[2].strip()
