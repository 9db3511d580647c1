"""Messages for bags: the rosbags library's classes, ours among them, behind `messages.MessageTypes`."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

import sam_perception
from sam_perception.errors import SinkError
from sam_perception.messages import Message

PACKAGE = "sam_perception"


def interface_folders() -> list[Path]:
    """Where this package's .msg files may lie: the source tree, the install space, ROS prefixes."""
    places = [Path(__file__).resolve().parents[2] / "msg"]
    for entry in sam_perception.__path__:
        # <prefix>/lib/pythonX.Y/site-packages/sam_perception, or an ament prefix's lib or local/lib.
        places += [parent / "share" / PACKAGE / "msg" for parent in Path(entry).resolve().parents]
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    places += [Path(prefix) / "share" / PACKAGE / "msg" for prefix in prefixes if prefix]
    return places


def _definitions() -> dict[str, str]:
    """Text of each of this package's messages by type name."""
    places = interface_folders()
    for folder in places:
        if (folder / "TrackedObject.msg").is_file():
            return {f"{PACKAGE}/msg/{f.stem}": f.read_text(encoding="utf-8") for f in sorted(folder.glob("*.msg"))}
    raise SinkError(
        f"TrackedObject.msg is in none of {', '.join(map(str, places))}: "
        "install the package (make setup, or colcon build)"
    )


@lru_cache(maxsize=1)
def typestore() -> Typestore:
    """ROS 2 Jazzy's messages and this package's.

    Raises:
        SinkError: this package's message definitions are not found.
    """
    store = get_typestore(Stores.ROS2_JAZZY)
    types = {}
    for name, text in _definitions().items():
        types.update(get_types_from_msg(text, name))
    store.register(types)
    return store


def full_name(name: str) -> str:
    """`std_msgs/msg/Header` of `std_msgs/Header`."""
    package, _, kind = name.partition("/")
    return name if "/" in kind else f"{package}/msg/{kind}"


class BagTypes:
    """Makes messages of the rosbags library; see `messages.MessageTypes`."""

    def __init__(self) -> None:
        self._store = typestore()

    def __call__(self, name: str, /, **fields: Any) -> Message:
        """A message of type `name` with these fields, the others at their defaults."""
        kind = full_name(name)
        known = self._store.fielddefs[kind][1]
        values = {field: fields.pop(field) if field in fields else self._default(spec) for field, spec in known}
        if fields:
            raise TypeError(f"{kind} has no fields {sorted(fields)}, it has {sorted(values)}")
        return self._store.types[kind](**values)

    def _default(self, spec: Any) -> Any:
        node, detail = spec
        if node == Nodetype.NAME:
            # The one default that is not zero in the messages made here; the library keeps no defaults.
            return self(detail, w=1.0) if detail == "geometry_msgs/msg/Quaternion" else self(detail)
        if node == Nodetype.BASE:
            return {"string": "", "wstring": "", "bool": False}.get(detail[0], 0)
        (element, inner), length = detail
        count = length if node == Nodetype.ARRAY else 0
        if element == Nodetype.BASE and inner[0] not in ("string", "wstring"):
            return np.zeros(count, {"bool": np.bool_, "octet": np.uint8}.get(inner[0], inner[0]))
        return [self._default((element, inner)) for _ in range(count)]

    def serialize(self, message: Message, name: str) -> memoryview:
        """CDR bytes of `message`, little-endian on every machine."""
        return self._store.serialize_cdr(message, full_name(name), little_endian=True)
