"""Messages for topics: rclpy's classes behind `messages.MessageTypes`."""

from __future__ import annotations

from array import array
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np

from sam_perception.messages import Message


@cache
def message_class(name: str) -> Any:
    """The generated class of "package/Type"."""
    package, _, kind = name.rpartition("/")
    return getattr(import_module(f"{package.removesuffix('/msg')}.msg"), kind)


class RosTypes:
    """Makes rclpy's messages; see `messages.MessageTypes`."""

    def __call__(self, name: str, /, **fields: Any) -> Message:
        """A message of type `name` with these fields, the others at their defaults."""
        return message_class(name)(**{field: _field(value) for field, value in fields.items()})


def _field(value: Any) -> Any:
    """An array.array of a byte array, which rclpy takes without looking at every element; else the value."""
    if isinstance(value, np.ndarray) and value.dtype == np.uint8:
        data = array("B")
        data.frombytes(np.ascontiguousarray(value).reshape(-1).data)
        return data
    return value
