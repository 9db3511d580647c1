"""The command lines that make TensorRT engines of an exported folder."""

from __future__ import annotations

from sam_perception.segmentation.export.manifest import ExportManifest, PartFile
from sam_perception.segmentation.export.shapes import fixed

RECIPE = "tensorrt.txt"

_HEAD = """\
# One TensorRT engine for each part, with trtexec of the machine on which it will run (on a Jetson
# /usr/src/tensorrt/bin/trtexec). Engines fit one GPU and one version of TensorRT only.
# Written together with the export; these commands have NOT been run. Names and shapes are those of the files.
# --fp16 trades accuracy for speed: compare masks before you rely on it. The prompt encoder keeps float32.
"""

# How many of each there are at least, usually and at most, where the graph leaves it free.
_LEAST = {"B": 1, "N": 1, "M": 1, "P": 1, "C": 1}
_USUAL = {"B": 1, "N": 4, "C": 1}
_MOST = {"B": 1, "N": 16, "C": 16}


def recipe(manifest: ExportManifest) -> str:
    """The file's text."""
    return _HEAD + "\n" + "\n".join(_command(name, part, manifest) for name, part in manifest.parts.items())


def _command(name: str, part: PartFile, manifest: ExportManifest) -> str:
    full = {"M": manifest.memories, "P": manifest.pointers}
    words = ["trtexec", f"--onnx={part.file}", f"--saveEngine={name}.engine"]
    if manifest.number_format == "fp32" and name != "prompt_encoder":
        words.append("--fp16")
    for option, sizes in (("min", _LEAST), ("opt", {**full, **_USUAL}), ("max", {**full, **_MOST})):
        shapes = [
            f"{key}:{'x'.join(str(d) for d in fixed(shape, sizes))}"
            for key, shape in part.inputs.items()
            if any(isinstance(d, str) for d in shape)
        ]
        if shapes:
            words.append(f"--{option}Shapes={','.join(shapes)}")
    return " \\\n    ".join(words) + "\n"
