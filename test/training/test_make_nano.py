"""`make nano`: the courses that made the shipped weights, in one command that can be stopped."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from package_facts import ROOT

from sam_perception.cli import make_parser
from sam_perception.training.recipe import recipe_by_name

BASH = shutil.which("bash")
# Notes what it is called with and leaves what a run leaves; with a file `stop` it ends as a killed one does.
STAND_IN = """#!/bin/sh
echo "$@" >> "$CALLS"
while [ $# -gt 0 ]; do [ "$1" = --out ] && out=$2; shift; done
mkdir -p "$out/checkpoint" "$out/model"
[ ! -e "$(dirname "$CALLS")/stop" ]
"""


def made(folder: Path, *more: str) -> tuple[int, list[argparse.Namespace]]:
    """What `make nano` ends with, and the trainings that it asks for, as the command line reads them."""
    (folder / "bin").mkdir(exist_ok=True)
    command = folder / "bin" / "sam-perception"
    command.write_text(STAND_IN)
    command.chmod(0o755)
    calls = folder / "calls"
    calls.write_text("")
    path = f"{command.parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "CALLS": str(calls), "NANO_RUNS": str(folder / "runs")}
    assert BASH is not None
    done = subprocess.run([BASH, "scripts/make_nano.sh", *more], cwd=ROOT, env=environment, timeout=30, check=False)
    return done.returncode, [make_parser().parse_args(line.split()) for line in calls.read_text().splitlines()]


@pytest.mark.skipif(BASH is None, reason="no bash")
def test_every_course_begins_with_the_weights_of_the_one_before(tmp_path: Path) -> None:
    code, courses = made(tmp_path)
    assert code == 0
    assert courses[0].start is None
    assert [c.start for c in courses[1:]] == [str(c.out / "model") for c in courses[:-1]]
    assert not any(c.resume for c in courses)
    assert all(c.minutes > 0 for c in courses)
    assert len({c.out for c in courses}) == len({c.seed for c in courses}) == len(courses)
    sizes = [recipe_by_name(c.recipe).stages[-1].demand.image_size for c in courses]
    assert sizes == sorted(sizes)


@pytest.mark.skipif(BASH is None, reason="no bash")
def test_it_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    (tmp_path / "stop").touch()
    code, begun = made(tmp_path)
    assert code != 0
    assert len(begun) == 1
    (tmp_path / "stop").unlink()
    code, courses = made(tmp_path)
    assert code == 0
    assert [c.resume for c in courses] == [True] + [False] * (len(courses) - 1)
    assert courses[0].start is None
    assert (courses[0].recipe, courses[0].seed) == (begun[0].recipe, begun[0].seed)


@pytest.mark.skipif(BASH is None, reason="no bash")
def test_what_is_passed_counts_before_what_stands_there(tmp_path: Path) -> None:
    _, courses = made(tmp_path, "--processes", "1", "--workers", "8")
    assert {(c.processes, c.workers) for c in courses} == {(1, 8)}
