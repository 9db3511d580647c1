"""Results back from a bag that the node or `process` has filled."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rosbags.highlevel import AnyReader

from sam_perception.errors import SourceError
from sam_perception.messages import Message, stamp_ns_of
from sam_perception.recorded import scene_from_objects, with_grasps, with_obstacles
from sam_perception.scene import Scene

OBJECTS = "sam_perception/msg/TrackedObjectArray"
GRASPS = "sam_perception/msg/GraspTargetArray"
OBSTACLES = "sam_perception/msg/ObstacleSegmentArray"


def read_scenes(path: Path | str, width: int, height: int) -> Iterator[Scene]:
    """The scenes of a bag with one topic of `TrackedObjectArray`, without clouds, in recorded order.

    Grasps and obstacles are in them where their topics lie beside that of the objects.

    Raises:
        SourceError: no such topic, several of them, or an unreadable bag.
    """
    try:
        with AnyReader([Path(path)]) as reader:
            connections = [c for c in reader.connections if c.msgtype == OBJECTS]
            if len({c.topic for c in connections}) != 1:
                found = sorted({c.topic for c in connections})
                raise SourceError(f"{path} has topics {found} of type {OBJECTS}: one is needed")
            beside = connections[0].topic.rpartition("/")[0]
            grasps = _by_stamp(reader, f"{beside}/grasp_targets", GRASPS)
            obstacles = _by_stamp(reader, f"{beside}/obstacles", OBSTACLES)
            for connection, _, raw in reader.messages(connections):
                scene = scene_from_objects(reader.deserialize(raw, connection.msgtype), width, height)
                if scene.stamp_ns in grasps:
                    scene = with_grasps(scene, grasps[scene.stamp_ns])
                if scene.stamp_ns in obstacles:
                    scene = with_obstacles(scene, obstacles[scene.stamp_ns])
                yield scene
    except SourceError:
        raise
    except Exception as error:  # a damaged file makes the library raise whatever it stumbles over
        raise SourceError(f"{path} cannot be read ({type(error).__name__}: {error}): record it again") from error


def _by_stamp(reader: AnyReader, topic: str, kind: str) -> dict[int, Message]:
    """All messages of a topic by their header's stamp; none where the topic is missing or of another type."""
    connections = [c for c in reader.connections if c.topic == topic and c.msgtype == kind]
    if not connections:  # for which the library would give the messages of all topics
        return {}
    read: list[Message] = [reader.deserialize(raw, c.msgtype) for c, _, raw in reader.messages(connections)]
    return {stamp_ns_of(message.header.stamp): message for message in read}
