"""Starts one perception node per camera, each in the camera's own namespace.

ros2 launch sam_perception multi_camera.launch.py cameras:="left right"
ros2 launch sam_perception multi_camera.launch.py camera:=sdk cameras:="left:123622270300 right:123622270412"
ros2 launch sam_perception multi_camera.launch.py --show-args

The camera `left` has the topics /left/left/color/image_raw and so on, as realsense2_camera's rs_multi_camera_launch.py
names them; its objects are on /left/sam_perception/objects. Namespace and name are both the camera's: frames are named
after the name alone (left_link, left_color_optical_frame), and are on one /tf_static.

All arguments of perception.launch.py but those that name one camera are for all of them. A relative name such as
detections:=yolo/detections is each camera's own, /left/yolo/detections. With parameters:="{web.port: 8080}" the first
camera's console is on 8080, the next ones' on 8081 and so on.
"""

from __future__ import annotations

import re

import yaml
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_entity import LaunchDescriptionEntity
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare


def cameras_of(text: str) -> dict[str, str]:
    """Serial numbers by name, of `left:123 right`; no serial number: whatever camera is found.

    Raises:
        ValueError: no camera, a name twice, or one that no node can have.
    """
    pairs = [entry.partition(":")[::2] for entry in text.split()]
    cameras = dict(pairs)
    if (
        not cameras
        or len(cameras) != len(pairs)
        or not all(re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name) for name in cameras)
    ):
        raise ValueError(
            f"cameras is {text!r}: give each camera one name, as in 'left right' or 'left:SERIAL right:SERIAL'"
        )
    return cameras


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """One include per camera, once the arguments are known.

    Raises:
        ValueError: as `cameras_of`, or several cameras to start of which one has no serial number.
    """
    cameras = cameras_of(LaunchConfiguration("cameras").perform(context))
    if LaunchConfiguration("camera").perform(context) != "none" and len(cameras) > 1 and "" in cameras.values():
        raise ValueError(
            f"cameras are {cameras}: several that are started here need serial numbers, as in 'left:SERIAL'"
        )
    parameters = LaunchConfiguration("parameters").perform(context)
    return [one(name, serial, with_port(parameters, n)) for n, (name, serial) in enumerate(cameras.items())]


def with_port(parameters: str, number: int) -> str:
    """The parameters of the camera of this number: a port that is named in them is the first camera's."""
    values = yaml.safe_load(parameters)
    port = values.get("web.port") if isinstance(values, dict) else None
    if type(port) is not int or port == 0:
        return parameters
    return yaml.safe_dump({**values, "web.port": port + number}, default_flow_style=True)


def one(name: str, serial: str, parameters: str) -> GroupAction:
    """One camera's node; grouped, so that its arguments stay its own."""
    file = PathJoinSubstitution([FindPackageShare("sam_perception"), "launch", "perception.launch.py"])
    given = {
        "namespace": name,
        "camera": LaunchConfiguration("camera"),
        "camera_namespace": name,
        "camera_name": name,
        "camera_serial": serial,
        "parameters": parameters,
        # Left to themselves, these would stay what they were for the camera before.
        "color": f"/{name}/{name}/color/image_raw",
        "depth": f"/{name}/{name}/aligned_depth_to_color/image_raw",
        "camera_info": f"/{name}/{name}/color/camera_info",
        "imu": f"/{name}/{name}/imu",
        "rviz_frame": f"{name}_link",
    }
    return GroupAction([IncludeLaunchDescription(PythonLaunchDescriptionSource(file), launch_arguments=given.items())])


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` asks for."""
    return LaunchDescription(
        [
            DeclareLaunchArgument("cameras", description="names, or name:serial, separated by spaces"),
            DeclareLaunchArgument(
                "camera",
                default_value="none",
                description="none: they run already; realsense2, sdk: start them, by serial number",
                choices=["none", "realsense2", "sdk"],
            ),
            DeclareLaunchArgument(
                "parameters",
                default_value="{}",
                description="any parameters, for all; web.port: the first camera's, counted up for the others "
                "(in a params_file it is not: all but one find it taken)",
            ),
            OpaqueFunction(function=start),
        ]
    )
