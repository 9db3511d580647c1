"""Which camera_info belongs to which pair of images."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from sam_perception.messages import Message, stamp_ns_of

_KEPT = 10


class InfoMatcher:
    """Gives every pair the camera_info of its own stamp, where the driver sends one per image.

    Topics overtake each other, so such a pair waits for its camera_info until the next pair comes.
    Otherwise (a latched camera_info, or one that is sent now and then) the newest one serves.

    Args:
        on_match: called with colour, depth and camera_info.
        on_missing: called for a pair when no camera_info has come at all.
    """

    def __init__(self, on_match: Callable[[Message, Message, Message], None], on_missing: Callable[[], None]) -> None:
        self._on_match, self._on_missing = on_match, on_missing
        self._infos: deque[tuple[int, Message]] = deque(maxlen=_KEPT)
        self._waiting: tuple[Message, Message] | None = None
        self._one_per_image = False

    @property
    def newest(self) -> Message | None:
        """The camera_info that came last."""
        return self._infos[-1][1] if self._infos else None

    def add_info(self, info: Message) -> None:
        """Take a camera_info."""
        first = not self._infos
        stamp_ns = stamp_ns_of(info.header.stamp)
        self._infos.append((stamp_ns, info))
        if self._waiting is not None:
            own = stamp_ns == stamp_ns_of(self._waiting[0].header.stamp)
            if own or first:
                self._release(info, own)

    def add_pair(self, color: Message, depth: Message) -> None:
        """Take a pair of images."""
        if self._waiting is not None:  # its camera_info does not come any more
            if self._infos:
                self._release(self._infos[-1][1], own=False)
            else:
                self._on_missing()
        stamp_ns = stamp_ns_of(color.header.stamp)
        own = next((info for stamp, info in reversed(self._infos) if stamp == stamp_ns), None)
        self._waiting = (color, depth)
        if own is not None:
            self._release(own, own=True)
        elif self._infos and not self._one_per_image:
            self._release(self._infos[-1][1], own=False)

    def _release(self, info: Any, own: bool) -> None:
        pair, self._waiting = self._waiting, None
        self._one_per_image = own
        if pair is not None:
            self._on_match(*pair, info)
