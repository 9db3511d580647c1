"""Starts the perception node, configured and active, on a RealSense's topics.

ros2 launch sam_perception perception.launch.py model:=sam2.1-hiera-tiny rviz:=true
ros2 launch sam_perception perception.launch.py --show-args
"""

from __future__ import annotations

import os

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, EmitEvent, OpaqueFunction, RegisterEventHandler
from launch.conditions import IfCondition
from launch.events import matches_action
from launch.launch_description_entity import LaunchDescriptionEntity
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode, Node
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.substitutions import FindPackageShare
from lifecycle_msgs.msg import Transition

# Parameters that are arguments too, with the type that turns an argument into the parameter's value.
# An argument that is not given leaves the parameter to params_file, and that to its default.
OVERRIDES = {"model": str, "device": str, "max_objects": int}

# What RViz shows, as config/perception.rviz names it.
RVIZ_TOPICS = ("overlay", "object_points", "scene_points", "obstacle_points", "grasp_poses", "markers")


def arguments() -> list[DeclareLaunchArgument]:
    """Everything that can be given on the command line, with its meaning."""
    share = FindPackageShare("sam_perception")
    camera = "/camera/camera"
    return [
        DeclareLaunchArgument("name", default_value="sam_perception", description="the node's name"),
        DeclareLaunchArgument("namespace", default_value="", description="the node's namespace"),
        DeclareLaunchArgument(
            "params_file",
            default_value=PathJoinSubstitution([share, "config", "perception.yaml"]),
            description="YAML file of parameters",
        ),
        DeclareLaunchArgument("model", default_value="", description="model; empty: the params_file's"),
        DeclareLaunchArgument("device", default_value="", description="auto, cpu, cuda; empty: the params_file's"),
        DeclareLaunchArgument("max_objects", default_value="", description="empty: the params_file's"),
        DeclareLaunchArgument("use_sim_time", default_value="false", description="take time from /clock"),
        DeclareLaunchArgument("color", default_value=f"{camera}/color/image_raw", description="colour image topic"),
        DeclareLaunchArgument(
            "depth",
            default_value=f"{camera}/aligned_depth_to_color/image_raw",
            description="depth image topic, aligned to colour",
        ),
        DeclareLaunchArgument(
            "camera_info", default_value=f"{camera}/color/camera_info", description="the colour camera's info topic"
        ),
        DeclareLaunchArgument("autostart", default_value="true", description="configure and activate the node"),
        DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn or error"),
        DeclareLaunchArgument("rviz", default_value="false", description="start RViz too"),
        DeclareLaunchArgument("rviz_frame", default_value="camera_link", description="RViz' fixed frame"),
    ]


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The actions, once the arguments are known."""
    node = perception_node(context)
    configure = ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=Transition.TRANSITION_CONFIGURE)
    activate = ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=Transition.TRANSITION_ACTIVATE)
    autostart = IfCondition(LaunchConfiguration("autostart"))
    return [
        # The handler first, so that no transition is missed. A node that cannot load its model goes
        # back to unconfigured and is left there: its log says why.
        RegisterEventHandler(
            OnStateTransition(
                target_lifecycle_node=node,
                start_state="configuring",
                goal_state="inactive",
                entities=[EmitEvent(event=activate)],
            ),
            condition=autostart,
        ),
        node,
        EmitEvent(event=configure, condition=autostart),
        rviz(context),
    ]


def perception_node(context: LaunchContext) -> LifecycleNode:
    """The node with its parameters, topics and DDS profile."""
    given = {name: LaunchConfiguration(name).perform(context) for name in OVERRIDES}
    overrides = {name: OVERRIDES[name](value) for name, value in given.items() if value}
    return LifecycleNode(
        package="sam_perception",
        executable="perception_node",
        name=LaunchConfiguration("name"),
        namespace=LaunchConfiguration("namespace"),
        parameters=[
            LaunchConfiguration("params_file"),
            # autostart is for those who run the node without this file, which changes its states itself.
            {"autostart": False, "use_sim_time": LaunchConfiguration("use_sim_time"), **overrides},
        ],
        remappings=[
            ("color/image_raw", LaunchConfiguration("color")),
            ("depth/image_raw", LaunchConfiguration("depth")),
            ("color/camera_info", LaunchConfiguration("camera_info")),
        ],
        additional_env=dds_profile(context),
        ros_arguments=["--log-level", LaunchConfiguration("log_level")],
        output="screen",
    )


def dds_profile(context: LaunchContext) -> dict[str, str]:
    """Room in shared memory for images (see the file), unless a profile was chosen already."""
    variables = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
    if any(os.environ.get(name) for name in variables):
        return {}
    path = PathJoinSubstitution([FindPackageShare("sam_perception"), "config", "fastdds_images.xml"]).perform(context)
    # Fast DDS 2 (Humble, Jazzy) reads the first, Fast DDS 3 (Kilted) the second.
    return dict.fromkeys(variables, path)


def rviz(context: LaunchContext) -> Node:
    """RViz on this node's outputs, wherever its namespace puts them."""
    name, namespace = (LaunchConfiguration(key).perform(context).strip("/") for key in ("name", "namespace"))
    private = "/".join(["", *filter(None, (namespace, name))])
    return Node(
        package="rviz2",
        executable="rviz2",
        arguments=[
            "--display-config",
            PathJoinSubstitution([FindPackageShare("sam_perception"), "config", "perception.rviz"]),
            "--fixed-frame",
            LaunchConfiguration("rviz_frame"),
        ],
        remappings=[(f"/sam_perception/{topic}", f"{private}/{topic}") for topic in RVIZ_TOPICS],
        parameters=[{"use_sim_time": LaunchConfiguration("use_sim_time")}],
        condition=IfCondition(LaunchConfiguration("rviz")),
    )


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` asks for."""
    return LaunchDescription([*arguments(), OpaqueFunction(function=start)])
