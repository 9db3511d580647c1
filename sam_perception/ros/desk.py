"""Where requests about objects are taken at once and handed over between frames."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from sam_perception.errors import NoFreeSlot, PromptError, UnknownObject
from sam_perception.perception import Perception
from sam_perception.prompts import MAX_OBJECT_ID, AnyPrompt, check_label, check_object_id

Request = Callable[[Perception], None]


@dataclass(frozen=True)
class _Asked:
    """What waits for the next frame."""

    object_id: int  # 0: all
    do: Request
    is_prompt: bool = False


class ObjectDesk:
    """Answers requests without waiting for inference; the thread that does inference collects them.

    It knows which ids are taken: those that are tracked, and those that were asked for since.

    Args:
        max_objects: as many as the tracker has room for.
    """

    def __init__(self, max_objects: int) -> None:
        self._max_objects = max_objects
        self._lock = threading.Lock()
        self._requests: list[_Asked] = []
        self._ids: set[int] = set()
        self._late: tuple[int, ...] = ()  # prompts that wait inside the tracker

    @property
    def ids(self) -> tuple[int, ...]:
        """Objects that are tracked or asked for, ascending."""
        with self._lock:
            return tuple(sorted(self._ids))

    @property
    def waiting(self) -> tuple[int, ...]:
        """Objects with a prompt that no frame has taken up yet, ascending."""
        with self._lock:
            asked = {request.object_id for request in self._requests if request.is_prompt}
            return tuple(sorted(self._ids & (asked | set(self._late))))

    def prompt(self, object_id: int, make: Callable[[int], AnyPrompt]) -> AnyPrompt:
        """Queue the prompt that `make` returns for an id; 0 stands for the smallest free one.

        Raises:
            PromptError: no such id, or whatever `make` says.
            NoFreeSlot: as many objects are tracked as there is room for.
        """
        with self._lock:
            object_id = check_object_id(object_id) if object_id else self._free_id()
            if object_id not in self._ids and len(self._ids) >= self._max_objects:
                raise NoFreeSlot(
                    f"object {object_id} has no place: {len(self._ids)} objects {sorted(self._ids)} are tracked or "
                    f"asked for, max_objects is {self._max_objects}; remove one, or set max_objects higher"
                )
            prompt = make(object_id)
            self._ids.add(object_id)
            self._requests.append(_Asked(object_id, lambda perception: perception.prompt(prompt), is_prompt=True))
            return prompt

    def remove(self, object_id: int) -> None:
        """Queue the removal of an object.

        Raises:
            UnknownObject: nobody asked for it.
        """
        with self._lock:
            if object_id not in self._ids:
                raise UnknownObject(f"no object {object_id} to remove: known are {sorted(self._ids)}")
            self._ids.discard(object_id)
            self._requests.append(_Asked(object_id, lambda perception: perception.remove(object_id)))

    def rename(self, object_id: int, label: str) -> None:
        """Queue another name for an object.

        Raises:
            UnknownObject: nobody asked for it.
            PromptError: no such name, see `check_label`.
        """
        name = check_label(label)
        with self._lock:
            if object_id not in self._ids:
                raise UnknownObject(f"no object {object_id} to rename: known are {sorted(self._ids)}")
            self._requests.append(_Asked(object_id, lambda perception: perception.rename(object_id, name)))

    def reset(self) -> None:
        """Queue the removal of everything; what was queued before is dropped."""
        with self._lock:
            self._ids.clear()
            self._late = ()
            self._requests = [_Asked(0, lambda perception: perception.reset())]

    def hand_over(self, perception: Perception) -> list[Exception]:
        """Do what was asked, in order; what could not be done comes back."""
        with self._lock:
            requests, self._requests = self._requests, []
        errors: list[Exception] = []
        for request in requests:
            try:
                request.do(perception)
            except Exception as error:  # whatever it is, those behind it are done
                errors.append(error)
        return errors

    def settle(self, perception: Perception) -> None:
        """After a frame: ids whose prompt was refused are free again."""
        late = perception.waiting
        known = {*perception.object_ids, *late}
        with self._lock:
            self._late = late
            asked_since = {request.object_id for request in self._requests}
            if 0 not in asked_since:  # after a reset the desk alone knows
                self._ids = (known - asked_since) | (self._ids & asked_since)

    def _free_id(self) -> int:
        for object_id in range(1, MAX_OBJECT_ID + 1):
            if object_id not in self._ids:
                return object_id
        raise PromptError(f"all {MAX_OBJECT_ID} object ids are in use: remove some")
