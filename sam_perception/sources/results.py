"""Results back from a bag that the node or `process` has filled."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rosbags.highlevel import AnyReader

from sam_perception.errors import SourceError
from sam_perception.recorded import scene_from_objects
from sam_perception.scene import Scene

OBJECTS = "sam_perception/msg/TrackedObjectArray"


def read_scenes(path: Path | str, width: int, height: int) -> Iterator[Scene]:
    """The scenes of a bag with one topic of `TrackedObjectArray`, without clouds, in recorded order.

    Raises:
        SourceError: no such topic, several of them, or an unreadable bag.
    """
    try:
        with AnyReader([Path(path)]) as reader:
            connections = [c for c in reader.connections if c.msgtype == OBJECTS]
            if len({c.topic for c in connections}) != 1:
                found = sorted({c.topic for c in connections})
                raise SourceError(f"{path} has topics {found} of type {OBJECTS}: one is needed")
            for connection, _, raw in reader.messages(connections):
                yield scene_from_objects(reader.deserialize(raw, connection.msgtype), width, height)
    except SourceError:
        raise
    except Exception as error:  # a damaged file makes the library raise whatever it stumbles over
        raise SourceError(f"{path} cannot be read ({type(error).__name__}: {error}): record it again") from error
