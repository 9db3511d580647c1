"""Somebody who asks things of the node without a pause: objects come and go, and not all requests make sense."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from std_srvs.srv import Trigger

from sam_perception.frame import RgbdFrame
from sam_perception.prompts import BoxPrompt, MaskPrompt, PointPrompt, Prompt
from sam_perception.ros.convert import prompt_to_msg
from sam_perception.ros.message_types import message_class
from sam_perception.sinks.bag import NODE
from sam_perception.srv import AddObject, ListObjects, RemoveObject, RenameObject

_LEAST_PX = 60  # of an object that is pointed at
_MOST_OPEN = 64  # requests without an answer


@dataclass(frozen=True, eq=False)
class Scenery:
    """A picture, and masks of what it shows."""

    frame: RgbdFrame
    masks: tuple[Any, ...]  # (H, W) bool each


class Operator:
    """Asks by service and by topic, and does not wait for the answers.

    Args:
        node: to ask with.
        rng: decides what.
    """

    def __init__(self, node: Any, rng: np.random.Generator) -> None:
        self._node, self._rng = node, rng
        kinds = {
            "add_object": AddObject, "remove_object": RemoveObject, "rename_object": RenameObject,
            "list_objects": ListObjects, "reset": Trigger,
        }  # fmt: skip
        self._clients = {name: node.create_client(kind, f"{NODE}/{name}") for name, kind in kinds.items()}
        self._prompts = node.create_publisher(message_class("sam_perception/Prompt"), f"{NODE}/prompt", 10)
        self._onlooker: Any = None  # a subscription that comes and goes
        self._open: list[Any] = []
        self.known: set[int] = set()
        self.requests: Counter[str] = Counter()
        self.refused = 0
        self._deeds: dict[str, tuple[float, Callable[[Scenery], None]]] = {
            "add": (6, self._add), "correct": (3, self._correct), "remove": (4, self._remove),
            "rename": (2, self._rename), "list": (2, self._list), "reset": (0.3, self._reset),
            "wrong prompt": (1, self._wrong), "prompt by topic": (1, self._by_topic),
            "onlooker": (2, self._look_on),
        }  # fmt: skip

    def act(self, shown: Scenery) -> None:
        """Do one thing."""
        self._open = [future for future in self._open if not future.done()][-_MOST_OPEN:]
        names, weights = list(self._deeds), np.array([weight for weight, _ in self._deeds.values()])
        name = str(self._rng.choice(names, p=weights / weights.sum()))
        self.requests[name] += 1
        self._deeds[name][1](shown)

    def _ask(self, service: str, request: Any, on_answer: Callable[[Any], None] | None = None) -> None:
        future = self._clients[service].call_async(request)

        def done(finished: Any) -> None:
            answer = finished.result()
            if answer is None or not getattr(answer, "success", True):
                self.refused += 1
            elif on_answer is not None:
                on_answer(answer)

        future.add_done_callback(done)
        self._open.append(future)

    def _prompt(self, shown: Scenery, object_id: int) -> Any:
        masks = [mask for mask in shown.masks if mask.sum() >= _LEAST_PX]
        if not masks:
            return None
        mask = masks[int(self._rng.integers(len(masks)))]
        rows, columns = np.nonzero(mask)
        prompt: Prompt
        kind = int(self._rng.integers(3))
        if kind == 0:
            prompt = MaskPrompt(object_id, mask)
        elif kind == 1:
            middle = int(np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2))
            prompt = PointPrompt(object_id, np.array([[columns[middle], rows[middle]]], np.float32))
        else:
            edges = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            prompt = BoxPrompt(object_id, tuple(float(edge) for edge in edges))  # type: ignore[arg-type]
        return prompt_to_msg(prompt)

    def _add(self, shown: Scenery) -> None:
        msg = self._prompt(shown, 1)
        if msg is not None:
            msg.object_id, msg.label = 0, f"thing {self.requests['add']}"
            self._ask("add_object", AddObject.Request(prompt=msg), lambda answer: self.known.add(answer.object_id))

    def _correct(self, shown: Scenery) -> None:
        if self.known and (msg := self._prompt(shown, self._any())) is not None:
            self._ask("add_object", AddObject.Request(prompt=msg))

    def _remove(self, _: Scenery) -> None:
        if self.known:
            object_id = self._any()
            self.known.discard(object_id)
            self._ask("remove_object", RemoveObject.Request(object_id=object_id))

    def _rename(self, _: Scenery) -> None:
        if self.known:
            label = f"name {self.requests['rename']}"
            self._ask("rename_object", RenameObject.Request(object_id=self._any(), label=label))

    def _list(self, _: Scenery) -> None:
        def learn(answer: Any) -> None:
            self.known = {entry.id for entry in answer.objects} | set(answer.waiting)

        self._ask("list_objects", ListObjects.Request(), learn)

    def _reset(self, _: Scenery) -> None:
        self.known.clear()
        self._ask("reset", Trigger.Request())

    def _wrong(self, shown: Scenery) -> None:
        outside = PointPrompt(1, np.array([[shown.frame.width + 50.0, 5.0]], np.float32))
        self._ask("add_object", AddObject.Request(prompt=prompt_to_msg(outside)))

    def _by_topic(self, shown: Scenery) -> None:
        if self.known and (msg := self._prompt(shown, self._any())) is not None:
            self._prompts.publish(msg)

    def _look_on(self, _: Scenery) -> None:
        if self._onlooker is None:
            kind = message_class("sensor_msgs/Image")
            self._onlooker = self._node.create_subscription(kind, f"{NODE}/overlay", lambda _: None, 1, raw=True)
        else:
            self._node.destroy_subscription(self._onlooker)
            self._onlooker = None

    def _any(self) -> int:
        return int(self._rng.choice(sorted(self.known)))
