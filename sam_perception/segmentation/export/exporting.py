"""A model's parts as ONNX files, each checked against torch before anybody relies on it."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sam_perception.config import TrackerConfig
from sam_perception.errors import ConfigError, ModelError
from sam_perception.segmentation.export.manifest import CONSTANTS, FORMAT, PARTS, Choice, ExportManifest, PartFile
from sam_perception.segmentation.export.onnx_formats import input_names, to_format
from sam_perception.segmentation.export.onnx_runtime import Session
from sam_perception.segmentation.export.parts import (
    ImageEncoderPart,
    MaskDecoderPart,
    MemoryAttentionPart,
    MemoryEncoderPart,
    PromptEncoderPart,
)
from sam_perception.segmentation.export.shapes import PartShapes, example, fixed, numbers, part_shapes
from sam_perception.segmentation.export.tensorrt_recipe import RECIPE, recipe
from sam_perception.segmentation.models import sha256_of
from sam_perception.segmentation.support import require_supported

Tensor = torch.Tensor

OPSET = 17
TOLERANCE = 1e-3  # of float32 parts, largest absolute difference from torch
# Sizes with which a dynamic graph is tried: not those with which it was traced.
_TRIED = ({"B": 1, "N": 1, "M": 1, "P": 1, "C": 1}, {"B": 2, "N": 3, "M": 5, "P": 9, "C": 3})
_TRACED = {"B": 1, "N": 2, "M": 3, "P": 4, "C": 2}


@dataclass(frozen=True)
class ExportPlan:
    """What to export.

    Raises:
        ConfigError: an unknown part or format.
    """

    parts: tuple[str, ...] = PARTS
    batch: int = 0  # objects per call; 0: any number
    number_format: str = "fp32"  # or int8, fp16

    def __post_init__(self) -> None:
        unknown = [part for part in self.parts if part not in PARTS]
        if unknown or not self.parts:
            raise ConfigError(f"parts are {', '.join(self.parts) or 'none'}: choose among {', '.join(PARTS)}")
        if self.number_format not in ("fp32", "fp16", "int8"):
            raise ConfigError(f"number format is {self.number_format!r}: choose fp32, fp16 or int8")
        if self.batch < 0:
            raise ConfigError(f"batch is {self.batch}: give the number of objects, or 0 for any")


@dataclass(frozen=True)
class PartCheck:
    """How one exported part compares with torch in float32."""

    part: str
    megabytes: float
    max_abs_difference: float
    largest: float  # absolute value in torch's outputs


def export_model(
    model: Any, name: str, folder: Path, plan: ExportPlan, report: Callable[[PartCheck], None]
) -> ExportManifest:
    """Write a model's parts, `export.json`, constants and the TensorRT recipe into a new folder.

    Args:
        model: a `Sam2VideoModel` on the CPU in float32.
        name: what it is called in the manifest.
        folder: must not exist.
        plan: what to export.
        report: is told of each part once it is written and checked.

    Raises:
        ModelError: the model cannot be streamed, or a part in float32 does not compute what torch computes.
        ConfigError: the folder exists; onnx or onnxruntime is missing.
    """
    require_supported(model)
    if folder.exists():
        raise ConfigError(f"{folder} exists already: give a new folder")
    partial = folder.with_name(f"{folder.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    shapes, parts = part_shapes(model), {}
    for part in plan.parts:
        parts[part], check = _export_part(model, part, shapes[part], plan, partial)
        report(check)
    _write_constants(model, partial / CONSTANTS)
    manifest = _manifest(model, name, plan, parts)
    (partial / RECIPE).write_text(recipe(manifest), encoding="utf-8")
    manifest.write(partial)
    partial.rename(folder)
    return manifest


def _export_part(
    model: Any, name: str, shapes: PartShapes, plan: ExportPlan, folder: Path
) -> tuple[PartFile, PartCheck]:
    module = _module(model, name).eval()
    file = folder / f"{name}.onnx"
    known = _static_sizes(model, plan.batch)
    graph = _traced(module, model, shapes, known)
    file.write_bytes(to_format(graph, plan.number_format, name))
    reachable = {
        "inputs": {key: fixed(shapes.inputs[key], known) for key in input_names(graph)},
        "outputs": {key: fixed(shape, known) for key, shape in shapes.outputs.items()},
    }
    entry = PartFile(file.name, sha256_of(file), **reachable, max_abs_difference=float("nan"))
    worst, largest = _compared(module, model, Session(folder, entry, "cpu"), shapes, known)
    if plan.number_format == "fp32" and not worst <= TOLERANCE:
        raise ModelError(
            f"exported {name} differs from torch by {worst:.2g}, allowed are {TOLERANCE:g}: another version of "
            f"torch ({torch.__version__}) or onnxruntime may help"
        )
    checked = PartFile(entry.file, entry.sha256, **reachable, max_abs_difference=worst)
    return checked, PartCheck(name, file.stat().st_size / 1e6, worst, largest)


def _module(model: Any, name: str) -> Any:
    if name == "memory_attention":
        return MemoryAttentionPart(model, _places(model)["M"])
    kinds = {
        "image_encoder": ImageEncoderPart,
        "prompt_encoder": PromptEncoderPart,
        "mask_decoder": MaskDecoderPart,
        "memory_encoder": MemoryEncoderPart,
    }
    return kinds[name](model)


def _places(model: Any) -> dict[str, int]:
    """Most memories and object pointers of one object."""
    prompted = TrackerConfig().conditioning_frames
    return {
        "M": prompted + model.config.num_maskmem - 1,
        "P": prompted + model.config.max_object_pointers_in_encoder - 1,
    }


def _static_sizes(model: Any, batch: int) -> dict[str, int]:
    """Sizes that the graph fixes; none but the clicks' number is left free in a static one."""
    return {"B": 1, "N": batch, **_places(model)} if batch else {}


def _traced(module: Any, model: Any, shapes: PartShapes, known: Mapping[str, int]) -> bytes:
    """The part as ONNX.

    torch's TorchScript exporter: graphs are as small as the modules are, and it needs no package of its own.
    """
    sizes = {**_TRACED, **known}
    inputs = _examples(model, shapes, sizes, seed=0)
    free = {
        name: {axis: d for axis, d in enumerate(fixed(shape, known)) if isinstance(d, str)}
        for name, shape in {**shapes.inputs, **shapes.outputs}.items()
    }
    graph = io.BytesIO()
    with torch.no_grad(), _quiet():
        torch.onnx.export(
            module,
            tuple(inputs.values()),
            graph,  # type: ignore[arg-type]  # takes a stream, as its documentation says
            dynamo=False,
            opset_version=OPSET,
            input_names=list(shapes.inputs),
            output_names=list(shapes.outputs),
            dynamic_axes={name: axes for name, axes in free.items() if axes},
        )
    return graph.getvalue()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the tracer's warnings that Python numbers become constants, which here they should."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _examples(model: Any, shapes: PartShapes, sizes: Mapping[str, int], seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: example(name, numbers(shape, sizes), model, generator) for name, shape in shapes.inputs.items()}


def _compared(
    module: Any, model: Any, session: Session, shapes: PartShapes, known: Mapping[str, int]
) -> tuple[float, float]:
    """Largest absolute difference of the exported part from torch, and largest absolute value."""
    worst, largest = 0.0, 0.0
    for seed, tried in enumerate(_TRIED, start=1):
        sizes = {**tried, **known}
        inputs = _examples(model, shapes, sizes, seed)
        with torch.no_grad():
            expected = module(*inputs.values())
        expected = (expected,) if isinstance(expected, Tensor) else expected
        for ours, theirs in zip(session(inputs, sizes), expected, strict=True):
            worst = max(worst, float((ours - theirs).abs().max()))
            largest = max(largest, float(theirs.abs().max()))
    return worst, largest


def _write_constants(model: Any, file: Path) -> None:
    from safetensors.torch import save_file

    tensors = {
        "no_memory_embedding": model.no_memory_embedding.flatten(),
        "no_object_pointer": model.no_object_pointer.flatten(),
        "mask_downsample.weight": model.mask_downsample.weight,
        "mask_downsample.bias": model.mask_downsample.bias,
    }
    save_file({name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}, file)


def _manifest(model: Any, name: str, plan: ExportPlan, parts: Mapping[str, PartFile]) -> ExportManifest:
    config, decoder = model.config, model.mask_decoder
    return ExportManifest(
        format=FORMAT,
        model=name,
        size=int(model.image_size),
        feature_size=tuple(model.backbone_feature_sizes[-1]),
        hidden=int(model.hidden_dim),
        memory_channels=int(model.mem_dim),
        memory_frames=config.num_maskmem - 1,
        pointer_frames=config.max_object_pointers_in_encoder - 1,
        batch=plan.batch,
        memories=_places(model)["M"],
        pointers=_places(model)["P"],
        number_format=plan.number_format,
        choice=Choice(
            several=bool(config.multimask_output_in_sam),
            several_when_tracking=bool(config.multimask_output_for_tracking),
            least_clicks=int(config.multimask_min_pt_num),
            most_clicks=int(config.multimask_max_pt_num),
            by_stability=bool(decoder.dynamic_multimask_via_stability),
            stability_delta=float(decoder.dynamic_multimask_stability_delta),
            stability_threshold=float(decoder.dynamic_multimask_stability_thresh),
        ),
        parts=parts,
        versions=_versions(),
    )


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("torch", "transformers", "onnx", "onnxruntime")}


def parts_named(text: str) -> Sequence[str]:
    """`all`, or names of parts with commas between."""
    return PARTS if text == "all" else tuple(part.strip() for part in text.split(",") if part.strip())
