"""`sam-perception export`: a model as ONNX files, for onnxruntime and TensorRT."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from sam_perception.errors import ConfigError
from sam_perception.sinks.text_table import text_table

EPILOG = """
examples:
  sam-perception export --model nano nano-onnx
  sam-perception export --model sam2.1-hiera-tiny tiny-onnx --batch static:4
  sam-perception export --model nano nano-int8 --quantize int8
  sam-perception process recording.bag out.bag --prompts prompts.yaml --model nano-onnx --device cpu

OUT has one .onnx for each part, export.json (shapes, versions, checksums), constants.safetensors, and
tensorrt.txt with one trtexec line for each part. Give OUT as --model, or as the node's parameter `model`.
"""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "export",
        help="write a model as ONNX, checked against torch, for onnxruntime and TensorRT",
        description="Write a model's parts as ONNX files and compare each with torch.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("output", type=Path, metavar="OUT", help="folder to create")
    parser.add_argument("--model", default="nano", help="name or checkpoint folder (default %(default)s)")
    parser.add_argument(
        "--parts",
        default="all",
        help="all (default), or some with commas between: image_encoder, memory_attention, prompt_encoder, "
        "mask_decoder, memory_encoder; tracking needs all",
    )
    parser.add_argument(
        "--batch",
        default="dynamic",
        metavar="dynamic|static:N",
        help="objects per call: any number (default), or always N, which TensorRT likes better",
    )
    parser.add_argument(
        "--quantize", choices=("int8", "fp16"), help="int8: for CPUs; fp16: for GPUs (default: 32-bit floats)"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the subcommand; returns the exit code."""
    batch = batch_of(arguments.batch)
    from sam_perception.segmentation import load_model
    from sam_perception.segmentation.export.exporting import TOLERANCE, ExportPlan, PartCheck, export_model, parts_named

    plan = ExportPlan(tuple(parts_named(arguments.parts)), batch, arguments.quantize or "fp32")
    model = load_model(arguments.model, device="cpu", dtype="float32")
    rows: list[tuple[str, ...]] = []

    def report(check: PartCheck) -> None:
        sys.stderr.write(f"{check.part}: written and checked\n")
        numbers = (f"{check.megabytes:.2f}", f"{check.max_abs_difference:.1e}", f"{check.largest:.3g}")
        rows.append((check.part, *numbers))

    export_model(model, str(arguments.model), arguments.output, plan, report)
    header = ("part", "MB", "largest difference from torch", "largest value")
    sys.stdout.write(f"{text_table(header, rows)}\n")
    if plan.number_format == "fp32":
        sys.stdout.write(f"every part is within {TOLERANCE:g} of torch\n")
    else:
        sys.stdout.write(f"{plan.number_format}: compare masks before relying on it (bench/bench_formats.py)\n")
    sys.stdout.write(f"{arguments.output}\n")
    return 0


def batch_of(text: str) -> int:
    """Objects per call; 0 is any number.

    Raises:
        ConfigError: neither `dynamic` nor `static:N`.
    """
    if text == "dynamic":
        return 0
    kind, _, number = text.partition(":")
    if kind != "static" or not number.isdigit() or int(number) < 1:
        raise ConfigError(f"--batch is {text!r}: write dynamic, or static:4 for four objects per call")
    return int(number)
