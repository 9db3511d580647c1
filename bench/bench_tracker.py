"""Frames per second against the number of objects: our tracker and transformers' session, in one run.

    python bench/bench_tracker.py                       the packaged model
    python bench/bench_tracker.py --model DIR           any checkpoint
    python bench/bench_tracker.py --random tiny@512     published architecture, random weights

Both sides resize the same 640 x 480 pictures, track the same boxes and bring masks of 640 x 480 to the
host. Their frames alternate, so that what else runs on the machine hits both; medians are compared.
Only the ratios mean something on another machine.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Sam2VideoInferenceSession

from sam_perception.prompts import BoxPrompt
from sam_perception.segmentation import StreamingTracker, load_model
from sam_perception.segmentation.preprocess import ImageScaler, masks_and_numbers

HEIGHT, WIDTH = 480, 640
WARM_UP = 17  # after that every memory and every object pointer is there


def boxes(count: int) -> list[tuple[float, float, float, float]]:
    columns = 4
    return [(20 + 150 * (k % columns), 20 + 110 * (k // columns % 4), 140 + 150 * (k % columns),
             120 + 110 * (k // columns % 4)) for k in range(count)]  # fmt: skip


def pictures(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    ground = np.kron(rng.integers(0, 255, (HEIGHT // 16, WIDTH // 16, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    return [np.roll(ground, 3 * t, axis=1) for t in range(count)]


def ours(model: Any, count: int) -> Callable[[np.ndarray], None]:
    tracker = StreamingTracker(model, max_objects=count)
    for k, box in enumerate(boxes(count)):
        tracker.prompt(BoxPrompt(k + 1, box))
    return lambda picture: _ignore(tracker.step(picture))


def theirs(model: Any, count: int) -> Callable[[np.ndarray], None]:
    parameter = next(model.parameters())
    scaler = ImageScaler(model.image_size, parameter.device, parameter.dtype)
    session = Sam2VideoInferenceSession(
        dtype=parameter.dtype, inference_device=parameter.device, inference_state_device=parameter.device
    )
    for k, box in enumerate(boxes(count)):
        points = scaler.points(np.array(box, np.float32).reshape(2, 2), HEIGHT, WIDTH)
        labels = torch.tensor([2, 3], dtype=torch.int32)
        row = session.obj_id_to_idx(k + 1)
        session.add_point_inputs(row, 0, {"point_coords": points[None, None], "point_labels": labels[None, None]})
    session.obj_with_new_inputs = list(range(1, count + 1))

    @torch.inference_mode()
    def step(picture: np.ndarray) -> None:
        out = model(session, frame=scaler.pixels(picture))
        _ignore(masks_and_numbers(out.pred_masks[:, 0], out.object_score_logits, HEIGHT, WIDTH))

    return step


def _ignore(answer: object) -> None:
    del answer


def measure(model: Any, count: int, frames: int) -> tuple[float, float]:
    """Median milliseconds per frame: ours, theirs."""
    sides = (ours(model, count), theirs(model, count))
    clip = pictures(WARM_UP + frames)
    spent: tuple[list[float], list[float]] = ([], [])
    for picture in clip:
        for step, times in zip(sides, spent, strict=True):
            start = time.perf_counter()
            step(picture)
            if model.device.type == "cuda":
                torch.cuda.synchronize()
            times.append(1e3 * (time.perf_counter() - start))
    return tuple(statistics.median(times[WARM_UP:]) for times in spent)  # type: ignore[return-value]


def random_model(spec: str, device: str) -> Any:
    """`tiny@512` or `small@128`: configurations of the tests, random weights."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "test" / "segmentation"))
    import small_models

    name, _, size = spec.partition("@")
    config = {"tiny": small_models.tiny_config, "small": small_models.small_config}[name](int(size or 512))
    return small_models.random_model(config, presence_bias=3.0).to(device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano", help="name or checkpoint folder")
    parser.add_argument("--random", metavar="ARCH@SIZE", help="tiny@512, small@128: random weights instead of --model")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--frames", type=int, default=12, help="measured after %d of warm-up" % WARM_UP)  # noqa: UP031
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = random_model(args.random, args.device) if args.random else load_model(args.model, args.device)
    print(f"{args.random or args.model}, {model.image_size} pixels, {model.device}, {args.threads} threads, "
          f"{model.dtype}, torch {torch.__version__}")  # fmt: skip
    print("objects   ours ms    FPS   session ms    FPS   ratio")
    for count in args.objects:
        mine, other = measure(model, count, args.frames)
        print(f"{count:7d}  {mine:8.1f} {1e3 / mine:6.1f}   {other:10.1f} {1e3 / other:6.1f}   {other / mine:5.2f}")


if __name__ == "__main__":
    main()
