"""Where frames come from without ROS: recorded folders, bags, rendered scenes."""

from __future__ import annotations

from pathlib import Path

from sam_perception.errors import SourceError
from sam_perception.sources.source import FrameSource, Rejection

__all__ = ["FrameSource", "Rejection", "open_source"]


def open_source(path: Path | str) -> FrameSource:
    """The source that reads `path`: a rosbag2 (its folder or its file), a folder of pictures, or `realsense:...`.

    Raises:
        SourceError: nothing there, or none of the three, or unreadable.
    """
    if str(path).startswith("realsense:"):
        from sam_perception.sources.realsense import RealSenseSource

        return RealSenseSource(path)
    path = Path(path)
    if not path.exists():
        raise SourceError(f"{path} does not exist: give a rosbag2 folder, or a folder with color/ and depth/")
    if path.is_file() or (path / "metadata.yaml").is_file():
        from sam_perception.sources.bag import BagSource

        return BagSource(path)
    if (path / "color").is_dir():
        from sam_perception.sources.folder import FolderSource

        return FolderSource(path)
    raise SourceError(
        f"{path} has neither a metadata.yaml (rosbag2) nor a color/ folder, it has "
        f"{sorted(entry.name for entry in path.iterdir())[:8]}: a bag without metadata.yaml was cut off: "
        f"`sam-perception recover {path}` makes it readable"
    )
