"""Detectors that say what a test tells them to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam_perception.detections import Detection
from sam_perception.errors import PromptError

Answer = Callable[[NDArray[np.uint8], str], list[Detection]]


class ScriptedWords:
    """A `WordDetector`; `answer` is asked for each text. `gate` lets a test hold an answer."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[tuple[str, ...]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.most_texts = 100

    def find(self, rgb: NDArray[np.uint8], texts: Sequence[str], **options: Any) -> list[Detection]:
        self.gate.wait(20)
        self.asked.append(tuple(texts))
        if len(texts) > self.most_texts:
            raise PromptError("too long together")
        found = [d for text in texts for d in self.answer(rgb, text)]
        return sorted((d for d in found if d.score >= options["box_threshold"]), key=lambda d: -d.score)


class ScriptedDetector:
    """An `ObjectDetector` that gives one answer after the other, the last one for ever."""

    def __init__(self, *answers: list[Detection]) -> None:
        self.answers = list(answers)
        self.looked = 0

    def detect(self, *_: Any, **__: Any) -> list[Detection]:
        self.looked += 1
        return self.answers[min(self.looked, len(self.answers)) - 1]
