"""Writes files over and over until somebody kills it; says when it has begun."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sam_perception.files import replaced
from sam_perception.frame import CameraIntrinsics, RgbdFrame
from sam_perception.scene import ObjectState, Scene, Track

WIDTH, HEIGHT = 64, 48


def frame(index: int, width: int = WIDTH, height: int = HEIGHT) -> RgbdFrame:
    rng = np.random.default_rng(index)
    rgb = rng.integers(0, 255, (height, width, 3), np.uint8)
    camera = CameraIntrinsics(width, height, 60.0, 60.0, width / 2, height / 2)
    return RgbdFrame(rgb, np.full((height, width), 1.0, np.float32), camera, 10**9 + index * 33_000_000, "cam")


def scene(index: int) -> Scene:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[10:30, 10:30] = True
    track = Track(index % 50 + 1, "mug", ObjectState.TRACKED, 0.9, 0.9, mask, 1)
    return Scene(10**9 + index, "cam", WIDTH, HEIGHT, (track,))


def write_file(folder: Path) -> None:
    for index in itertools.count():
        with replaced(folder / "numbers.txt") as part, part.open("w") as stream:
            for number in range(2000):
                stream.write(f"{index} {number}\n")
        begun(index)


def write_resume(folder: Path) -> None:
    from sam_perception.ros.resume import ObjectStore

    for index in itertools.count():
        ObjectStore(folder / "objects.npz", 60.0).keep(frame(index), scene(index))
        begun(index)


def write_checkpoint(folder: Path) -> None:
    import torch

    from sam_perception.training.checkpoint import RunState, save_run

    for index in itertools.count():
        save_run(folder / "run", RunState("nano", 1, step=index), {"weights": torch.full((200, 200), float(index))})
        begun(index)


def write_bag(folder: Path) -> None:
    from sam_perception.sinks.bag import BagSink

    with BagSink(folder / "bag", inputs=True, outputs=False) as bag:
        for index in itertools.count():
            bag.write(frame(index, 320, 240))
            begun(index // 20)


WRITERS: dict[str, Callable[[Path], None]] = {
    "file": write_file,
    "resume": write_resume,
    "checkpoint": write_checkpoint,
    "bag": write_bag,
}


def begun(index: int) -> None:
    if index == 3:
        sys.stdout.write("writing\n")
        sys.stdout.flush()


if __name__ == "__main__":
    WRITERS[sys.argv[1]](Path(sys.argv[2]))
