"""Words of the parts that know nothing of ROS reach a node's log."""

from __future__ import annotations

import logging

import pytest

from sam_perception.ros.logs import ToRosLog, logged_to


class _Logger:
    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []

    def info(self, text: str) -> None:
        self.said.append(("info", text))

    def warning(self, text: str) -> None:
        self.said.append(("warning", text))


def test_progress_and_warnings_are_heard_while_asked_for() -> None:
    logger, part = _Logger(), logging.getLogger("sam_perception.segmentation.loading")
    with logged_to(logger):
        part.info("compiled tracking of %d of %d objects", 2, 8)
        part.warning("slow")
        part.debug("not this")
    part.info("nor this")
    assert logger.said == [("info", "compiled tracking of 2 of 8 objects"), ("warning", "slow")]


def test_an_error_inside_ends_it_too() -> None:
    logger = _Logger()
    with pytest.raises(RuntimeError), logged_to(logger):
        raise RuntimeError
    logging.getLogger("sam_perception").warning("after it")
    assert logger.said == []


def test_rclpy_takes_both_severities() -> None:
    get_logger = pytest.importorskip("rclpy.logging").get_logger
    handler = ToRosLog(get_logger("test_logs"))
    for level in (logging.INFO, logging.WARNING, logging.INFO):
        handler.emit(logging.LogRecord("part", level, __file__, 1, "told", (), None))
