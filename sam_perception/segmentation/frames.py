"""The last few frames, and which of them a prompt means."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch

from sam_perception.prompts import Prompt
from sam_perception.segmentation.backend import Backend
from sam_perception.segmentation.encoder import ImageFeatures
from sam_perception.segmentation.network import Clicks

Tensor = torch.Tensor


@dataclass(eq=False)
class CachedFrame:
    """One frame: its features, and what was asked and answered on it."""

    index: int  # number in the stream
    stamp_ns: int
    size: tuple[int, int]  # height and width of the camera's picture
    pixels: Tensor | None  # (1, 3, S, S) until the features are there
    clicks: dict[int, Clicks] = field(default_factory=dict)  # per object, all clicks so far on this frame
    prompted: set[int] = field(default_factory=set)  # objects that were pointed at on this frame
    logits: dict[int, Tensor] = field(default_factory=dict)  # per object, (h, w) mask logits
    _features: ImageFeatures | None = None
    _prepared: Tensor | None = None
    _projected: Tensor | None = None

    def features(self, network: Backend) -> ImageFeatures:
        """Computed when first asked for: an idle tracker does not run the image encoder."""
        if self._features is None:
            assert self.pixels is not None  # noqa: S101 - pixels go only when features come
            self._features, self.pixels = network.encode_image(self.pixels), None
        return self._features

    @property
    def encoded(self) -> bool:
        """Whether the features are there already: what is left to do on this frame costs little, then."""
        return self._features is not None

    def prepared(self, network: Backend) -> Tensor:
        """(1, hw, c): what memory attention does before it looks at any object."""
        if self._prepared is None:
            self._prepared = network.prepare(self.features(network))
        return self._prepared

    def projected(self, network: Backend) -> Tensor:
        """(1, c, h, w): what the memory encoder does before it looks at any mask."""
        if self._projected is None:
            self._projected = network.project(self.features(network))
        return self._projected

    @property
    def size_bytes(self) -> int:
        """Memory that the picture, its features and the masks on it take."""
        parts = [self.pixels, self._prepared, self._projected, *self.logits.values()]
        if self._features is not None:
            parts += [*self._features.fine, self._features.top, self._features.tokens]
        return sum(part.numel() * part.element_size() for part in parts if part is not None)

    def forget(self, object_id: int) -> None:
        """Drop what is known of an object that was removed."""
        self.clicks.pop(object_id, None)
        self.logits.pop(object_id, None)
        self.prompted.discard(object_id)

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """Take back what was asked and answered on it in the block, if that fails; features stay."""
        clicks, prompted, logits = dict(self.clicks), set(self.prompted), dict(self.logits)
        try:
            yield
        except Exception:
            self.clicks, self.prompted, self.logits = clicks, prompted, logits
            raise


def feature_bytes(network: Backend) -> int:
    """Memory that a frame's features, and what is derived from them, will take: by the shapes of SAM 2's pyramid."""
    nothing = network.nothing()
    (height, width), channels = nothing.logits.shape[1:], nothing.pointers.shape[1]
    fine = height * width * (channels // 8) + (height // 2) * (width // 2) * (channels // 4)
    coarse = (height // 4) * (width // 4) * channels  # top, tokens, prepared, projected
    return int((fine + 4 * coarse) * network.dtype.itemsize)


class FrameCache:
    """The newest frames, oldest first: `length` of them, or fewer where they take more than `limit_bytes`.

    Args:
        length: frames.
        limit_bytes: for all of them together.
        frame_bytes: that one of them is going to take at least. A frame comes as a picture and grows when its
            features are computed; measured from the start, a frame that somebody waits for is not dropped then.
    """

    def __init__(self, length: int, limit_bytes: int, frame_bytes: int = 1) -> None:
        self._frames: deque[CachedFrame] = deque()
        self._length, self._limit_bytes = length, limit_bytes
        self._frame_bytes = max(1, frame_bytes)  # of the largest frame so far
        self._next = 0

    def __iter__(self) -> Iterator[CachedFrame]:
        return iter(self._frames)

    @property
    def length(self) -> int:
        """How many frames are kept at most; one in any case."""
        return max(1, min(self._length, self._limit_bytes // self._frame_bytes))

    @property
    def newest(self) -> CachedFrame:
        """The frame added last."""
        return self._frames[-1]

    def leaves_next(self, index: int) -> bool:
        """Whether the frame of this number is dropped when the next one comes."""
        self._measure()
        return len(self._frames) >= self.length and index <= self._frames[-self.length].index

    def add(self, pixels: Tensor, size: tuple[int, int], stamp_ns: int | None) -> CachedFrame:
        """Number the frame and keep it; without a stamp its number stands in for one."""
        stamp_ns = self._next if stamp_ns is None else stamp_ns
        if self._frames and stamp_ns <= self._frames[-1].stamp_ns:
            # The clock went back (a bag was looped): no prompt can name the frames from before.
            self._frames.clear()
        self._measure()
        frame = CachedFrame(self._next, stamp_ns, size, pixels)
        self._frames.append(frame)
        while len(self._frames) > self.length:
            self._frames.popleft()
        self._next += 1
        return frame

    def drop(self, frame: CachedFrame) -> None:
        """Forget the newest frame again, its number too: its step failed."""
        if self._frames and self._frames[-1] is frame:
            self._frames.pop()
            self._next = frame.index

    def _measure(self) -> None:
        # Masks come after the frame; all frames of a stream end up with equally many.
        self._frame_bytes = max([self._frame_bytes, *(frame.size_bytes for frame in self._frames)])

    def keep(self, length: int) -> None:
        """Keep the newest `length` frames from now on, or fewer where their features take too much memory."""
        self._length = length
        while len(self._frames) > self.length:
            self._frames.popleft()

    def clear(self) -> None:
        """Forget all frames; numbering goes on."""
        self._frames.clear()


@dataclass(frozen=True)
class DuePrompt:
    """A prompt and the frame it is applied to."""

    prompt: Prompt
    frame: CachedFrame


class PromptQueue:
    """Prompts that wait for their frame."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Prompt, int]] = []  # with the number of frames waited

    @property
    def ids(self) -> tuple[int, ...]:
        """Objects with a prompt that waits, each once, in order of arrival."""
        return tuple(dict.fromkeys(prompt.object_id for prompt, _ in self._waiting))

    def add(self, prompt: Prompt) -> None:
        """Let a prompt wait."""
        self._waiting.append((prompt, 0))

    def rename(self, object_id: int, label: str) -> bool:
        """Give an object's waiting prompts another label; whether there were any."""
        self._waiting = [(replace(p, label=label) if p.object_id == object_id else p, n) for p, n in self._waiting]
        return object_id in self.ids

    def remove(self, object_id: int) -> bool:
        """Drop an object's prompts; whether there were any."""
        kept = [entry for entry in self._waiting if entry[0].object_id != object_id]
        dropped = len(kept) != len(self._waiting)
        self._waiting = kept
        return dropped

    def clear(self) -> None:
        """Drop all prompts."""
        self._waiting.clear()

    def due(self, cache: FrameCache) -> tuple[list[DuePrompt], list[str]]:
        """Take out the prompts whose frame is there, in order of arrival, and say where one got another frame."""
        due, notes, later = [], [], []
        for prompt, waited in self._waiting:
            frame, note = _frame_for(prompt.stamp_ns, waited, cache)
            if frame is None:
                later.append((prompt, waited + 1))
                continue
            due.append(DuePrompt(prompt, frame))
            if note:
                notes.append(f"prompt for object {prompt.object_id} {note}")
        self._waiting = later
        return due, notes


def _frame_for(stamp_ns: int | None, waited: int, cache: FrameCache) -> tuple[CachedFrame | None, str]:
    """The frame that a stamp means, or None if it is still to come; and what is not as asked."""
    newest = cache.newest
    if stamp_ns is None or stamp_ns == newest.stamp_ns:
        return newest, ""
    if stamp_ns > newest.stamp_ns:
        if waited < cache.length:
            return None, ""
        ahead_s = (stamp_ns - newest.stamp_ns) * 1e-9
        return newest, (
            f"is stamped {ahead_s:.3f} s ahead of the newest frame and has waited {waited} frames: applied to the "
            "newest frame; check that the prompt carries the clicked image's stamp, not the clock's"
        )
    nearest = min(cache, key=lambda frame: abs(frame.stamp_ns - stamp_ns))
    if nearest.stamp_ns == stamp_ns:
        return nearest, ""
    if stamp_ns > next(iter(cache)).stamp_ns:
        off_ms = (nearest.stamp_ns - stamp_ns) * 1e-6
        return nearest, f"names a frame that was not processed: applied to the nearest one, {off_ms:+.1f} ms away"
    age_s = (newest.stamp_ns - stamp_ns) * 1e-9
    return newest, (
        f"is {age_s:.3f} s old, older than the {len(list(cache))} frames whose features are kept: applied to the "
        "newest frame; raise tracker.feature_cache_frames, and feature_cache_mb, if prompts take that long"
    )
