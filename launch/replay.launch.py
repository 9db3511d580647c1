"""Plays a rosbag2 through the perception node, at the bag's time, and records everything that comes out.

ros2 launch sam_perception replay.launch.py bag:=recording out:=replayed
ros2 launch sam_perception replay.launch.py bag:=recording rate:=0.5 rviz:=true model:=sam2.1-hiera-tiny
ros2 launch sam_perception replay.launch.py --show-args

All arguments of perception.launch.py can be given as well. Frames are dropped where the model is slower than the
bag: play it at a lower rate, or use `sam-perception process`, which takes every frame.

The player starts paused and is resumed by its service, once the recorder listens to all that there is to record.
`ros2 bag record --use-sim-time` subscribes to nothing before it has heard /clock, and then looks for topics ten times
a second: a player that ran at once would be some frames ahead by then. A paused player has its publishers, and sends
/clock, which stands at the bag's start. So it is on Humble, Jazzy and Kilted alike.

The launch ends with the bag; and, with an error, where the node, the recorder or the player ends before that, and
where the node cannot be configured or activated.
"""

from __future__ import annotations

import re
import shlex
from typing import Any

from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    IncludeLaunchDescription,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
    TimerAction,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.events.process import ProcessExited
from launch.launch_description_entity import LaunchDescriptionEntity
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.ros_adapters import get_ros_node
from launch_ros.substitutions import FindPackageShare
from lifecycle_msgs.msg import Transition

FINISH_S = 5.0  # for the last frame, once the bag is at its end
LISTEN_S = 30.0  # for the player to come, and for the recorder to subscribe
ACKED_MS = 1000  # for each topic's last messages to be acknowledged
LOOK_S = 0.5  # between two looks at who is there
INPUTS = ("color", "depth", "camera_info", "imu", "detections")
TRANSFORMS = ("/tf", "/tf_static")
# As `ros2 bag` names them.
RECORDER, RESUME = "rosbag2_recorder", "/rosbag2_player/resume"


def arguments() -> list[DeclareLaunchArgument]:
    """What can be given beyond perception.launch.py's arguments."""
    return [
        DeclareLaunchArgument("bag", description="the rosbag2 to play"),
        DeclareLaunchArgument("rate", default_value="1.0", description="speed; below 1: slower"),
        DeclareLaunchArgument(
            "loop", default_value="false", description="start again at the end", choices=["true", "false"]
        ),
        DeclareLaunchArgument("play_arguments", default_value="", description="more of `ros2 bag play`'s arguments"),
        DeclareLaunchArgument("out", default_value="", description="rosbag2 to record into; empty: none"),
        DeclareLaunchArgument("use_sim_time", default_value="true", description="take time from the bag's clock"),
    ]


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The actions, once the arguments are known: the bag is played when the node is active.

    The node's states are changed from here, which waits for it, so that its becoming active is not missed.
    """
    value = {
        name: LaunchConfiguration(name).perform(context)
        for name in ("bag", "rate", "loop", "play_arguments", "out", "name", "namespace", *INPUTS)
    }
    expression = recorded(value) if value["out"] else ""
    record = ExecuteProcess(cmd=record_command(value["out"], expression), output="screen")
    play = ExecuteProcess(cmd=play_command(value), output="screen")
    return [
        *failures(),
        RegisterEventHandler(
            OnStateTransition(
                start_state="configuring", goal_state="inactive", entities=[change(Transition.TRANSITION_ACTIVATE)]
            )
        ),
        RegisterEventHandler(
            OnStateTransition(
                start_state="activating",
                goal_state="active",
                entities=[play, OpaqueFunction(function=resume, args=[value["bag"], expression])],
                handle_once=True,
            )
        ),
        RegisterEventHandler(OnProcessExit(target_action=play, on_exit=played)),
        *([RegisterEventHandler(ended(record, "the recorder ended")), record] if value["out"] else []),
        change(Transition.TRANSITION_CONFIGURE),
    ]


def failures() -> list[RegisterEventHandler]:
    """What ends the launch before its time: otherwise nothing would be played, and it would wait for ever."""
    ends = [(None, "unconfigured"), ("activating", "inactive"), (None, "finalized")]
    return [
        *(
            RegisterEventHandler(
                OnStateTransition(start_state=before, goal_state=after, entities=[failed(f"the node is {after}")])
            )
            for before, after in ends
        ),
        RegisterEventHandler(ended(lambda action: isinstance(action, LifecycleNode), "the node ended")),
    ]


def failed(what: str) -> OpaqueFunction:
    """Ends the launch with an error, unless it ends already."""
    return OpaqueFunction(function=fail, args=[what])


def fail(context: LaunchContext, what: str) -> None:
    """Raise what makes launch shut down and return 1.

    Raises:
        RuntimeError: launch is not shutting down yet.
    """
    if not context.is_shutdown:
        raise RuntimeError(f"{what} before the bag was played to its end: see what was said above")


def ended(action: Any, what: str) -> OnProcessExit:
    """For a process that is to outlive the player."""
    return OnProcessExit(target_action=action, on_exit=[failed(what)])


def played(event: ProcessExited, _: LaunchContext) -> list[LaunchDescriptionEntity]:
    """What follows the player's end."""
    if event.returncode != 0:
        return [failed(f"the player ended with {event.returncode}")]
    return [TimerAction(period=FINISH_S, actions=[EmitEvent(event=Shutdown(reason="the bag is over"))])]


def resume(
    context: LaunchContext, bag: str, expression: str, waited_s: float = 0.0, heard: bool = False
) -> list[LaunchDescriptionEntity]:
    """Let the paused player go on as soon as all that it waits for was there in two looks one after the other.

    Raises:
        RuntimeError: no player has come.
    """
    node = get_ros_node(context)
    ready = RESUME in dict(node.get_service_names_and_types())
    missing = unheard(node, expression) if expression else []
    late = waited_s >= LISTEN_S
    if late and not ready:
        fail(context, f"there is no {RESUME}")
    if ready and ((heard and not missing) or late):
        # The command rather than a client: what it needs is there wherever `ros2 bag` is.
        call = ExecuteProcess(cmd=["ros2", "service", "call", RESUME, "rosbag2_interfaces/srv/Resume"], output="log")
        said = f"playing {bag}" + (f"; nobody records {', '.join(missing)}" if missing else "")
        return [RegisterEventHandler(OnProcessExit(target_action=call, on_exit=resumed)), LogInfo(msg=said), call]
    again = OpaqueFunction(function=resume, args=[bag, expression, waited_s + LOOK_S, ready and not missing])
    return [TimerAction(period=LOOK_S, actions=[again])]


def resumed(event: ProcessExited, _: LaunchContext) -> list[LaunchDescriptionEntity]:
    """What follows the call that resumes the player."""
    return [failed(f"the player was not resumed ({event.returncode})")] if event.returncode != 0 else []


def unheard(node: Any, expression: str) -> list[str]:
    """Topics that are published and to be recorded, without a subscription of the recorder's."""
    published = [
        name
        for name, _ in node.get_topic_names_and_types()
        if re.search(expression, name) and "/_" not in name and node.count_publishers(name)
    ]
    return [
        name
        for name in published
        if all(info.node_name != RECORDER for info in node.get_subscriptions_info_by_topic(name))
    ]


def change(transition: int) -> EmitEvent:
    """Ask the one lifecycle node that is started here for a transition."""
    return EmitEvent(
        event=ChangeState(
            lifecycle_node_matcher=lambda action: isinstance(action, LifecycleNode), transition_id=transition
        )
    )


def play_command(value: dict[str, str]) -> list[str]:
    """`ros2 bag play` with the bag's clock, paused; it ends when what is reliable has arrived, the last frame too."""
    command = ["ros2", "bag", "play", value["bag"], "--start-paused", "--wait-for-all-acked", str(ACKED_MS)]
    command += ["--clock", "100", "--rate", value["rate"]]
    return [*command, *(["--loop"] if value["loop"] == "true" else []), *shlex.split(value["play_arguments"])]


def record_command(out: str, expression: str) -> list[str]:
    """`ros2 bag record` by expression, since the outputs are there only when the node is configured."""
    return ["ros2", "bag", "record", "--use-sim-time", "--output", out, "--regex", expression]


def recorded(value: dict[str, str]) -> str:
    """What is recorded, as a regular expression of C++ and Python: the node's outputs, its inputs, tf, diagnostics."""
    namespace = "/".join(["", *filter(None, [value["namespace"].strip("/")])])
    private = f"{namespace}/{value['name']}"
    inputs = [value[name].replace("~", private, 1) for name in INPUTS]
    topics = [name if name.startswith("/") else f"{namespace}/{name}" for name in inputs]
    return f"^({'|'.join([f'{private}/.*', *topics, *TRANSFORMS, '/diagnostics'])})$"


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` asks for."""
    perception = PathJoinSubstitution([FindPackageShare("sam_perception"), "launch", "perception.launch.py"])
    return LaunchDescription(
        [
            *arguments(),
            # First, so that its arguments and the room for images that it makes are there for the player.
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(perception),
                launch_arguments={"use_sim_time": LaunchConfiguration("use_sim_time"), "autostart": "false"}.items(),
            ),
            OpaqueFunction(function=start),
        ]
    )
