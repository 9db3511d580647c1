"""Plays a rosbag2 through the perception node, at the bag's time, and records everything that comes out.

ros2 launch sam_perception replay.launch.py bag:=recording out:=replayed
ros2 launch sam_perception replay.launch.py bag:=recording rate:=0.5 rviz:=true model:=sam2.1-hiera-tiny
ros2 launch sam_perception replay.launch.py --show-args

All arguments of perception.launch.py can be given as well. Frames are dropped where the model is slower than the
bag: play it at a lower rate, or use `sam-perception process`, which takes every frame.
"""

from __future__ import annotations

import shlex

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
from launch.launch_description_entity import LaunchDescriptionEntity
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.substitutions import FindPackageShare
from lifecycle_msgs.msg import Transition

FINISH_S = 5.0  # for the last frame, once the bag is at its end
INPUTS = ("color", "depth", "camera_info")
TRANSFORMS = ("/tf", "/tf_static")


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
    play = ExecuteProcess(cmd=play_command(value), output="screen")
    return [
        *([ExecuteProcess(cmd=record_command(value), output="screen")] if value["out"] else []),
        RegisterEventHandler(
            OnStateTransition(
                start_state="configuring", goal_state="inactive", entities=[change(Transition.TRANSITION_ACTIVATE)]
            )
        ),
        RegisterEventHandler(
            OnStateTransition(goal_state="active", entities=[LogInfo(msg=f"playing {value['bag']}"), play])
        ),
        RegisterEventHandler(
            OnProcessExit(
                target_action=play,
                on_exit=[TimerAction(period=FINISH_S, actions=[EmitEvent(event=Shutdown(reason="the bag is over"))])],
            )
        ),
        change(Transition.TRANSITION_CONFIGURE),
    ]


def change(transition: int) -> EmitEvent:
    """Ask the one lifecycle node that is started here for a transition."""
    return EmitEvent(
        event=ChangeState(
            lifecycle_node_matcher=lambda action: isinstance(action, LifecycleNode), transition_id=transition
        )
    )


def play_command(value: dict[str, str]) -> list[str]:
    """`ros2 bag play` with the bag's clock."""
    command = ["ros2", "bag", "play", value["bag"], "--clock", "100", "--rate", value["rate"]]
    return [*command, *(["--loop"] if value["loop"] == "true" else []), *shlex.split(value["play_arguments"])]


def record_command(value: dict[str, str]) -> list[str]:
    """`ros2 bag record` of all the node's outputs, its inputs, transforms and diagnostics."""
    private = "/".join(["", *filter(None, (value["namespace"].strip("/"), value["name"]))])
    others = [*(value[name] for name in INPUTS), *TRANSFORMS, "/diagnostics"]
    # By expression, since the outputs are there only when the node is configured.
    expression = "|".join([f"{private}/.*", *(f"{topic}$" for topic in others)])
    return ["ros2", "bag", "record", "--use-sim-time", "--output", value["out"], "--regex", expression]


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
