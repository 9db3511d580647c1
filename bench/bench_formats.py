"""A model's exported formats on onnxruntime against torch: milliseconds per frame and masks, in one run.

Each picture goes through all of them before the next one does, so that a busy machine slows all alike.

    python bench/bench_formats.py                                 nano on the demo's rendered table
    python bench/bench_formats.py --model DIR --objects 4 --threads 1
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sam_perception.prompts import BoxPrompt
from sam_perception.segmentation import StreamingTracker, load_model
from sam_perception.segmentation.export.exporting import ExportPlan, export_model
from sam_perception.sources.synthetic import SyntheticSource

WARM_UP = 3


def exported(model: Any, name: str, folder: Path) -> dict[str, Any]:
    """Runnable models by format."""
    models: dict[str, Any] = {"torch fp32": model}
    for number_format in ("fp32", "int8", "fp16"):
        out = folder / number_format
        export_model(model, name, out, ExportPlan(number_format=number_format), lambda _: None)
        models[f"onnx {number_format}"] = load_model(out, "cpu")
        megabytes = sum(f.stat().st_size for f in out.glob("*.onnx")) / 1e6
        print(f"exported {number_format}: {megabytes:.1f} MB")
    return models


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano", help="name or checkpoint folder")
    parser.add_argument("--objects", type=int, default=2, choices=(1, 2, 3))
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    source = SyntheticSource(frames=args.frames)
    pairs = [(frame.rgb, truth) for frame, truth in source.with_truth()]
    with tempfile.TemporaryDirectory() as folder:
        models = exported(load_model(args.model, "cpu", "float32"), args.model, Path(folder))
        trackers = {name: StreamingTracker(model) for name, model in models.items()}
        report(trackers, pairs, args.objects)


def report(trackers: dict[str, Any], pairs: list[Any], objects: int) -> None:
    for tracker in trackers.values():
        for object_id in pairs[0][1].object_ids[:objects]:
            rows, columns = np.nonzero(pairs[0][1].mask(object_id))
            box = (float(columns.min()), float(rows.min()), float(columns.max()), float(rows.max()))
            tracker.prompt(BoxPrompt(object_id, box))
    spent: dict[str, list[float]] = {name: [] for name in trackers}
    against_torch: dict[str, list[float]] = {name: [] for name in trackers}
    against_truth: dict[str, list[float]] = {name: [] for name in trackers}
    for picture, truth in pairs:
        masks = {}
        for name, tracker in trackers.items():
            start = time.perf_counter()
            tracks = tracker.step(picture)
            spent[name].append(1e3 * (time.perf_counter() - start))
            masks[name] = dict(zip(tracks.ids.tolist(), tracks.masks, strict=True))
        for name, found in masks.items():
            for object_id, mask in found.items():
                against_torch[name].append(iou(mask, masks["torch fp32"][object_id]))
                against_truth[name].append(iou(mask, truth.mask(object_id)))
    base = statistics.median(spent["torch fp32"][WARM_UP:])
    print("format        ms/frame   speed   IoU with torch: mean   least   IoU with truth: mean")
    for name, times in spent.items():
        ms = statistics.median(times[WARM_UP:])
        mean, least = statistics.mean(against_torch[name]), min(against_torch[name])
        truth_mean = statistics.mean(against_truth[name])
        print(f"{name:12s}  {ms:8.1f}  {base / ms:6.2f}   {mean:20.4f}  {least:6.4f}   {truth_mean:20.4f}")


def iou(a: np.ndarray, b: np.ndarray) -> float:
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 1.0


if __name__ == "__main__":
    main()
