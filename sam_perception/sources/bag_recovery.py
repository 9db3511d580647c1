"""A recording whose writer was killed: made readable up to where it was cut off.

An mcap file is a row of records, each with its length in front; messages lie in chunks, which are
records too. What is whole stays, what comes after is cut off, and an end is written behind it.
Format: https://mcap.dev/spec
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO

import yaml
from rosbags.rosbag2 import Reader

from sam_perception.errors import SourceError
from sam_perception.files import replaced

_MAGIC = b"\x89MCAP0\r\n"
_HEADER, _FOOTER, _DATA_END = 0x01, 0x02, 0x0F
_PREFIX = struct.Struct("<BQ")  # operation, length of what follows
_END = _PREFIX.pack(_DATA_END, 4) + bytes(4) + _PREFIX.pack(_FOOTER, 20) + bytes(20) + _MAGIC  # without a summary


def recover_bag(folder: Path) -> int:
    """Complete a cut-off recording in place; how many messages it has.

    The mcap file loses its unfinished end and gets a proper one; metadata.yaml is written anew.

    Raises:
        SourceError: it is complete, holds no single mcap file, or cannot be read or written.
    """
    if (folder / "metadata.yaml").is_file():
        raise SourceError(f"{folder} has a metadata.yaml: it was not cut off")
    files = sorted(folder.glob("*.mcap")) if folder.is_dir() else []
    if len(files) != 1:
        raise SourceError(
            f"{folder} holds {len(files)} mcap files: give the folder of a recording of one; messages of a cut-off "
            "sqlite3 recording were never written"
        )
    try:
        _mend(files[0])
        return _write_metadata(folder, files[0])
    except SourceError:
        raise
    except Exception as error:  # a damaged file makes the library raise whatever it stumbles over
        raise SourceError(
            f"{files[0]} cannot be recovered ({type(error).__name__}: {error}): record it again"
        ) from error


def _mend(file: Path) -> None:
    with file.open("r+b") as stream:
        end, complete = _whole_records(stream, file)
        if complete:
            return
        stream.seek(end)
        stream.truncate()
        stream.write(_END)


def _whole_records(stream: BinaryIO, file: Path) -> tuple[int, bool]:
    """Where the last whole record before any end ends, and whether the file has a proper end."""
    size = stream.seek(0, 2)
    stream.seek(0)
    if stream.read(len(_MAGIC)) != _MAGIC:
        raise SourceError(f"{file} is no mcap file ({size} bytes): nothing was written to it yet, record it again")
    end = len(_MAGIC)
    while end + _PREFIX.size <= size:
        stream.seek(end)
        operation, length = _PREFIX.unpack(stream.read(_PREFIX.size))
        if operation == _DATA_END:
            stream.seek(-len(_MAGIC), 2)
            return end, stream.read() == _MAGIC
        if operation == 0 or end + _PREFIX.size + length > size:
            break
        end += _PREFIX.size + length
    if end == len(_MAGIC):
        raise SourceError(f"{file} has no whole record ({size} bytes): nothing was written to it yet, record it again")
    return end, False


def _write_metadata(folder: Path, file: Path) -> int:
    with Reader(file) as reader:
        times: dict[str, Any] = {
            "starting_time": {"nanoseconds_since_epoch": reader.start_time if reader.message_count else 0},
            "duration": {"nanoseconds": max(0, reader.duration - 1)},
            "message_count": reader.message_count,
        }
        topics = [
            {
                "topic_metadata": {
                    "name": connection.topic,
                    "type": connection.msgtype,
                    "serialization_format": "cdr",
                    "offered_qos_profiles": [],
                    "type_description_hash": connection.digest,
                },
                "message_count": connection.msgcount,
            }
            for connection in reader.connections
        ]
    about = {
        "version": 9,
        "storage_identifier": "mcap",
        "relative_file_paths": [file.name],
        **times,
        "topics_with_message_count": topics,
        "compression_format": "",
        "compression_mode": "",
        "files": [{"path": file.name, **times}],
        "custom_data": None,
        "ros_distro": "rosbags",
    }
    with replaced(folder / "metadata.yaml") as part:
        part.write_text(yaml.safe_dump({"rosbag2_bagfile_information": about}), encoding="utf-8")
    return int(times["message_count"])
