"""A call that hangs raises nothing; somebody has to look at the clock."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from fake_tracker import RED_BOX, ColorTracker
from ros_harness import Harness, values_of
from test_process import first_scene, running, wait_active

from sam_perception.prompts import BoxPrompt
from sam_perception.ros import diagnosis
from sam_perception.ros.settings import NodeConfig
from sam_perception.ros.watchdog import EXIT_FROZEN, Watchdog, Work

SECOND = 10**9


class Scene:
    """A clock, a log, and work that hangs as told."""

    def __init__(self, **settings: Any) -> None:
        self.now_s = 100.0
        self.lines: list[str] = []
        self.codes: list[int] = []
        self.work: Work | None = None
        config = NodeConfig(**settings)
        # Its own thread looks once in a second of real time, at the latest when a test is over.
        self.watchdog = Watchdog(lambda: self.work, lambda: config, self, self.codes.append, lambda: self.now_s)

    def error(self, text: str) -> None:
        self.lines.append(text)

    warning = fatal = error

    def begin(self, stage: str = "segmentation", *, first: bool = False) -> None:
        self.work = Work(stage, self.now_s, None, first)


@pytest.fixture
def scene() -> Any:
    made: list[Scene] = []

    def make(**settings: Any) -> Scene:
        made.append(Scene(**settings))
        return made[-1]

    yield make
    for one in made:
        one.watchdog.close()


def test_work_within_its_time_is_fine(scene: Any) -> None:
    it = scene(watchdog_s=10.0)
    assert it.watchdog.status().level == diagnosis.OK
    it.begin()
    it.now_s += 9.9
    it.watchdog.look()
    status = it.watchdog.status()
    assert (status.level, status.message, status.values["in work for s"]) == (
        diagnosis.OK, "segmentation is at work", "9.9",
    )  # fmt: skip
    assert it.lines == []


def test_work_that_hangs_is_said_once_in_a_while_and_its_end_too(scene: Any) -> None:
    it = scene(watchdog_s=10.0)
    it.begin()
    for _ in range(5):
        it.now_s += 10.1
        it.watchdog.look()
    status = it.watchdog.status()
    assert status.level == diagnosis.ERROR
    assert status.message.startswith("segmentation has been at work on one frame for 50.5 s (watchdog_s is 10)")
    assert len(it.lines) == 1
    it.now_s += 20.0
    it.watchdog.look()
    assert len(it.lines) == 2  # a minute later
    it.work = None
    it.watchdog.look()
    assert it.lines[2:] == ["inference goes on after 70.5 s"]
    assert it.watchdog.status().level == diagnosis.OK
    assert it.codes == []


def test_the_first_frame_may_take_ten_times_as_long(scene: Any) -> None:
    it = scene(watchdog_s=10.0)
    it.begin(first=True)
    it.now_s += 99.0
    assert it.watchdog.status().level == diagnosis.OK
    it.now_s += 2.0
    assert it.watchdog.status().level == diagnosis.ERROR


def test_it_ends_the_process_only_where_that_is_asked_for(scene: Any) -> None:
    it = scene(watchdog_s=10.0, watchdog_exit=True)
    it.begin()
    it.now_s += 11.0
    it.watchdog.look()
    assert set(it.codes) == {EXIT_FROZEN}
    assert any("ending with code 3" in line for line in it.lines)


def test_zero_turns_it_off(scene: Any) -> None:
    it = scene(watchdog_s=0.0, watchdog_exit=True)
    it.begin()
    it.now_s += 1e6
    it.watchdog.look()
    assert (it.codes, it.lines, it.watchdog.status().level) == ([], [], diagnosis.OK)


def test_a_step_that_hangs_is_an_error_while_it_does(harness: Harness, capfd: pytest.CaptureFixture[str]) -> None:
    tracker = ColorTracker()
    harness.node(tracker, watchdog_s=0.3)
    harness.objects()
    harness.scene_at(harness.send(SECOND))
    tracker.gate.clear()
    harness.send(2 * SECOND)
    status = harness.status("watchdog", lambda s: s.level == s.ERROR)
    assert "segmentation has been at work on one frame for" in status.message
    assert values_of(status)["stage"] == "segmentation"
    assert harness.list_objects() is not None  # services answer all the time
    log: list[str] = []

    def logged(text: str) -> bool:
        log.append(capfd.readouterr().err)
        return text in "".join(log)

    harness.until(lambda: logged("has been at work on one frame for"))
    tracker.gate.set()
    harness.scene_at(2 * SECOND)
    harness.status("watchdog", lambda s: s.level == s.OK)
    harness.until(lambda: logged("inference goes on after"))


def test_a_node_that_ends_itself_comes_back_with_its_objects(harness: Harness, tmp_path: Path) -> None:
    log, hangs = tmp_path / "log", tmp_path / "hangs"
    arguments = (str(Path(__file__).parent / "run_node.py"), "--ros-args", "-p", "watchdog_s:=1.0")
    arguments = (*arguments, "-p", "watchdog_exit:=true")
    with running(harness.domain, log, *arguments, TEST_STEP_S="60", TEST_STEP_IF=str(hangs)) as node:
        wait_active(harness)
        harness.objects()
        harness.add(BoxPrompt(7, RED_BOX, label="mug"))
        assert [o.id for o in harness.scene_at(harness.send(SECOND)).objects] == [7]
        harness.scene_at(harness.send(2 * SECOND))
        hangs.touch()
        harness.send(3 * SECOND)
        assert node.process.wait(60) == EXIT_FROZEN
        text = node.log.read_text()
        assert "has been at work on one frame for" in text
        assert "usleep" in text  # the stack names the call that hangs
    with running(harness.domain, log) as node:
        wait_active(harness)
        (mug,) = first_scene(harness, 9 * SECOND).objects
        assert (mug.id, mug.label) == (7, "mug")
        assert node.end(signal.SIGINT)[0] == 0
