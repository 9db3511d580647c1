"""Masks in bfloat16 and float16 against float32, frame by frame, on rendered clips that training has not seen.

Beside them float32 again, of pictures with up to one grey level of noise: what masks make of so little.

python bench/bench_precision.py                  nano on the CPU
python bench/bench_precision.py --device cuda --model sam2.1-hiera-tiny
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from sam_perception.segmentation import load_model
from sam_perception.training.precision import deviation
from sam_perception.training.synthetic import held_out_clips

# Of each row the number format, and the grey levels of noise in its pictures.
ROWS = {"bfloat16": ("bfloat16", 0), "float16": ("float16", 0), "float32 with noise": ("float32", 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano", help="name or checkpoint folder")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--out", type=Path, help="write the numbers here, as json")
    args = parser.parse_args()
    exact = load_model(args.model, args.device, "float32")
    clips = list(held_out_clips(args.clips, frames=args.frames))
    results = {}
    for name, (number_format, noise_levels) in ROWS.items():
        other = load_model(args.model, args.device, number_format)
        results[name] = deviation(exact, other, clips, noise_levels=noise_levels).summary
        sys.stdout.write(f"{name}: " + ", ".join(f"{k} {v:.4g}" for k, v in results[name].items()) + "\n")
    if args.out:
        args.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
