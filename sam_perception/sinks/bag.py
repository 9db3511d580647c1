"""Results (and, where wanted, the frames themselves) as a rosbag2, without ROS."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from sam_perception import messages, messages_scene
from sam_perception.config import GraspConfig
from sam_perception.errors import SinkError
from sam_perception.frame import RgbdFrame
from sam_perception.markers import markers
from sam_perception.messages import Message
from sam_perception.scene import Scene
from sam_perception.sinks.bag_types import BagTypes
from sam_perception.sinks.raw_bag import RawBag

NODE = "/sam_perception"

INPUTS = {
    "/camera/camera/color/image_raw": "sensor_msgs/Image",
    "/camera/camera/aligned_depth_to_color/image_raw": "sensor_msgs/Image",
    "/camera/camera/color/camera_info": "sensor_msgs/CameraInfo",
}
OUTPUTS = {
    f"{NODE}/objects": "sam_perception/TrackedObjectArray",
    f"{NODE}/mask": "sensor_msgs/Image",
    f"{NODE}/overlay": "sensor_msgs/Image",
    f"{NODE}/object_points": "sensor_msgs/PointCloud2",
    f"{NODE}/scene_points": "sensor_msgs/PointCloud2",
    f"{NODE}/grasp_targets": "sam_perception/GraspTargetArray",
    f"{NODE}/grasp_poses": "geometry_msgs/PoseArray",
    f"{NODE}/obstacles": "sam_perception/ObstacleSegmentArray",
    f"{NODE}/obstacle_points": "sensor_msgs/PointCloud2",
    f"{NODE}/markers": "visualization_msgs/MarkerArray",
}


class BagSink:
    """Writes a new rosbag2: what the node publishes, on its topics, logged at each frame's own stamp.

    The same scenes give the same bytes: no clock and no machine's name goes into the files.

    Args:
        path: folder to create; must not exist.
        storage: "mcap" (compressed by zstd, as `ros2 bag` reads it) or "sqlite3".
        inputs: also write each frame's colour, depth and camera_info, on RealSense's topics.
        outputs: write the node's outputs.
        grasps: says whose gripper the markers show.

    Raises:
        SinkError: the folder exists or cannot be written; a disk that fills up while writing.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        storage: str = "mcap",
        inputs: bool = False,
        outputs: bool = True,
        grasps: GraspConfig | None = None,
    ) -> None:
        self._types = BagTypes()
        self._topics = {**(INPUTS if inputs else {}), **(OUTPUTS if outputs else {})}
        self._inputs, self._outputs, self._grasps = inputs, outputs, grasps
        self._bag = RawBag(path, self._topics, storage=storage, compressed=storage == "mcap")

    def write(self, frame: RgbdFrame, scene: Scene | None = None) -> None:
        """Write one frame's messages; `scene` is needed unless only inputs are written."""
        types = self._types
        built: dict[str, Message] = {}
        if self._inputs:
            frames = (messages.color_image, messages.depth_image, messages.camera_info)
            built.update(zip(INPUTS, (build(types, frame) for build in frames), strict=True))
        if self._outputs:
            if scene is None:
                raise SinkError(f"no scene for the frame at {frame.stamp_ns} ns: pass one, or use outputs=False")
            results = (
                messages.tracked_object_array(types, scene),
                messages.id_mask_image(types, scene),
                messages.overlay_image(types, frame.rgb, scene),
                messages.object_cloud(types, scene),
                messages_scene.scene_cloud(types, scene),
                messages_scene.grasp_target_array(types, scene),
                messages_scene.grasp_poses(types, scene),
                messages_scene.obstacle_array(types, scene),
                messages_scene.obstacle_cloud(types, scene),
                markers(types, scene, self._grasps),
            )
            built.update(zip(OUTPUTS, results, strict=True))
        for topic, message in built.items():
            self._bag.write(topic, frame.stamp_ns, types.serialize(message, self._topics[topic]))

    def close(self) -> None:
        """Write the index and metadata.yaml; twice is fine."""
        self._bag.close()

    def __enter__(self) -> BagSink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bag.__exit__(kind, error, traceback)
