"""How often a camera that fails is opened again, and how often that is said."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable

_FIRST_S = 0.25
_SAY_AGAIN_S = 5.0  # a loose plug is not to fill the disk


class Retry:
    """Pauses between attempts that double, up to a longest one.

    Args:
        longest_s: pause.
        monotonic_s: seconds that never go back.
    """

    def __init__(self, longest_s: float, monotonic_s: Callable[[], float]) -> None:
        self._longest_s, self._monotonic_s = longest_s, monotonic_s
        self._pause_s, self._next_s = _FIRST_S, float("-inf")
        self._opened_s = 0.0

    @property
    def wait_s(self) -> float:
        """Until the next attempt; 0 or less: now."""
        return self._next_s - self._monotonic_s()

    def failed(self) -> None:
        """An attempt failed, or what it opened was lost."""
        self._next_s = self._monotonic_s() + self._pause_s
        self._pause_s = min(2 * self._pause_s, self._longest_s)

    def opened(self) -> None:
        """An attempt succeeded."""
        self._opened_s = self._monotonic_s()

    def worked(self) -> None:
        """A frame came; after a while of them pauses are short again.

        Not at once: a camera that sends a picture and fails each time is not to be opened in a tight loop.
        """
        if self._monotonic_s() - self._opened_s > self._longest_s:
            self._pause_s = _FIRST_S


class ThrottledLog:
    """Logs each kind of thing once in five seconds at most.

    Args:
        logger: that it goes to.
        monotonic_s: seconds that never go back.
    """

    def __init__(self, logger: logging.Logger, monotonic_s: Callable[[], float]) -> None:
        self._logger, self._monotonic_s = logger, monotonic_s
        self._said: dict[str, tuple[str, float]] = {}  # by kind: what was logged last, and when

    def say(self, kind: str, text: str, level: int = logging.WARNING, *, error: Exception | None = None) -> None:
        """Log, unless something of the kind was logged just now.

        What the SDK raises is a sentence; any other error is a defect of the program, and logged with its place.
        """
        _, at_s = self._said.get(kind, ("", float("-inf")))
        if self._monotonic_s() - at_s < _SAY_AGAIN_S:
            return
        self._said[kind] = (text, self._monotonic_s())
        known = error is None or isinstance(error, RuntimeError)
        self._logger.log(level, "%s%s", text, "" if known else f"\n{''.join(traceback.format_exception(error))}")

    def say_once(self, kind: str, text: str) -> None:
        """The same, unless it is what was logged last of the kind."""
        if text != self._said.get(kind, ("",))[0]:
            self.say(kind, text)

    def forget(self, kind: str) -> None:
        """What comes next of the kind is news."""
        if kind in self._said:
            self._said[kind] = ("", self._said[kind][1])
