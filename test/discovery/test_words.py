"""Objects asked for in words: found, kept, lost and found again, with a detector that says what it is told to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fake_models import ScriptedWords
from fake_tracker import BLUE, GREY, RED, RED_BOX, ColorTracker, make_frame
from numpy.typing import NDArray

from sam_perception.config import PerceptionConfig
from sam_perception.detections import Detection
from sam_perception.discovery import Models
from sam_perception.errors import ConfigError, PromptError
from sam_perception.perception import Perception, Wanted
from sam_perception.prompts import BoxPrompt, TextPrompt
from sam_perception.scene import ObjectState, Scene
from sam_perception.segmentation.tracks import Tracks
from sam_perception.settings import with_settings

SECOND = 10**9
BLUE_BOX = (40.0, 10.0, 56.0, 30.0)
CONFIG = with_settings(
    PerceptionConfig(),
    {"words.model": "scripted", "words.search_period_s": 1.0, "navigation.enabled": False, "grasps.enabled": False},
)


class LookingTracker(ColorTracker):
    """Loses what it does not see at once, and tells looks by colour."""

    def appearance(self, masks: NDArray[np.bool_], stamp_ns: int | None = None) -> NDArray[np.float32]:
        assert stamp_ns == self.stamps[-1]
        colours = np.stack([self.rgb[mask].mean(axis=0) - GREY for mask in masks])
        return (colours / np.maximum(np.linalg.norm(colours, axis=1, keepdims=True), 1e-6)).astype(np.float32)

    def step(self, rgb: NDArray[np.uint8], *rest: object) -> Tracks:  # type: ignore[override]
        self.rgb = rgb
        tracks = super().step(rgb, *rest)  # type: ignore[arg-type]
        states = (ObjectState.LOST if s is ObjectState.OCCLUDED else s for s in tracks.states)
        return replace(tracks, states=tuple(states))


def squares(rgb: NDArray[np.uint8], text: str) -> list[Detection]:
    """What a perfect detector says of the fake camera's picture."""
    found = []
    for name, box, colour in (("red", RED_BOX, RED), ("blue", BLUE_BOX, BLUE)):
        if (name in text or text == "square") and (rgb[20, int(box[0]) + 4] == colour).all():
            found.append(Detection(text, 0.9 if name == "red" else 0.8, box))
    return found


def perception_with(words: ScriptedWords, tracker: ColorTracker | None = None, **settings: object) -> Perception:
    config = with_settings(CONFIG, {name.replace("__", "."): value for name, value in settings.items()})
    return Perception(config, tracker or LookingTracker(), models=Models(words=words))


def step(perception: Perception, second: float, *, red: bool = True) -> Scene:
    return perception.step(make_frame(round(second * SECOND), red=red), wanted=Wanted.MASKS)


def test_words_become_objects_in_the_frame_in_which_they_are_found() -> None:
    words = ScriptedWords(squares)
    perception = perception_with(words)
    perception.prompt(TextPrompt(3, "a red square"))
    assert perception.waiting == (3,)
    scene = step(perception, 1)
    track = scene.object(3)
    assert (track.label, track.state) == ("a red square", ObjectState.TRACKED)
    assert track.label_score == pytest.approx(0.9)
    assert scene.notes == ("object 3 is 'a red square', found with a score of 0.90",)
    assert "words model" in scene.timings_ms
    assert perception.waiting == ()
    for second in range(2, 6):
        assert step(perception, second).object(3).label_score == pytest.approx(0.9)
    assert words.asked == [("a red square",)]  # what is found is not searched for


def test_several_instances_get_ids_of_their_own() -> None:
    perception = perception_with(ScriptedWords(squares))
    perception.prompt(TextPrompt(7, "square", max_instances=3, label="block"))
    scene = step(perception, 1)
    assert [(t.id, t.label) for t in scene.objects] == [(7, "block"), (1001, "block")]
    assert scene.object(7).mask[20, 17]  # the surest one has the id that was given
    assert [t.label_score for t in scene.objects] == pytest.approx([0.9, 0.8])


def test_what_is_not_there_is_searched_for_from_time_to_time() -> None:
    words = ScriptedWords(squares)
    perception = perception_with(words)
    perception.prompt(TextPrompt(3, "red"))
    notes = [step(perception, second, red=False).notes for second in (1, 1.3, 1.6, 2.1, 2.5)]
    assert [bool(told) for told in notes] == [True, False, False, False, False]
    assert "nothing like 'red' is seen with a score of 0.3 or more; it is looked for every 1.0 s" in notes[0][0]
    assert len(words.asked) == 2
    assert perception.waiting == (3,)
    assert not step(perception, 2.9).objects
    assert step(perception, 3.2).object(3).state is ObjectState.TRACKED


def test_scores_below_the_threshold_are_not_taken() -> None:
    perception = perception_with(
        ScriptedWords(lambda _, text: [Detection(text, 0.4, RED_BOX)]), words__box_threshold=0.5
    )
    perception.prompt(TextPrompt(3, "red"))
    assert not step(perception, 1).objects


def test_what_is_tracked_already_is_no_new_object() -> None:
    perception = perception_with(ScriptedWords(squares))
    perception.prompt(BoxPrompt(1, RED_BOX, label="mine"))
    step(perception, 1)
    perception.prompt(TextPrompt(3, "red"))
    scene = step(perception, 2)
    assert [t.id for t in scene.objects] == [1]
    assert scene.object(1).label == "mine"
    assert scene.object(1).label_score == 0.0  # a person named it
    assert any("what looks like 'red' is object 1 already" in note for note in scene.notes)
    perception.prompt(TextPrompt(4, "square"))
    assert [t.id for t in step(perception, 3).objects] == [1, 4]  # the other square


def lost_red(**settings: object) -> tuple[Perception, ScriptedWords]:
    words = ScriptedWords(squares)
    perception = perception_with(words, **settings)
    perception.prompt(TextPrompt(3, "red"))
    step(perception, 1)
    scene = step(perception, 2, red=False)
    assert scene.object(3).state is ObjectState.LOST
    return perception, words


def test_what_was_lost_is_found_again_under_its_id() -> None:
    perception, words = lost_red()
    assert isinstance(perception._tracker, ColorTracker)
    perception._tracker.objects[3] = np.array([1, 2, 3], np.int16)  # the tracker will not know it again
    assert step(perception, 3.1).object(3).state is ObjectState.LOST  # searched for after this frame
    scene = step(perception, 3.2)
    assert (scene.object(3).state, scene.object(3).label) == (ObjectState.TRACKED, "red")
    assert len(words.asked) == 3
    assert scene.object(3).label_score == pytest.approx(0.9)


def test_searches_for_what_is_lost_are_rare() -> None:
    perception, words = lost_red()
    for second in np.arange(2.1, 5, 0.1):
        step(perception, float(second), red=False)
    assert 3 <= len(words.asked) - 1 <= 4  # one a second


def test_another_thing_of_that_name_is_not_what_was_lost() -> None:
    perception, words = lost_red()
    words.answer = lambda _, text: [Detection(text, 0.99, BLUE_BOX)]  # by its words alone it would be
    for second in (3.1, 4.2, 5.3):
        assert step(perception, second, red=False).object(3).state is ObjectState.LOST


def test_a_look_alike_elsewhere_is_not_what_was_lost() -> None:
    far = make_frame(1).depth_m.copy()
    far[10:30, 10:26] = 3.0  # the same square, three metres away a second later
    perception, words = lost_red(words__gate_speed_m_s=0.5)
    assert isinstance(perception._tracker, ColorTracker)
    perception._tracker.objects[3] = np.array([1, 2, 3], np.int16)
    for second in (3.1, 4.2):
        frame = make_frame(round(second * SECOND), depth_m=far)
        assert perception.step(frame, wanted=Wanted.MASKS).object(3).state is ObjectState.LOST
    assert len(words.asked) >= 2
    step(perception, 5.3)
    assert step(perception, 5.4).object(3).state is ObjectState.TRACKED  # at the old place it is


def test_words_need_a_model_and_the_error_says_which() -> None:
    perception = Perception(PerceptionConfig(), ColorTracker())
    with pytest.raises(ConfigError, match=r"words\.model:=IDEA-Research/grounding-dino-tiny, after `hf download"):
        perception.prompt(TextPrompt(1, "a mug"))
    with pytest.raises(ConfigError, match=r"depth\.mode is 'fill' and depth\.model is empty"):
        Perception(with_settings(PerceptionConfig(), {"depth.mode": "fill"}))


def test_what_waits_can_be_renamed_removed_and_forgotten() -> None:
    words = ScriptedWords(squares)
    perception = perception_with(words)
    perception.prompt(TextPrompt(3, "red"))
    perception.rename(3, "toy")
    perception.prompt(TextPrompt(4, "blue"))
    perception.remove(4)
    assert [(t.id, t.label) for t in step(perception, 1).objects] == [(3, "toy")]
    perception.remove(3)
    assert not step(perception, 2).objects
    perception.prompt(TextPrompt(5, "green"))
    perception.reset()
    assert perception.waiting == ()
    step(perception, 3)
    assert words.asked == [("red",)]


def test_a_stream_that_jumps_keeps_what_was_asked_for() -> None:
    perception = perception_with(ScriptedWords(squares))
    perception.prompt(TextPrompt(3, "red"))
    step(perception, 100, red=False)
    assert step(perception, 1).object(3).state is ObjectState.TRACKED


def test_a_tracker_that_is_full_says_so() -> None:
    perception = perception_with(ScriptedWords(squares), ColorTracker(max_objects=1))
    perception.prompt(TextPrompt(3, "square", max_instances=2))
    scene = step(perception, 1)
    assert [t.id for t in scene.objects] == [3]
    assert any("was found and is not tracked: " in note for note in scene.notes)


def test_texts_that_are_too_long_together_are_asked_one_by_one() -> None:
    words = ScriptedWords(squares)
    words.most_texts = 1
    perception = perception_with(words)
    perception.prompt(TextPrompt(3, "red"))
    perception.prompt(TextPrompt(4, "blue"))
    assert [t.id for t in step(perception, 1).objects] == [3, 4]


def test_a_text_that_is_too_long_alone_is_refused_and_the_others_are_found() -> None:
    words = ScriptedWords(squares)

    def answer(rgb: NDArray[np.uint8], text: str) -> list[Detection]:
        if "very" in text:
            raise PromptError("300 tokens")
        return squares(rgb, text)

    words.answer = answer
    perception = perception_with(words)
    perception.prompt(TextPrompt(3, "a very red square"))
    perception.prompt(TextPrompt(4, "blue"))
    scene = step(perception, 1)
    assert [t.id for t in scene.objects] == [4]
    assert "object 3: 300 tokens" in scene.notes
    assert perception.waiting == ()


def test_a_model_that_fails_once_is_asked_again() -> None:
    words = ScriptedWords(squares)
    perception = perception_with(words, words__search_period_s=0.5)

    def broken(rgb: NDArray[np.uint8], text: str) -> list[Detection]:
        raise RuntimeError("no memory")

    words.answer = broken
    perception.prompt(TextPrompt(3, "red"))
    failed: list[str] = []
    frame = make_frame(SECOND)
    scene = perception.step(frame, wanted=Wanted.MASKS, on_error=lambda stage, _: failed.append(stage))
    assert failed == ["search for new objects"]
    assert not scene.objects
    words.answer = squares
    assert step(perception, 1.6).object(3).state is ObjectState.TRACKED


def test_a_click_on_what_is_waited_for_ends_the_search_and_one_on_what_was_found_does_not() -> None:
    words = ScriptedWords(squares)
    perception = perception_with(words)
    perception.prompt(TextPrompt(3, "green"))
    step(perception, 1)
    perception.prompt(BoxPrompt(3, BLUE_BOX))
    assert step(perception, 2).object(3).label_score == 0.0
    assert perception.waiting == ()
    assert len(words.asked) == 1
    perception, words = lost_red()
    perception.prompt(BoxPrompt(3, RED_BOX))  # a correction
    step(perception, 2.5)
    assert step(perception, 3.1, red=False).object(3).state is ObjectState.LOST
    assert len(words.asked) == 3  # it is still searched for


def test_in_the_background_the_stream_does_not_wait() -> None:
    words = ScriptedWords(squares)
    words.gate.clear()
    perception = perception_with(words)
    perception.search_in_background()
    perception.prompt(TextPrompt(3, "red"))
    for second in (1, 2, 3):
        assert not step(perception, second).objects  # the model still looks at the first frame
    words.gate.set()
    assert perception._discovery._words is not None
    running = perception._discovery._words._looker._running
    assert running is not None
    running.result(20)
    scene = step(perception, 4)
    assert scene.object(3).state is ObjectState.TRACKED
    assert words.asked == [("red",)]
    assert scene.timings_ms["words model"] > 0


def test_what_was_removed_while_the_model_looked_is_not_begun() -> None:
    words = ScriptedWords(squares)
    words.gate.clear()
    perception = perception_with(words)
    perception.search_in_background()
    perception.prompt(TextPrompt(3, "red"))
    step(perception, 1)
    perception.remove(3)
    words.gate.set()
    assert perception._discovery._words is not None
    running = perception._discovery._words._looker._running
    assert running is not None
    running.result(20)
    assert not step(perception, 2).objects


@pytest.mark.parametrize(
    ("text", "count"), [("", 1), (" . ", 1), ("x" * 201, 1), ("mug\x07", 1), ("mug", 0), ("mug", 1.5)]
)
def test_prompts_that_say_nothing_are_refused(text: str, count: int) -> None:
    with pytest.raises(PromptError):
        TextPrompt(1, text, count)
