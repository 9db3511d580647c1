"""`~/segment_everything` and prompts by region, with a finder that goes by colour and goes on only when it may."""

from __future__ import annotations

import threading
from collections.abc import Generator
from typing import Any

import numpy as np
import pytest
from fake_tracker import BLUE, FRAME_ID, HEIGHT, RED, RED_POINT, WIDTH, ColorTracker, make_frame, red_mask
from rclpy.qos import QoSProfile
from ros_harness import TIMEOUT_S, Harness
from sam_perception.msg import Prompt
from sam_perception.srv import SegmentEverything

from sam_perception.config import EverythingConfig, PerceptionConfig
from sam_perception.errors import ModelError, PerceptionError, PromptError, UnknownObject
from sam_perception.frame import RgbdFrame
from sam_perception.messages import stamp_ns_of
from sam_perception.perception import Perception
from sam_perception.prompts import PointPrompt
from sam_perception.ros.convert import prompt_from_msg, prompt_to_msg
from sam_perception.ros.region_desk import RegionDesk
from sam_perception.ros.worker import LatestWorker
from sam_perception.scene import ObjectState, Region, Regions, Scene, Track

SECOND = 10**9
STEPS = 5
BURST = 300  # requests that nobody waits for an answer to


class ColorFinder:
    """The red and the blue square; each step waits until `gate` is open."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.steps = 0
        self.begun = threading.Event()
        self.fails = False

    def search(self, frame: RgbdFrame, _: EverythingConfig | None = None) -> Generator[float, None, Regions]:
        for step in range(STEPS):
            self.begun.set()
            assert self.gate.wait(TIMEOUT_S)
            if self.fails:
                raise ModelError("this model cannot do it")
            self.steps += 1
            yield (step + 1) / STEPS
        regions = []
        for number, color in enumerate((RED, BLUE), start=1):
            mask = (frame.rgb == color).all(axis=2)
            rows, columns = np.nonzero(mask)
            x, y = int(columns.min()), int(rows.min())
            box = (x, y, int(columns.max()) - x + 1, int(rows.max()) - y + 1)
            point = (float(columns.mean()), float(rows.mean()))
            regions.append(Region(number, mask, box, int(mask.sum()), 0.9, 0.97, point))
        return Regions(frame.stamp_ns, frame.frame_id, frame.width, frame.height, tuple(regions))


def start(harness: Harness, finder: ColorFinder, tracker: ColorTracker | None = None) -> Any:
    tracker = tracker or ColorTracker()

    def make(config: PerceptionConfig) -> Perception:
        tracker.max_objects = config.max_objects
        return Perception(config, tracker, finder)

    return harness.node(make=make)


def segment(harness: Harness) -> Any:
    return harness.call(SegmentEverything, "/sam_perception/segment_everything", SegmentEverything.Request())


# ------------------------------------------------------------------ over DDS


def test_regions_come_with_the_pictures_header_and_become_objects(harness: Harness) -> None:
    start(harness, ColorFinder())
    answer = segment(harness)
    assert not answer.success
    assert "no picture yet" in answer.message
    assert harness.add(PointPrompt(7, [RED_POINT])).success
    harness.scene_at(harness.send(SECOND))
    answer = segment(harness)
    assert (answer.success, answer.message) == (True, "2 regions")
    assert (stamp_ns_of(answer.header.stamp), answer.header.frame_id) == (SECOND, FRAME_ID)
    assert (answer.width, answer.height) == (WIDTH, HEIGHT)
    red, blue = answer.regions
    assert (red.id, blue.id, red.object_id, blue.object_id) == (1, 2, 7, 0)
    assert (red.roi.x_offset, red.roi.y_offset, red.roi.width, red.roi.height) == (10, 10, 16, 20)
    assert (red.mask.encoding, red.area, bytes(red.mask.data)) == ("mono8", 320, b"\xff" * 320)
    assert red.predicted_iou == pytest.approx(0.9)
    assert red.stability_score == pytest.approx(0.97)
    assert list(red.point) == [17.5, 19.5]
    added = harness.add(Prompt(object_id=0, label="blue one", region=2))
    assert added.success
    scene = harness.scene_at(harness.send(2 * SECOND))
    (track,) = [entry for entry in scene.objects if entry.id == added.object_id]
    assert track.label == "blue one"
    assert (track.roi.x_offset, track.roi.width) == (40, 16)


def test_frames_and_requests_go_on_while_a_picture_is_cut_up(harness: Harness) -> None:
    finder = ColorFinder()
    node = start(harness, finder)
    harness.scene_at(harness.send(SECOND))
    finder.gate.clear()
    answers: list[Any] = []
    asking = threading.Thread(target=lambda: answers.append(segment(harness)))
    asking.start()
    assert finder.begun.wait(TIMEOUT_S)
    # The node's one thread for callbacks is free, though the search holds the one for inference.
    assert harness.list_objects().header.stamp.sec == 1
    finder.gate.set()
    for second in range(2, 5):
        harness.scene_at(harness.send(second * SECOND))
    asking.join(TIMEOUT_S)
    assert answers[0].success
    assert stamp_ns_of(answers[0].header.stamp) == SECOND, "regions are of the picture that was newest when asked"
    assert node.state_label == "active"


def test_what_goes_wrong_is_said_and_the_next_request_works(harness: Harness) -> None:
    finder = ColorFinder()
    node = start(harness, finder)
    harness.scene_at(harness.send(SECOND))
    finder.fails = True
    answer = segment(harness)
    assert not answer.success
    assert "ModelError: this model cannot do it" in answer.message
    finder.fails = False
    assert segment(harness).success
    for region, words in ((3, "no region 3"), (2, "region and also points")):
        refused = harness.add(Prompt(region=region, points=[1.0, 2.0] if region == 2 else []))
        assert not refused.success
        assert words in refused.message
    node.trigger_deactivate()
    node.trigger_cleanup()
    answer = segment(harness)
    assert not answer.success
    assert "has no model" in answer.message


def test_more_requests_at_once_than_a_usual_queue_holds_are_all_answered(harness: Harness) -> None:
    start(harness, ColorFinder())
    harness.objects()
    harness.scene_at(harness.send(SECOND))
    kind, name = SegmentEverything, "/sam_perception/segment_everything"
    client = harness.client.create_client(kind, name, qos_profile=QoSProfile(depth=BURST))
    assert client.wait_for_service(TIMEOUT_S)
    futures = [client.call_async(SegmentEverything.Request()) for _ in range(BURST)]
    harness.until(lambda: all(future.done() for future in futures), 60.0)
    assert all(future.result().success for future in futures)


def test_a_request_that_waits_when_the_node_stops_is_answered(harness: Harness) -> None:
    finder = ColorFinder()
    node = start(harness, finder)
    harness.scene_at(harness.send(SECOND))
    finder.gate.clear()
    answers: list[Any] = []
    asking = threading.Thread(target=lambda: answers.append(segment(harness)))
    asking.start()
    assert finder.begun.wait(TIMEOUT_S)
    stopping = threading.Thread(target=lambda: (node.trigger_deactivate(), node.trigger_cleanup()))
    stopping.start()
    harness.until(lambda: node.state_label != "active")
    finder.gate.set()
    stopping.join(TIMEOUT_S)
    asking.join(TIMEOUT_S)
    assert answers, "nobody answers"
    assert answers[0].success or "stopped" in answers[0].message


def test_nano_cuts_up_what_the_camera_shows_with_the_nodes_parameters(harness: Harness) -> None:
    node = harness.node(
        make=Perception,
        wait_active=False,  # the network's libraries take long to load on a busy machine
        device="cpu",
        everything__points_per_side=5,
        everything__pred_iou_thresh=0.2,
        everything__stability_score_thresh=0.4,
    )
    harness.until(lambda: node.state_label == "active", timeout_s=120.0)
    stamp = harness.send(SECOND)
    harness.objects().wait(lambda m: stamp_ns_of(m.header.stamp) == stamp, timeout_s=120.0)
    answer = segment(harness)
    assert answer.success, answer.message
    areas = [region.area for region in answer.regions]
    assert areas, answer.message
    assert areas == sorted(areas, reverse=True)
    for region in answer.regions:
        crop = np.frombuffer(bytes(region.mask.data), np.uint8).reshape(region.roi.height, region.roi.width)
        assert region.area == np.count_nonzero(crop)
        assert region.predicted_iou > 0.2


# ------------------------------------------------------------------ parts


def scene_with(mask: np.ndarray) -> Scene:
    track = Track(4, "", ObjectState.TRACKED, 0.9, 0.9, mask, SECOND)
    return Scene(SECOND, FRAME_ID, WIDTH, HEIGHT, (track,))


def desk_for(finder: ColorFinder, scene: Scene | None) -> tuple[RegionDesk, LatestWorker[Any], list[Exception]]:
    errors: list[Exception] = []
    worker: LatestWorker[Any] = LatestWorker(lambda item: item(), errors.append, "test")
    newest = None if scene is None else (make_frame(SECOND), scene)
    return RegionDesk(lambda: newest, finder.search, worker.take_up), worker, errors


def test_whoever_asks_meanwhile_gets_the_same_answer() -> None:
    finder = ColorFinder()
    finder.gate.clear()
    desk, worker, _ = desk_for(finder, scene_with(red_mask()))
    first, second = desk.ask(), desk.ask()
    finder.gate.set()
    assert first.result(TIMEOUT_S) is second.result(TIMEOUT_S) is desk.last
    assert finder.steps == STEPS
    assert desk.wait(TIMEOUT_S) is not first.result()
    assert finder.steps == 2 * STEPS
    assert worker.stop(TIMEOUT_S)


def test_regions_know_which_object_they_are() -> None:
    for mask, wanted in ((red_mask(), (4, 0)), (np.ones((HEIGHT, WIDTH), bool), (0, 0))):
        desk, worker, _ = desk_for(ColorFinder(), scene_with(mask))
        regions = desk.wait(TIMEOUT_S)
        assert desk.objects_of(regions) == wanted
        desk.wait(TIMEOUT_S)
        assert desk.objects_of(regions) == (0, 0), "an older answer's objects are not known any more"
        assert worker.stop(TIMEOUT_S)


def test_a_region_is_a_mask_prompt_for_its_own_picture() -> None:
    desk, worker, _ = desk_for(ColorFinder(), scene_with(red_mask()))
    with pytest.raises(PerceptionError, match="segment_everything"):
        desk.prompt(1, 5, "mug")
    desk.wait(TIMEOUT_S)
    prompt = desk.prompt(1, 5, "mug")
    assert (prompt.object_id, prompt.label, prompt.stamp_ns) == (5, "mug", SECOND)
    np.testing.assert_array_equal(prompt.mask, red_mask())
    with pytest.raises(UnknownObject, match="1 to 2"):
        desk.prompt(9, 5, "")
    assert worker.stop(TIMEOUT_S)


def test_an_answer_that_takes_too_long_is_an_error_and_comes_later() -> None:
    finder = ColorFinder()
    finder.gate.clear()
    desk, worker, _ = desk_for(finder, scene_with(red_mask()))
    with pytest.raises(PerceptionError, match="points_per_side"):
        desk.wait(0.01)
    waiting = desk.ask()
    finder.gate.set()
    assert waiting.result(TIMEOUT_S).regions
    assert worker.stop(TIMEOUT_S)


def test_the_end_of_the_thread_answers_those_who_wait() -> None:
    finder = ColorFinder()
    finder.gate.clear()
    desk, worker, errors = desk_for(finder, scene_with(red_mask()))
    waiting = desk.ask()
    assert finder.begun.wait(TIMEOUT_S)
    stopping = threading.Thread(target=worker.stop, args=(TIMEOUT_S,))
    stopping.start()
    finder.gate.set()
    stopping.join(TIMEOUT_S)
    with pytest.raises(PerceptionError, match="stopped"):
        waiting.result(TIMEOUT_S)
    with pytest.raises(PerceptionError, match="stopped"):
        desk.ask().result(TIMEOUT_S)
    assert errors == []


def test_an_error_that_nobody_foresaw_is_answered_and_logged() -> None:
    def broken(_: RgbdFrame) -> Generator[float, None, Regions]:
        yield 0.5
        raise ZeroDivisionError("in the network")

    errors: list[Exception] = []
    worker: LatestWorker[Any] = LatestWorker(lambda item: item(), errors.append, "test")
    desk = RegionDesk(lambda: (make_frame(SECOND), scene_with(red_mask())), broken, worker.take_up)
    with pytest.raises(PerceptionError, match="ZeroDivisionError: in the network"):
        desk.wait(TIMEOUT_S)
    assert worker.stop(TIMEOUT_S)
    assert [type(error) for error in errors] == [ZeroDivisionError]


def test_items_go_before_steps_and_each_waits_for_one_step_at_most() -> None:
    order: list[str] = []
    begun, go_on = threading.Event(), threading.Event()

    def chore() -> Generator[None, None, None]:
        for step in range(4):
            begun.set()
            assert go_on.wait(TIMEOUT_S)
            order.append(f"step {step}")
            yield

    done = threading.Event()
    errors: list[Exception] = []
    worker: LatestWorker[str] = LatestWorker(
        lambda item: (order.append(item), done.set() if item == "second" else None)[0], errors.append, "test"
    )
    worker.take_up(chore())
    assert begun.wait(TIMEOUT_S)
    worker.offer("first")
    worker.offer("second")  # replaces the first: there is never a backlog
    go_on.set()
    assert done.wait(TIMEOUT_S)
    assert order[:2] == ["step 0", "second"]
    assert worker.stop(TIMEOUT_S)
    assert errors == []


def test_a_choice_survives_its_way_through_a_message() -> None:
    prompt = prompt_from_msg(prompt_to_msg(PointPrompt(3, [[4, 5]], choose=2)), 3)
    assert isinstance(prompt, PointPrompt)
    assert prompt.choose == 2
    with pytest.raises(PromptError, match="single point"):
        prompt_from_msg(Prompt(box=[0.0, 0.0, 4.0, 4.0], choose=1), 3)
    with pytest.raises(PromptError, match="single click"):
        prompt_from_msg(Prompt(points=[0.0, 0.0, 4.0, 4.0], choose=1), 3)
