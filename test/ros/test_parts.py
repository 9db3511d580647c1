"""The node's parts without DDS: worker, desk, camera_info, health, diagnosis, prompts as messages."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from fake_tracker import BLUE, CAMERA, FRAME_ID, RED_POINT, ColorTracker, make_frame
from hypothesis import given
from hypothesis import strategies as st
from sensor_msgs.msg import CameraInfo, Image

from sam_perception.errors import NoFreeSlot, PromptError, StampError, UnknownObject
from sam_perception.messages import stamp_ns_of
from sam_perception.perception import Perception
from sam_perception.prompts import BoxPrompt, MaskPrompt, PointPrompt, Prompt
from sam_perception.ros import diagnosis
from sam_perception.ros.camera_info import InfoMatcher
from sam_perception.ros.convert import frame_from_msgs, frame_to_msgs, prompt_from_msg, prompt_to_msg
from sam_perception.ros.desk import ObjectDesk
from sam_perception.ros.diagnosis import Wiring
from sam_perception.ros.health import COLOR, DEPTH, STREAMS, Health
from sam_perception.ros.settings import InputConfig, NodeConfig
from sam_perception.ros.synchronizer import COLOR_ALONE
from sam_perception.ros.worker import LatestWorker
from sam_perception.settings import settings_of

SECOND = 10**9


# ---------------------------------------------------------------------- worker


def test_the_worker_takes_the_newest_item_and_survives_errors() -> None:
    seen: list[int] = []
    errors: list[Exception] = []
    started, gate, done = threading.Event(), threading.Event(), threading.Event()

    def handle(item: int) -> None:
        started.set()
        gate.wait(10)
        seen.append(item)
        if item == 0:
            raise ValueError("the first one is bad")
        done.set()

    worker: LatestWorker[int] = LatestWorker(handle, errors.append, "test")
    assert worker.offer(0) is False
    assert started.wait(10)
    assert [worker.offer(i) for i in (1, 2, 3)] == [False, True, True]
    gate.set()
    assert done.wait(10)
    assert seen == [0, 3]
    assert [str(e) for e in errors] == ["the first one is bad"]
    assert worker.stop(10)


def test_a_worker_that_hangs_is_left_alone() -> None:
    started, gate = threading.Event(), threading.Event()

    def handle(_: int) -> None:
        started.set()
        gate.wait(30)

    worker: LatestWorker[int] = LatestWorker(handle, lambda _: None, "test")
    worker.offer(1)
    assert started.wait(10)
    assert worker.stop(0.01) is False
    gate.set()
    assert worker.stop(10)


def test_an_item_that_waits_can_be_withdrawn() -> None:
    seen: list[int] = []
    started, gate = threading.Event(), threading.Event()

    def handle(item: int) -> None:
        started.set()
        gate.wait(10)
        seen.append(item)

    worker: LatestWorker[int] = LatestWorker(handle, lambda _: None, "test")
    worker.offer(1)
    assert started.wait(10)
    worker.offer(2)
    worker.clear()
    gate.set()
    assert worker.stop(10)
    assert seen == [1]


# ---------------------------------------------------------------------- desk


def point(object_id: int) -> Prompt:
    return PointPrompt(object_id, [RED_POINT])


def test_the_desk_answers_at_once_and_hands_over_in_order() -> None:
    tracker = ColorTracker()
    perception, desk = Perception(tracker=tracker), ObjectDesk(3)
    assert [desk.prompt(i, point).object_id for i in (0, 5, 0)] == [1, 5, 2]
    with pytest.raises(NoFreeSlot, match=r"3 objects \[1, 2, 5\].*max_objects is 3"):
        desk.prompt(0, point)
    desk.prompt(5, point)  # a correction needs no room
    desk.remove(5)
    with pytest.raises(UnknownObject):
        desk.remove(5)
    assert desk.ids == desk.waiting == (1, 2)
    assert tracker.waiting == ()  # nothing has been handed over yet
    assert desk.hand_over(perception) == []
    perception.step(make_frame(1))
    desk.settle(perception)
    assert perception.object_ids == desk.ids == (1, 2)
    assert desk.waiting == ()


def test_a_prompt_that_cannot_be_made_takes_no_id() -> None:
    desk = ObjectDesk(1)

    def bad(_: int) -> Prompt:
        raise PromptError("no")

    with pytest.raises(PromptError):
        desk.prompt(0, bad)
    assert desk.ids == ()
    with pytest.raises(PromptError, match="65535"):
        desk.prompt(70_000, point)


def test_what_is_asked_while_a_frame_is_in_work_is_not_forgotten() -> None:
    perception, desk = Perception(tracker=ColorTracker()), ObjectDesk(4)
    for object_id in (1, 2):
        desk.prompt(object_id, point)
    desk.hand_over(perception)
    perception.step(make_frame(1))
    desk.remove(1)  # now, before the frame is settled
    desk.prompt(3, point)
    desk.settle(perception)
    assert desk.ids == (2, 3)
    assert desk.waiting == (3,)
    desk.reset()
    desk.prompt(4, point)
    desk.settle(perception)
    assert desk.ids == (4,)
    assert desk.hand_over(perception) == []
    perception.step(make_frame(2))
    desk.settle(perception)
    assert perception.object_ids == desk.ids == (4,)


# ---------------------------------------------------------------------- camera_info


def info(stamp_ns: int) -> CameraInfo:
    message = CameraInfo()
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, SECOND)
    return message


def pair(stamp_ns: int) -> tuple[Image, Image]:
    image = Image()
    image.header.stamp = info(stamp_ns).header.stamp
    return image, image


class Matches:
    def __init__(self) -> None:
        self.found: list[tuple[int, int]] = []
        self.missing = 0
        self.matcher = InfoMatcher(
            lambda color, _, info: self.found.append((stamp_ns_of(color.header.stamp), stamp_ns_of(info.header.stamp))),
            self._miss,
        )

    def _miss(self) -> None:
        self.missing += 1


def test_a_pair_waits_for_the_camera_info_of_its_own_stamp() -> None:
    matches = Matches()
    for stamp in (1, 2, 3):
        matches.matcher.add_pair(*pair(stamp))
        assert matches.found[-1:] != [(stamp, stamp)]
        matches.matcher.add_info(info(stamp))
        assert matches.found[-1] == (stamp, stamp)
    matches.matcher.add_info(info(4))
    matches.matcher.add_pair(*pair(4))
    assert matches.found[-1] == (4, 4)
    assert matches.missing == 0


def test_a_latched_camera_info_serves_all_pairs_at_once() -> None:
    matches = Matches()
    matches.matcher.add_info(info(0))
    for stamp in (10, 11, 12):
        matches.matcher.add_pair(*pair(stamp))
        assert matches.found[-1] == (stamp, 0)


def test_when_camera_info_stops_the_newest_goes_on_to_serve() -> None:
    matches = Matches()
    matches.matcher.add_info(info(1))
    matches.matcher.add_pair(*pair(1))
    for stamp in (2, 3, 4):
        matches.matcher.add_pair(*pair(stamp))
    assert matches.found == [(1, 1), (2, 1), (3, 1), (4, 1)]


def test_pairs_without_any_camera_info_are_missed_and_the_last_one_is_saved() -> None:
    matches = Matches()
    for stamp in (1, 2, 3):
        matches.matcher.add_pair(*pair(stamp))
    assert matches.missing == 2
    matches.matcher.add_info(info(99))
    assert matches.found == [(3, 99)]


# ---------------------------------------------------------------------- health and diagnosis


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def wiring(**incompatible: str) -> dict[str, Wiring]:
    return {name: Wiring(f"/cam/{name}", 1, incompatible.get(name, "")) for name in STREAMS}


def test_rates_and_silence_are_measured() -> None:
    clock = Clock()
    health = Health(clock)
    for _ in range(61):
        for name in STREAMS:
            health.received(name)
        clock.now_s += 0.05
    streams = health.snapshot().streams
    assert streams[COLOR].rate_hz == pytest.approx(20.0, rel=0.02)
    assert streams[COLOR].count == 61
    clock.now_s += 2.0
    assert health.snapshot().streams[COLOR].silent_s == pytest.approx(2.05)
    assert health.snapshot().streams[COLOR].rate_hz < 16
    clock.now_s += 10.0
    assert health.snapshot().streams[COLOR].rate_hz == 0.0


def test_a_rate_below_what_is_expected_is_said() -> None:
    clock = Clock()
    health = Health(clock)
    for _ in range(40):
        for name in STREAMS:
            health.received(name)
        clock.now_s += 0.1
    slow = diagnosis.diagnose_inputs(health.snapshot(), wiring(), InputConfig(expected_rate_hz=30.0))
    assert slow.level == diagnosis.WARN
    assert "color comes at 10.0 Hz on /cam/color, expected are 30.0 Hz" in slow.message
    fine = diagnosis.diagnose_inputs(health.snapshot(), wiring(), InputConfig(expected_rate_hz=10.0))
    assert (fine.level, fine.message) == (diagnosis.OK, "10.0 Hz color, 10.0 Hz depth")


@pytest.mark.parametrize(("alive", "dead"), [(COLOR, DEPTH), (DEPTH, COLOR)])
def test_one_of_two_inputs_missing_is_said_first(alive: str, dead: str) -> None:
    clock = Clock()
    health = Health(clock)
    for _ in range(50):
        health.received(alive)
        clock.now_s += 0.1
    status = diagnosis.diagnose_inputs(health.snapshot(), wiring(), InputConfig())
    assert status.level == diagnosis.ERROR
    assert status.message.startswith(f"{alive} arrives, {dead} does not; ")
    assert f"no {dead} on /cam/{dead} for 5.0 s (1 publishers): the publisher is silent" in status.message


def test_an_incompatible_publisher_is_named_with_the_cure() -> None:
    clock = Clock()
    health = Health(clock)
    clock.now_s += 3
    status = diagnosis.diagnose_inputs(health.snapshot(), wiring(depth="RELIABILITY"), InputConfig())
    assert "a publisher on /cam/depth offers another RELIABILITY than is asked for" in status.message
    assert "input.depth_reliability to best_effort" in status.message


def test_errors_warn_while_they_are_recent_and_are_remembered() -> None:
    clock = Clock()
    health = Health(clock)
    health.refused(StampError("stamp 1 is repeated: check"))
    status = diagnosis.diagnose_frames(health.snapshot())
    assert (status.level, status.message) == (diagnosis.ERROR, "StampError: stamp 1 is repeated: check")
    health.processed({"segmentation": 5.0}, 0.9)
    assert diagnosis.diagnose_frames(health.snapshot()).level == diagnosis.WARN
    clock.now_s += 6
    later = diagnosis.diagnose_frames(health.snapshot())
    assert later.level == diagnosis.OK
    assert later.values["last error"] == "StampError: stamp 1 is repeated: check"
    assert later.values["last error age s"] == "6.0"
    assert later.values["dropped: StampError"] == "1"


def test_many_images_without_a_partner_are_said() -> None:
    health = Health(Clock())
    for _ in range(20):
        health.processed({}, 1.0)
    health.dropped(COLOR_ALONE, 2)
    assert diagnosis.diagnose_frames(health.snapshot()).level == diagnosis.OK
    health.dropped(COLOR_ALONE, 10)
    status = diagnosis.diagnose_frames(health.snapshot())
    assert status.level == diagnosis.WARN
    assert "12 color images of the last seconds had no depth within sync.slop_s" in status.message


def test_latency_percentiles_are_numpys() -> None:
    health = Health(Clock())
    durations = np.random.default_rng(1).gamma(2.0, 10.0, 200)
    for duration in durations:
        health.processed({"segmentation": duration, "receive to publish": duration + 1}, 1.0)
    status = diagnosis.diagnose_latency(health.snapshot())
    for name, q in (("p50", 50), ("p95", 95), ("p99", 99)):
        assert float(status.values[f"segmentation {name} ms"]) == pytest.approx(np.percentile(durations, q), abs=0.051)


# ---------------------------------------------------------------------- messages


def test_frames_survive_their_way_through_messages() -> None:
    frame = make_frame(1_234_567_890_123_456_789)
    again = frame_from_msgs(*frame_to_msgs(frame))
    np.testing.assert_array_equal(again.rgb, frame.rgb)
    np.testing.assert_array_equal(again.depth_m, frame.depth_m)
    assert (again.stamp_ns, again.frame_id, again.intrinsics) == (frame.stamp_ns, FRAME_ID, CAMERA)


def test_an_rgb_image_is_not_copied() -> None:
    color, depth, camera_info = frame_to_msgs(make_frame())
    frame = frame_from_msgs(color, depth, camera_info)
    color.data[0] = 123
    assert frame.rgb[0, 0, 0] == 123


coordinates = st.floats(-1e4, 1e4, width=32)


@given(
    object_id=st.integers(1, 65535),
    points=st.lists(st.tuples(coordinates, coordinates, st.integers(0, 1)), min_size=1, max_size=5),
    box=st.none() | st.tuples(coordinates, coordinates, st.floats(1, 100, width=32), st.floats(1, 100, width=32)),
    label=st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=8),
    stamp_ns=st.none() | st.integers(1, 2**31 * SECOND - 1),
)
def test_prompts_survive_their_way_through_messages(
    object_id: int,
    points: list[tuple[float, float, int]],
    box: tuple[float, float, float, float] | None,
    label: str,
    stamp_ns: int | None,
) -> None:
    prompt: PointPrompt | BoxPrompt
    places, labels = [p[:2] for p in points], [p[2] for p in points]
    if box is None:
        prompt = PointPrompt(object_id, places, labels, label, stamp_ns)
    else:
        edges = tuple(float(np.float32(e)) for e in (box[0], box[1], box[0] + box[2], box[1] + box[3]))
        if edges[2] <= edges[0] or edges[3] <= edges[1]:
            return  # too narrow for 32 bits
        prompt = BoxPrompt(object_id, edges, places, labels, label, stamp_ns)
    again = prompt_from_msg(prompt_to_msg(prompt, "cam"), object_id)
    assert type(again) is type(prompt)
    assert (again.object_id, again.label, again.stamp_ns) == (object_id, label, stamp_ns)
    np.testing.assert_array_equal(again.points, prompt.points)
    np.testing.assert_array_equal(again.labels, prompt.labels)
    if isinstance(prompt, BoxPrompt):
        assert again.box == prompt.box


def test_a_mask_survives_its_way_through_a_message() -> None:
    mask = (make_frame().rgb == BLUE).all(axis=2)
    again = prompt_from_msg(prompt_to_msg(MaskPrompt(9, mask, "box", 7)), 9)
    assert isinstance(again, MaskPrompt)
    np.testing.assert_array_equal(again.mask, mask)
    assert (again.label, again.stamp_ns) == ("box", 7)


def test_node_settings_have_a_meaning_each() -> None:
    settings = list(settings_of(NodeConfig()))
    assert len({s.name for s in settings}) == len(settings)
    assert all(len(s.doc) > 10 for s in settings)
