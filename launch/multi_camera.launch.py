"""Starts one perception node per camera, each in the camera's own namespace.

ros2 launch sam_perception multi_camera.launch.py cameras:="left right"
ros2 launch sam_perception multi_camera.launch.py camera:=sdk cameras:="left:123622270300 right:123622270412"
ros2 launch sam_perception multi_camera.launch.py --show-args

The camera `left` has the topics /left/camera/color/image_raw and so on; its objects are on
/left/sam_perception/objects.
All arguments of perception.launch.py but those that name one camera are for all of them.
"""

from __future__ import annotations

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_entity import LaunchDescriptionEntity
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare


def cameras_of(text: str) -> dict[str, str]:
    """Serial numbers by name, of `left:123 right`; no serial number: whatever camera is found.

    Raises:
        ValueError: no camera, a name twice, or several cameras to start of which one has no serial number.
    """
    pairs = [entry.partition(":")[::2] for entry in text.split()]
    cameras = dict(pairs)
    if not cameras or len(cameras) != len(pairs) or "" in cameras:
        raise ValueError(
            f"cameras is {text!r}: give each camera one name, as in 'left right' or 'left:SERIAL right:SERIAL'"
        )
    return cameras


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """One include per camera, once the arguments are known."""
    cameras = cameras_of(LaunchConfiguration("cameras").perform(context))
    if LaunchConfiguration("camera").perform(context) != "none" and len(cameras) > 1 and "" in cameras.values():
        raise ValueError(
            f"cameras are {cameras}: several that are started here need serial numbers, as in 'left:SERIAL'"
        )
    return [one(name, serial) for name, serial in cameras.items()]


def one(name: str, serial: str) -> GroupAction:
    """One camera's node; grouped, so that its arguments stay its own."""
    file = PathJoinSubstitution([FindPackageShare("sam_perception"), "launch", "perception.launch.py"])
    given = {
        "namespace": name,
        "camera": LaunchConfiguration("camera"),
        "camera_namespace": name,
        "camera_name": "camera",
        "camera_serial": serial,
        # Left to themselves, these would stay what they were for the camera before.
        "color": f"/{name}/camera/color/image_raw",
        "depth": f"/{name}/camera/aligned_depth_to_color/image_raw",
        "camera_info": f"/{name}/camera/color/camera_info",
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
            OpaqueFunction(function=start),
        ]
    )
