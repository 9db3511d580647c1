"""A rosbag2 that takes serialised messages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from rosbags.interfaces import Connection
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from sam_perception.errors import SinkError
from sam_perception.sinks.bag_types import full_name, typestore

STORAGES = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}


class RawBag:
    """Writes a new rosbag2; closed by `with`, and left without an index when that ends by an error.

    Args:
        path: folder to create; must not exist.
        topics: message type ("package/Type") of each topic.
        storage: "mcap" or "sqlite3".
        compressed: zstd within the file, as `ros2 bag` reads it; mcap only.

    Raises:
        SinkError: the folder exists or cannot be written; a disk that fills up while writing.
    """

    def __init__(
        self, path: Path | str, topics: Mapping[str, str], *, storage: str = "mcap", compressed: bool = False
    ) -> None:
        self.path = Path(path)
        if storage not in STORAGES:
            raise SinkError(f"bag storage is {storage!r}: choose one of {', '.join(STORAGES)}")
        if self.path.exists():
            raise SinkError(f"{self.path} exists already: remove it or choose another name; bags are not overwritten")
        store = typestore()
        self._writer = Writer(self.path, version=9, storage_plugin=STORAGES[storage])
        if compressed and storage != "mcap":
            raise SinkError(f"{storage} bags are not compressed here: use mcap, or compressed=False")
        if compressed:
            self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._connections: dict[str, Connection] = {}
        self._open = False
        try:
            self._writer.open()
            self._open = True
            for topic, name in topics.items():
                self._connections[topic] = self._writer.add_connection(topic, full_name(name), typestore=store)
        except Exception as error:
            self.abort()
            raise self._failed(error) from error

    def write(self, topic: str, stamp_ns: int, raw: bytes | memoryview) -> None:
        """Append one message, CDR, logged at `stamp_ns`."""
        try:
            self._writer.write(self._connections[topic], stamp_ns, raw)
        except Exception as error:
            self.abort()
            raise self._failed(error) from error

    def close(self) -> None:
        """Write the index and metadata.yaml; without it the bag is not complete. Twice is fine."""
        if not self._open:
            return
        self._open = False
        try:
            self._writer.close()
        except Exception as error:
            raise self._failed(error) from error

    def abort(self) -> None:
        """Close without an index: what there is can be seen to be incomplete."""
        if self._open:
            self._open = False
            self._writer.abort()

    def __enter__(self) -> RawBag:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def _failed(self, error: Exception) -> SinkError:
        return SinkError(
            f"{self.path} cannot be written ({type(error).__name__}: {error}): check the folder and free space"
        )
