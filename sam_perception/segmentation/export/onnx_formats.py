"""Exported graphs in fewer bits."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

from sam_perception.errors import ConfigError
from sam_perception.segmentation.export.onnx_runtime import require_onnxruntime

# Coordinates and their sines lose pixels in fewer bits, and this part takes no time: it stays in float32.
EXACT = ("prompt_encoder",)
_HINT = "pip install 'sam_perception[onnx]'"


def to_format(graph: bytes, number_format: str, part: str) -> bytes:
    """A float32 graph in another number format; inputs and outputs stay float32.

    * `fp16`: weights and arithmetic in half precision, for GPUs; a CPU converts back and forth.
    * `int8`: weights of matrix products in 8 bits per channel, their inputs quantised as they come
      (onnxruntime's dynamic quantisation), for CPUs. Convolutions stay: in 8 bits they are slower there.

    Raises:
        ConfigError: onnx is not installed.
    """
    _require_onnx()
    graph = _folded(graph)
    if number_format == "fp32" or part in EXACT:
        return graph
    return _half(graph) if number_format == "fp16" else _eight_bits(graph)


def _require_onnx() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise ConfigError(f"exporting needs onnx, which is not here ({error}): {_HINT}") from None
    return onnx


def input_names(graph: bytes) -> tuple[str, ...]:
    """The inputs that a graph has: what a model does not use is not among them."""
    return tuple(entry.name for entry in _require_onnx().load_model_from_string(graph).graph.input)


def _folded(graph: bytes) -> bytes:
    """The graph with constants computed once: weights transposed and the like, which quantisation has to see."""
    ort = require_onnxruntime()
    options = ort.SessionOptions()
    options.graph_optimization_level = (
        ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    )  # beyond it come operators of its own
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "folded.onnx"
        options.optimized_model_filepath = str(file)
        ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        return file.read_bytes()


def _half(graph: bytes) -> bytes:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx = _require_onnx()
    model = convert_float_to_float16(onnx.load_model_from_string(graph), keep_io_types=True, disable_shape_infer=False)
    out: bytes = model.SerializeToString()
    return out


def _eight_bits(graph: bytes) -> bytes:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        whole, small = Path(folder) / "in.onnx", Path(folder) / "out.onnx"
        whole.write_bytes(graph)
        logging.disable(logging.WARNING)  # advice to do what `_folded` has done
        try:
            quantize_dynamic(
                whole, small, op_types_to_quantize=["MatMul", "Gemm"], per_channel=True, weight_type=QuantType.QInt8
            )
        finally:
            logging.disable(logging.NOTSET)
        return small.read_bytes()
