"""An exported folder, opened."""

from __future__ import annotations

from pathlib import Path

from sam_perception.errors import CheckpointError, ConfigError
from sam_perception.segmentation.export.manifest import read_manifest
from sam_perception.segmentation.export.onnx_network import OnnxNetwork
from sam_perception.segmentation.export.onnx_runtime import resolve_provider
from sam_perception.segmentation.models import sha256_of

_DTYPES = {"float32": ("fp32", "int8"), "float16": ("fp16",)}


def open_exported(folder: Path, device: str = "auto", dtype: str = "auto") -> OnnxNetwork:
    """A model that `sam-perception export` has written, for `StreamingTracker`.

    Args:
        folder: with `export.json`.
        device: auto, cpu, cuda, cuda:N, tensorrt or tensorrt:N.
        dtype: auto, or what the model was exported in; the export decides.

    Raises:
        CheckpointError: the folder is incomplete, damaged, or of another version.
        ConfigError: the device or the number format is not there, or onnxruntime is not.
    """
    provider, index = resolve_provider(device)
    manifest = read_manifest(folder)
    if dtype != "auto" and manifest.number_format not in _DTYPES.get(dtype, ()):
        raise ConfigError(
            f"dtype is {dtype}, {folder} was exported as {manifest.number_format}: set dtype to auto, or export again "
            "with --quantize"
        )
    verify_exported(folder)
    return OnnxNetwork(folder, manifest, provider, index)


def verify_exported(folder: Path) -> None:
    """Check an exported folder's parts against its manifest.

    Raises:
        CheckpointError: the manifest is not readable; a part differs or is missing.
    """
    for part in read_manifest(folder).parts.values():
        file = folder / part.file
        seen = sha256_of(file) if file.is_file() else "no file"
        if seen != part.sha256:
            raise CheckpointError(
                f"{file} does not match its manifest (sha256 {seen[:16]}, expected {part.sha256[:16]}): it is damaged "
                "or was changed; export the model again"
            )
