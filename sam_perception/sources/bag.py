"""rosbag2 recordings (sqlite3 or mcap) as frames, read by the rosbags library without ROS."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rosbags.interfaces import Connection
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_typestore

from sam_perception.errors import FrameError, FrameIdMismatch, SourceError
from sam_perception.frame import CameraIntrinsics, RgbdFrame
from sam_perception.images import depth_from_image, intrinsics_from_camera_info, rgb_from_image
from sam_perception.messages import Message, stamp_ns_of, stamp_ns_of_cdr
from sam_perception.sources.pairing import pair_stamps
from sam_perception.sources.source import Rejection
from sam_perception.sources.topics import CAMERA_INFO, IMAGE, choose_topics

# Half a frame at 25 Hz; drivers with hardware synchronisation give equal stamps.
DEFAULT_SLOP_S = 0.02


class BagSource:
    """Every colour image of a bag with the depth image and camera_info that belong to it, in recorded order.

    The bag is gone through once when opened, for the stamps; pictures are decoded while iterating.
    Colour without depth within `slop_s`, and frames that do not fit together, are rejected; the others go on.

    Raises:
        SourceError: unreadable or truncated bag, topics missing or not to be told apart, no pair at all.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        color_topic: str | None = None,
        depth_topic: str | None = None,
        info_topic: str | None = None,
        slop_s: float = DEFAULT_SLOP_S,
    ) -> None:
        path = Path(path)
        self.path = path.parent if path.is_file() else path
        self._store = get_typestore(Stores.ROS2_JAZZY)
        self._rejected: list[Rejection] = []
        self._reader: Reader | None = None
        try:
            reader = Reader(self.path)
            reader.open()
            self._reader = reader  # only an open one can be closed
            types = {c.topic: c.msgtype for c in reader.connections if c.msgcount}
            self.topics = choose_topics(
                types, self._first_encoding, color=color_topic, depth=depth_topic, info=info_topic
            )
            self._index(slop_s)
        except SourceError:
            self.close()
            raise
        # A damaged file makes the library and its parsers raise whatever they stumble over.
        except Exception as error:
            self.close()
            raise _unreadable(self.path, error) from error

    @property
    def description(self) -> str:
        """One line for people."""
        return f"{len(self)} frames from {self.path} ({self.topics.color}, {self.topics.depth})"

    @property
    def independent(self) -> bool:
        """A bag is a recording: its frames belong together."""
        return False

    @property
    def rejected(self) -> Sequence[Rejection]:
        """Frames left out so far in the latest iteration."""
        return self._rejected

    @property
    def intrinsics(self) -> CameraIntrinsics:
        """The first camera_info's."""
        return _intrinsics(self._infos[0][1])

    def __len__(self) -> int:
        return len(self._color_stamps)

    def __enter__(self) -> BagSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the bag's files; twice is fine."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def __iter__(self) -> Iterator[RgbdFrame]:
        self._rejected = []
        waiting: dict[str, dict[int, bytes]] = {self.topics.color: {}, self.topics.depth: {}}
        counts = dict.fromkeys(waiting, 0)
        upcoming = 0  # colour images are handed out in their recorded order
        for topic, raw in self._raw(self.topics.color, self.topics.depth):
            if counts[topic] in self._wanted[topic]:
                waiting[topic][counts[topic]] = raw
            counts[topic] += 1
            while upcoming < counts[self.topics.color]:
                partner = self._pairs.get(upcoming)
                if partner is not None and partner not in waiting[self.topics.depth]:
                    break
                if partner is None:
                    self._reject_lonely(upcoming)
                else:
                    color, depth = waiting[self.topics.color].pop(upcoming), waiting[self.topics.depth].pop(partner)
                    yield from self._decoded(color, depth)
                upcoming += 1

    def _index(self, slop_s: float) -> None:
        """Read all stamps, to know pairs and counts before the first picture is decoded."""
        stamps: dict[str, list[int]] = {self.topics.color: [], self.topics.depth: []}
        self._infos: list[tuple[int, Message]] = []
        for topic, raw in self._raw(self.topics.color, self.topics.depth, self.topics.info):
            if topic == self.topics.info:
                self._infos.append((stamp_ns_of_cdr(raw), self._store.deserialize_cdr(raw, CAMERA_INFO)))
            else:
                stamps[topic].append(stamp_ns_of_cdr(raw))
        self._infos.sort(key=lambda info: info[0])
        self._color_stamps = stamps[self.topics.color]
        self._pairs = pair_stamps(self._color_stamps, stamps[self.topics.depth], round(slop_s * 1e9))
        self._wanted = {self.topics.color: self._pairs.keys(), self.topics.depth: set(self._pairs.values())}
        if not self._pairs:
            raise SourceError(
                f"{self.path}: none of {len(self._color_stamps)} colour images has depth within {slop_s} s among "
                f"{len(stamps[self.topics.depth])} depth images: record both with the same clock"
            )

    def _raw(self, *topics: str) -> Iterator[tuple[str, bytes]]:
        """Topic and bytes of every message on `topics`, in recorded order."""
        if self._reader is None:
            raise SourceError(f"{self.path} is closed: open the bag again")
        messages = self._reader.messages(connections=self._connections(*topics))
        while True:
            try:
                connection, _, raw = next(messages)
            except StopIteration:
                return
            except Exception as error:
                raise _unreadable(self.path, error) from error
            yield connection.topic, raw

    def _connections(self, *topics: str) -> list[Connection]:
        return [c for c in self._reader.connections if c.topic in topics] if self._reader else []

    def _first_encoding(self, topic: str) -> str:
        _, raw = next(self._raw(topic))
        message: Any = self._store.deserialize_cdr(raw, IMAGE)
        return str(message.encoding)

    def _reject_lonely(self, index: int) -> None:
        reason = f"colour image {index} has no depth image of its time: record both topics with reliable QoS"
        self._rejected.append(Rejection(self._color_stamps[index], "Unpaired", reason))

    def _decoded(self, color: bytes, depth: bytes) -> Iterator[RgbdFrame]:
        """The frame, or nothing where it is rejected."""
        try:
            color_message: Any = self._store.deserialize_cdr(color, IMAGE)
            depth_message: Any = self._store.deserialize_cdr(depth, IMAGE)
        except Exception as error:
            raise _unreadable(self.path, error) from error
        stamp_ns = stamp_ns_of(color_message.header.stamp)
        try:
            frame = self._frame(color_message, depth_message, stamp_ns)
        except FrameError as error:
            self._rejected.append(Rejection.of(stamp_ns, error))
            return
        yield frame

    def _frame(self, color: Message, depth: Message, stamp_ns: int) -> RgbdFrame:
        info = self._info_at(stamp_ns)
        for name, message in (("depth", depth), ("camera_info", info)):
            if message.header.frame_id != color.header.frame_id:
                raise FrameIdMismatch(
                    f"{name} is in frame {message.header.frame_id!r}, colour in {color.header.frame_id!r}: "
                    "record depth aligned to colour, and colour's own camera_info"
                )
        return RgbdFrame(
            rgb_from_image(*_image_fields(color)),
            depth_from_image(*_image_fields(depth)),
            _intrinsics(info),
            stamp_ns,
            color.header.frame_id,
        )

    def _info_at(self, stamp_ns: int) -> Message:
        """The newest camera_info not after `stamp_ns`, or the first one."""
        after = bisect_right(self._infos, stamp_ns, key=lambda info: info[0])
        return self._infos[max(0, after - 1)][1]


def _image_fields(message: Message) -> tuple[Any, ...]:
    return message.encoding, message.height, message.width, message.step, message.is_bigendian, message.data


def _intrinsics(info: Message) -> CameraIntrinsics:
    return intrinsics_from_camera_info(info.width, info.height, info.k, info.d, info.distortion_model)


def _unreadable(path: Path, error: Exception) -> SourceError:
    return SourceError(
        f"{path} cannot be read as a rosbag2 ({type(error).__name__}: {error}): it may be cut off; "
        "try `sam-perception recover` (a recorder that was killed), `ros2 bag reindex` (metadata.yaml is damaged) or "
        "`mcap recover`, or record it again"
    )
