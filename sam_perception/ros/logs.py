"""What the parts that know nothing of ROS say, in a node's log."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class ToRosLog(logging.Handler):
    """Hands records on to a node's logger."""

    def __init__(self, logger: Any) -> None:
        super().__init__(logging.INFO)
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        """Log one record."""
        # Two calls: rclpy refuses a place in the code that logs with one severity now and another then.
        if record.levelno < logging.WARNING:
            self._logger.info(record.getMessage())
        else:
            self._logger.warning(record.getMessage())


@contextmanager
def logged_to(logger: Any) -> Iterator[None]:
    """Within it, what this package says from INFO on goes to a node's logger."""
    package, handler = logging.getLogger("sam_perception"), ToRosLog(logger)
    level = package.level
    package.setLevel(logging.INFO)
    package.addHandler(handler)
    try:
        yield
    finally:
        package.removeHandler(handler)
        package.setLevel(level)
