"""Requests as fast as they come: the node answers all of them, and frames go on."""

from __future__ import annotations

import time
from typing import Any

from fake_tracker import RED_POINT
from rclpy.qos import QoSProfile
from ros_harness import Harness, values_of
from sam_perception.msg import Prompt
from sam_perception.srv import AddObject, ListObjects, RemoveObject

from sam_perception.prompts import PointPrompt
from sam_perception.ros.convert import prompt_to_msg

SECOND = 10**9
CALLS, BURST = 3000, 500  # in a burst, nobody waits for an answer
ANSWERS_S = 120.0  # generous: other work may be on the machine


def test_thousands_of_service_calls_are_all_answered_while_frames_go_on(harness: Harness) -> None:
    node = harness.node(max_objects=4)
    harness.objects()
    harness.scene_at(harness.send(SECOND))
    kinds = {"add_object": AddObject, "remove_object": RemoveObject, "list_objects": ListObjects}
    clients = {
        name: harness.client.create_client(kind, f"/sam_perception/{name}", qos_profile=QoSProfile(depth=CALLS))
        for name, kind in kinds.items()
    }
    assert all(client.wait_for_service(10) for client in clients.values())
    good, bad = prompt_to_msg(PointPrompt(1, [RED_POINT])), Prompt(object_id=9, box=[1.0, 2.0])
    requests: list[tuple[str, Any]] = [
        ("add_object", AddObject.Request(prompt=good)),
        ("add_object", AddObject.Request(prompt=bad)),
        ("remove_object", RemoveObject.Request(object_id=1)),
        ("remove_object", RemoveObject.Request(object_id=77)),
        ("list_objects", ListObjects.Request()),
    ]
    futures = []
    for number in range(CALLS):
        name, request = requests[number % len(requests)]
        futures.append(clients[name].call_async(request))
        if number % BURST == BURST - 1:
            harness.until(lambda: all(future.done() for future in futures[-BURST:]), ANSWERS_S)
        if number == CALLS // 2:
            harness.send(2 * SECOND)
    harness.until(lambda: all(future.done() for future in futures), ANSWERS_S)
    answers = [future.result() for future in futures]
    assert all(answer.success for answer in answers[0::5])
    assert not any(answer.success for answer in answers[1::5] + answers[3::5])
    # 1 comes and goes. DDS keeps the order of the requests to one service, not of those to two: a removal that
    # overtakes its addition finds nothing, and the addition is the one that may be left at the end.
    removals = answers[2::5]
    assert any(answer.success for answer in removals)
    refused = {answer.message for answer in removals if not answer.success}
    assert [m for m in refused if not m.startswith("UnknownObject: no object 1 to remove")] == []
    unknown = {answer.message for answer in answers[3::5]}
    assert [m for m in unknown if not m.startswith("UnknownObject: no object 77 to remove")] == []
    harness.remove(1)
    harness.scene_at(2 * SECOND)  # in the middle of it
    assert harness.scene_at(harness.send(3 * SECOND)).objects == []
    assert harness.list_objects().objects == []
    assert node.state_label == "active"


def test_thousands_of_prompts_by_topic_leave_one_line_in_the_log(harness: Harness, capfd: Any) -> None:
    harness.node()
    harness.objects()
    harness.scene_at(harness.send(SECOND))
    publisher = harness.client.create_publisher(Prompt, "/sam_perception/prompt", QoSProfile(depth=CALLS))
    harness.until(publisher.get_subscription_count)
    start_s = time.monotonic()
    for _ in range(CALLS):
        publisher.publish(Prompt(object_id=2, box=[1.0, 2.0, 3.0]))
    status = harness.status("frames", lambda s: int(values_of(s).get("dropped: PromptError", "0")) >= 30)
    assert "box has 3 numbers" in values_of(status)["last error"]
    heard = capfd.readouterr().err.count("box has 3 numbers")
    assert heard <= 1 + (time.monotonic() - start_s) / 5
    publisher.publish(prompt_to_msg(PointPrompt(1, [RED_POINT])))
    harness.until(lambda: 1 in {o.id for o in harness.scene_at(harness.send(_next())).objects})


_STAMPS = iter(range(10, 10_000))


def _next() -> int:
    return next(_STAMPS) * SECOND
