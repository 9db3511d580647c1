#!/usr/bin/env python3
"""Merge what two cameras' recordings say, without ROS.

    sam-perception process left.bag right.bag results --prompts prompts/ --workers 2
    python3 merge_bags.py results/left.bag/bag results/right.bag/bag --extrinsics extrinsics.yaml --size 640x480

The bags' frames need stamps of one clock. Prints one line per frame and object.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from sam_perception.geometry.merging import Merged, ObjectMerger
from sam_perception.scene import Scene
from sam_perception.sources.extrinsics import Extrinsics, read_extrinsics
from sam_perception.sources.results import read_scenes


def merged_scenes(scenes: dict[str, list[Scene]], extrinsics: Extrinsics) -> Iterator[Merged]:
    """One merged scene for each of any camera's, in the order of their stamps."""
    merger, newest = ObjectMerger(), dict[str, Scene]()
    stamped = [(scene.stamp_ns, camera, scene) for camera in scenes for scene in scenes[camera]]
    for _, camera, scene in sorted(stamped, key=lambda entry: entry[:2]):
        newest[camera] = scene
        yield merger.merge(newest, {name: extrinsics.common_from_camera[name] for name in newest}, extrinsics.frame)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the merged objects."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bags", type=Path, nargs=2, help="of the first and the second camera of the extrinsics file")
    parser.add_argument("--extrinsics", type=Path, required=True)
    parser.add_argument("--size", default="640x480", help="of the images (default %(default)s)")
    arguments = parser.parse_args(argv)
    width, height = (int(number) for number in arguments.size.split("x"))
    extrinsics = read_extrinsics(arguments.extrinsics)
    cameras = list(extrinsics.common_from_camera)[:2]
    scenes = {c: list(read_scenes(bag, width, height)) for c, bag in zip(cameras, arguments.bags, strict=True)}
    for merged in merged_scenes(scenes, extrinsics):
        for one in merged.scene.objects:
            place = "nowhere" if one.centroid is None else " ".join(f"{x:7.3f}" for x in one.centroid)
            seen_by = ", ".join(f"{camera} {number}" for camera, number in merged.members[one.id])
            sys.stdout.write(f"{merged.scene.stamp_ns} {one.id} {one.label} {one.state.name} {place} ({seen_by})\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
