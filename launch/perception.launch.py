"""Starts the perception node on a camera's topics, and the camera and RViz if asked to.

ros2 launch sam_perception perception.launch.py camera:=realsense2 rviz:=true
ros2 launch sam_perception perception.launch.py preset:=tabletop_arm model:=sam2.1-hiera-tiny
ros2 launch sam_perception perception.launch.py parameters:="{grasps.gripper: robotiq_2f85, sync.slop_s: 0.03}"
ros2 launch sam_perception perception.launch.py --show-args
"""

from __future__ import annotations

import os
from typing import Any

import yaml
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.launch_description_entity import LaunchDescriptionEntity
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode, Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

# Parameters that are arguments too, with the type that turns an argument into the parameter's value.
# An argument that is not given leaves the parameter to the files, and those to its default.
OVERRIDES = {"model": str, "device": str, "max_objects": int}

PRESETS = ("tabletop_arm", "mobile_base", "jetson", "cpu")
CAMERAS = ("none", "realsense2", "sdk")
RESPAWN_DELAY_S = 2.0

# What RViz shows, as config/perception.rviz names it.
RVIZ_TOPICS = (
    *("overlay", "object_points", "scene_points", "obstacle_points", "grasp_poses", "markers"),
    "clicked_point",
)

# Fast DDS reads one variable up to its version 2, and another one since.
WITH_FAST_DDS_2 = ("humble", "iron", "jazzy")
FAST_DDS_2, FAST_DDS_3 = "FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"


def argument(
    name: str, default: Any, description: str, choices: tuple[str, ...] | None = None
) -> DeclareLaunchArgument:
    """One line of what can be given on the command line."""
    return DeclareLaunchArgument(name, default_value=default, description=description, choices=choices)


def arguments() -> list[DeclareLaunchArgument]:
    """Everything that can be given on the command line, with its meaning."""
    share = FindPackageShare("sam_perception")
    camera_name = LaunchConfiguration("camera_name")
    topics = ["/", LaunchConfiguration("camera_namespace"), "/", camera_name]
    return [
        argument("name", "sam_perception", "the node's name"),
        argument("namespace", "", "the node's namespace"),
        argument("params_file", PathJoinSubstitution([share, "config", "perception.yaml"]), "YAML file of parameters"),
        argument("preset", "", "config/<preset>.yaml on top of params_file", ("", *PRESETS)),
        argument("parameters", "{}", "any parameters, on top of the files: '{max_objects: 4, sync.slop_s: 0.03}'"),
        argument("model", "", "model; empty: the files'"),
        argument("device", "", "auto, cpu, cuda; empty: the files'"),
        argument("max_objects", "", "empty: the files'"),
        argument("use_sim_time", "false", "take time from /clock"),
        argument(
            "camera", "none", "none: it runs already; realsense2: realsense2_camera; sdk: realsense_node", CAMERAS
        ),
        argument("camera_name", "camera", "the camera's node; its frames begin with it: one name for each camera"),
        argument("camera_namespace", "camera", "the camera's namespace"),
        argument("camera_serial", "", "the RealSense with this serial number; empty: the first one found"),
        argument("camera_params_file", "", "YAML file of the camera node's parameters"),
        argument("color", [*topics, "/color/image_raw"], "colour image topic"),
        argument("depth", [*topics, "/aligned_depth_to_color/image_raw"], "depth image topic, aligned to colour"),
        argument("camera_info", [*topics, "/color/camera_info"], "the colour camera's info topic"),
        argument("imu", [*topics, "/imu"], "accelerometer topic, heard with gravity.source: imu"),
        argument("detections", "~/detections", "topic of another node's detections; ~/: under the node's own name"),
        argument("autostart", "true", "configure and activate the node; false: a lifecycle manager does"),
        argument("respawn", "false", "start the node again when it ends; it takes up its objects"),
        argument("log_level", "info", "debug, info, warn or error"),
        argument("enclave", "", "SROS2 enclave of the node, such as /sam_perception; empty: none given"),
        argument("camera_enclave", "", "SROS2 enclave of the camera that is started here; empty: none given"),
        argument("rviz", "false", "start RViz too"),
        argument("rviz_frame", [camera_name, "_link"], "RViz' fixed frame"),
    ]


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The actions, once the arguments are known; the environment first, for the camera too."""
    return [*dds_profiles(context), *camera_node(context), perception_node(context), rviz(context)]


def dds_profiles(context: LaunchContext) -> list[SetEnvironmentVariable]:
    """Room for images in the middleware (see the files), unless settings were chosen already."""
    folder = PathJoinSubstitution([FindPackageShare("sam_perception"), "config"]).perform(context)
    fast_dds = FAST_DDS_2 if os.environ.get("ROS_DISTRO", "jazzy") in WITH_FAST_DDS_2 else FAST_DDS_3
    profiles = {fast_dds: f"{folder}/fastdds_images.xml", "CYCLONEDDS_URI": f"file://{folder}/cyclonedds_images.xml"}
    return [SetEnvironmentVariable(name, value) for name, value in profiles.items() if not os.environ.get(name)]


def camera_node(context: LaunchContext) -> list[Node]:
    """The camera, if it is to be started here, with depth aligned to colour and in step with it."""
    kind = LaunchConfiguration("camera").perform(context)
    if kind == "none":
        return []
    # Texts, whatever else they look like: digits are no number, and `on` is no truth value.
    serial, name = (
        ParameterValue(LaunchConfiguration(argument_name), value_type=str)
        for argument_name in ("camera_serial", "camera_name")
    )
    params_file = LaunchConfiguration("camera_params_file").perform(context)
    if kind == "sdk":
        package, executable = "sam_perception", "realsense_node"
        parameters: dict[str, Any] = {"serial": serial, "camera_name": name}
    else:
        package, executable = "realsense2_camera", "realsense2_camera_node"
        parameters = {
            "serial_no": serial,
            "camera_name": name,
            "enable_color": True,
            "enable_depth": True,
            "enable_sync": True,
            "align_depth.enable": True,
        }
    return [
        Node(
            package=package,
            executable=executable,
            name=LaunchConfiguration("camera_name"),
            namespace=LaunchConfiguration("camera_namespace"),
            parameters=[parameters, *([params_file] if params_file else [])],
            ros_arguments=enclave(context, "camera_enclave"),
            output="screen",
        )
    ]


def perception_node(context: LaunchContext) -> LifecycleNode:
    """The node with its parameters and topics."""
    given = {name: LaunchConfiguration(name).perform(context) for name in OVERRIDES}
    overrides = {name: _parameter(OVERRIDES[name](value)) for name, value in given.items() if value}
    return LifecycleNode(
        package="sam_perception",
        executable="perception_node",
        name=LaunchConfiguration("name"),
        namespace=LaunchConfiguration("namespace"),
        parameters=[
            # Files first: after values for this one node, a file's for all nodes would be above them.
            LaunchConfiguration("params_file"),
            *preset(context),
            *for_rviz(context),
            any_parameters(context),
            # The node changes its own states, so that it does so after a respawn, too.
            {
                name: ParameterValue(LaunchConfiguration(name), value_type=bool)
                for name in ("autostart", "use_sim_time")
            },
            overrides,
        ],
        remappings=[
            ("color/image_raw", LaunchConfiguration("color")),
            ("depth/image_raw", LaunchConfiguration("depth")),
            ("color/camera_info", LaunchConfiguration("camera_info")),
            ("imu", LaunchConfiguration("imu")),
            ("~/detections", LaunchConfiguration("detections")),
        ],
        ros_arguments=["--log-level", LaunchConfiguration("log_level"), *enclave(context, "enclave")],
        respawn=LaunchConfiguration("respawn").perform(context).lower() == "true",
        respawn_delay=RESPAWN_DELAY_S,
        output="screen",
    )


def enclave(context: LaunchContext, argument_name: str) -> list[str]:
    """The arguments that put a process into its SROS2 enclave, if one was named."""
    path = LaunchConfiguration(argument_name).perform(context)
    return ["--enclave", path] if path else []


def preset(context: LaunchContext) -> list[PathJoinSubstitution]:
    """The preset's file, if one was asked for."""
    name = LaunchConfiguration("preset").perform(context)
    return [PathJoinSubstitution([FindPackageShare("sam_perception"), "config", f"{name}.yaml"])] if name else []


def for_rviz(context: LaunchContext) -> list[dict[str, Any]]:
    """Points that are clicked in RViz are in its fixed frame, so that transforms are needed."""
    return [{"transforms.always": True}] if LaunchConfiguration("rviz").perform(context).lower() == "true" else []


def any_parameters(context: LaunchContext) -> dict[str, Any]:
    """What `parameters` holds.

    Raises:
        ValueError: it is no mapping of names to values.
    """
    text = LaunchConfiguration("parameters").perform(context)
    values = yaml.safe_load(text) or {}
    if not isinstance(values, dict) or any(isinstance(value, (dict, list)) for value in values.values()):
        raise ValueError(f"parameters is {text!r}: give a mapping such as '{{grasps.friction: 0.4, max_objects: 4}}'")
    return {str(name): _parameter(value) for name, value in values.items()}


def _parameter(value: Any) -> Any:
    """As it is: launch reads a text again as YAML otherwise, which makes a number of a serial number."""
    return ParameterValue(value, value_type=str) if isinstance(value, str) else value


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
        parameters=[{"use_sim_time": ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool)}],
        condition=IfCondition(LaunchConfiguration("rviz")),
    )


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` asks for."""
    return LaunchDescription([*arguments(), OpaqueFunction(function=start)])
