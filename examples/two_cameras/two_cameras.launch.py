"""Two RealSense cameras, a perception node for each, and one list of objects in the table's frame.

ros2 launch ./two_cameras.launch.py serials:="left:123622270300 right:123622270412"
ros2 topic echo /sam_perception_merge/objects
"""

from __future__ import annotations

from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

EXTRINSICS = Path(__file__).resolve().parent / "extrinsics.yaml"


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` asks for."""
    cameras = PathJoinSubstitution([FindPackageShare("sam_perception"), "launch", "multi_camera.launch.py"])
    given = {"cameras": LaunchConfiguration("serials"), "camera": LaunchConfiguration("camera")}
    merge = [
        "python3",
        "-m",
        "sam_perception.ros.merge",
        "--ros-args",
        "-p",
        ["extrinsics:=", LaunchConfiguration("extrinsics")],
    ]
    return LaunchDescription(
        [
            DeclareLaunchArgument("serials", description="left:SERIAL right:SERIAL"),
            DeclareLaunchArgument("camera", default_value="sdk", description="none, realsense2 or sdk"),
            DeclareLaunchArgument("extrinsics", default_value=str(EXTRINSICS), description="where the cameras are"),
            IncludeLaunchDescription(PythonLaunchDescriptionSource(cameras), launch_arguments=given.items()),
            ExecuteProcess(cmd=merge, output="screen"),
        ]
    )
