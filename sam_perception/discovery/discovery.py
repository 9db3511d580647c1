"""The façade: words and detections in, prompts for the tracker out, around each of its steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sam_perception.config import PerceptionConfig
from sam_perception.detections import Detection
from sam_perception.discovery.hands import Describing, Hands, PromptTaker
from sam_perception.discovery.intake import DetectionIntake
from sam_perception.discovery.memory import ObjectMemory
from sam_perception.discovery.models import Models
from sam_perception.discovery.names import Names
from sam_perception.discovery.words import WordSearch
from sam_perception.errors import ConfigError
from sam_perception.frame import RgbdFrame
from sam_perception.prompts import TextPrompt
from sam_perception.scene import Scene


class Discovery:
    """Finds objects by words and by detectors, and those that were lost.

    What is new is searched for before a frame is tracked, so that it is in that frame's scene; what
    is LOST after it, when it is known what is where, so that it is back one frame later.

    Args:
        tracker: is pointed at what is found.
        models: those that are there.
        config: the settings in force; may be replaced.
    """

    def __init__(self, tracker: PromptTaker, models: Models, config: PerceptionConfig) -> None:
        self.config = config
        self._tracker, self._memory, self._names = tracker, ObjectMemory(), Names()
        self._hands = Hands(tracker, self._memory, self._names)
        parts = (self._memory, self._names, self._hands)
        self._words = None if models.words is None else WordSearch(models.words, *parts)
        self._intake = DetectionIntake(models.detector, *parts)
        self._searches_itself = models.detector is not None
        # Without models it costs nothing, until somebody sends detections.
        self._watching = self._words is not None or self._searches_itself
        self._took_ms: dict[str, float] = {}

    @property
    def active(self) -> bool:
        """Whether there is anything to do: a model that searches, or detections that were sent."""
        return self._watching

    @property
    def waiting(self) -> tuple[int, ...]:
        """Ids whose words were not found yet."""
        return () if self._words is None else self._words.waiting

    def ask(self, prompt: TextPrompt) -> None:
        """Search for words from the next frame on.

        Raises:
            ConfigError: there is no detector that understands words.
        """
        check_words(self.config)
        if self._words is None:
            raise ConfigError("words cannot be looked for: this Perception was made without a detector for them")
        self._words.ask(prompt)

    def take(self, detections: Sequence[Detection], stamp_ns: int = 0) -> None:
        """Detections in the picture of this stamp (0: the newest), from a detector elsewhere."""
        self._watching = True
        self._intake.take(detections, stamp_ns)

    def go_to_background(self) -> None:
        """From now on models look at frames in threads of their own, and the stream does not wait for them."""
        self._intake.go_to_background()
        if self._words is not None:
            self._words.go_to_background()

    def before(self, frame: RgbdFrame) -> None:
        """Before the tracker's step: search for what is new."""
        if self._words is not None:
            self._took("words model", self._words.search_new(frame, self.config.words, self.config.geometry))
        if self._searches_itself and self._memory.empty:
            self._took("detector model", self._intake.look(frame, self.config))

    def after(self, frame: RgbdFrame, scene: Scene) -> Scene:
        """After it: remember, work off detections, search for what is lost.

        Returns:
            The scene with what detectors say of names, and in its notes what was done.
        """
        describe = self._tracker.appearance if isinstance(self._tracker, Describing) else None
        self._memory.remember(frame, scene.objects, self.config.geometry, describe, scene.resting)
        self._intake.take_given(frame, self.config)
        if self._searches_itself:
            self._took("detector model", self._intake.look(frame, self.config))
        if self._words is not None:
            self._took("words model", self._words.search_lost(frame, self.config.words, self.config.geometry))
        objects = tuple(
            replace(track, label_score=score) if (score := self._names.score(track.id, track.label)) else track
            for track in scene.objects
        )
        return replace(scene, objects=objects, notes=(*scene.notes, *self._hands.take_notes()))

    def take_timings_ms(self) -> dict[str, float]:
        """Milliseconds that models took, by name, of those that answered since the last call."""
        took_ms, self._took_ms = self._took_ms, {}
        return took_ms

    def _took(self, name: str, ms: float) -> None:
        if ms:
            self._took_ms[name] = self._took_ms.get(name, 0.0) + ms

    def rename(self, object_id: int, label: str) -> bool:
        """Rename what waits under an id; whether something does."""
        return self._words is not None and self._words.rename(object_id, label)

    def pointed_at(self, object_id: int) -> None:
        """Somebody has pointed at what was to be found by words under this id, if anything was."""
        if self._words is not None:
            self._words.drop(object_id)

    def forget(self, object_id: int) -> bool:
        """Forget an object; whether only its words were known here."""
        self._memory.forget(object_id)
        self._names.forget(object_id)
        return self._words is not None and self._words.forget(object_id)

    def forget_frames(self) -> None:
        """Keep objects and words; forget stamps and places, for a stream that jumps."""
        self._memory.forget_frames()
        self._intake.forget_frames()
        if self._words is not None:
            self._words.forget_frames()

    def clear(self) -> None:
        """Forget everything."""
        self._memory.clear()
        self._names.clear()
        self._intake.forget_frames()
        if self._words is not None:
            self._words.clear()


def check_words(config: PerceptionConfig) -> None:
    """Raise ConfigError where the settings name no model for words."""
    if not config.words.model:
        raise ConfigError(
            "words.model is empty, so that nothing can be looked for by words: set it to a Grounding DINO, OWLv2 or "
            "CLIP, as in words.model:=IDEA-Research/grounding-dino-tiny, after `hf download "
            "IDEA-Research/grounding-dino-tiny --include '*.json' --include '*.txt' --include '*.safetensors'`"
        )
