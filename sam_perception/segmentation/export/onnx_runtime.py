"""The one place that knows onnxruntime: sessions, execution providers, tensors in and out without copies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sam_perception.errors import CheckpointError, ConfigError
from sam_perception.segmentation.export.manifest import PartFile
from sam_perception.segmentation.export.shapes import numbers
from sam_perception.segmentation.hardware import without_denormals

Tensor = torch.Tensor

_PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
_NUMPY = {torch.float32: np.float32, torch.int64: np.int64, torch.int32: np.int32, torch.bool: np.bool_}
INSTALL_HINT = "pip install 'sam_perception[onnx]', or onnxruntime-gpu instead of onnxruntime for an NVIDIA GPU"


def require_onnxruntime() -> Any:
    """The module.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigError(f"an exported model needs onnxruntime, which is not here ({error}): {INSTALL_HINT}") from None
    return onnxruntime


def available_providers() -> tuple[str, ...]:
    """Of cpu, cuda and tensorrt, those that the installed onnxruntime was built with; none where it is missing."""
    try:
        built = set(require_onnxruntime().get_available_providers())
    except ConfigError:
        return ()
    return tuple(name for name, provider in _PROVIDERS.items() if provider in built)


def resolve_provider(device: str) -> tuple[str, int]:
    """Which provider and which GPU a device setting means; auto takes CUDA where it is there, never TensorRT.

    Raises:
        ConfigError: not a device, or not one that the installed onnxruntime has.
    """
    require_onnxruntime()
    here = available_providers()
    if device == "auto":
        return ("cuda", 0) if "cuda" in here and torch.cuda.is_available() else ("cpu", 0)
    name, _, index = device.partition(":")
    if name not in _PROVIDERS or (index and not index.isdigit()) or (name == "cpu" and index):
        raise ConfigError(f"device is {device!r}: choose auto, cpu, cuda, cuda:N, tensorrt or tensorrt:N")
    if name not in here:
        raise ConfigError(
            f"device is {device!r}, the installed onnxruntime has {', '.join(here)}: choose one of these, or "
            f"{INSTALL_HINT}"
        )
    return name, int(index or 0)


class Session:
    """One part on one provider.

    Args:
        folder: where the part's file lies.
        part: its entry in the manifest.
        provider: cpu, cuda or tensorrt.
        index: of the GPU.

    Raises:
        CheckpointError: onnxruntime cannot read the file.
        ConfigError: the provider fell back to another one.
    """

    def __init__(self, folder: Path, part: PartFile, provider: str, index: int = 0) -> None:
        ort = require_onnxruntime()
        self._part = part
        options = ort.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        # Five sessions take turns: threads that spin while another one works would take its cores.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
        options.log_severity_level = 3
        file = folder / part.file
        wanted = _chain(provider, index, folder)
        try:
            with without_denormals():  # or the process's first session would leave this thread so
                self._session = ort.InferenceSession(str(file), options, providers=wanted)
        except Exception as error:  # onnxruntime's own errors share no base
            raise CheckpointError(f"{file} cannot be opened on {provider}: {_line(error)}; export it again") from error
        first = self._session.get_providers()[0]
        if first != _PROVIDERS[provider]:
            raise ConfigError(
                f"{file.name} runs on {first} though {provider} was asked for: its libraries (CUDA, cuDNN, TensorRT) "
                "do not load; see onnxruntime's table of versions, or choose device cpu"
            )
        self._place = ("cpu", 0) if provider == "cpu" or not torch.cuda.is_available() else ("cuda", index)

    def __call__(self, inputs: Mapping[str, Tensor], sizes: Mapping[str, int]) -> tuple[Tensor, ...]:
        """Run once.

        Args:
            inputs: by name, on this session's device.
            sizes: what the letters in the part's shapes stand for.

        Returns:
            The outputs in the manifest's order, in new tensors.
        """
        device = torch.device(*self._place) if self._place[0] == "cuda" else torch.device("cpu")
        binding = self._session.io_binding()
        # Kept alive until the run is over. What a variant of the model does not use, its graph does not take.
        held = {name: tensor.contiguous() for name, tensor in inputs.items() if name in self._part.inputs}
        for name, tensor in held.items():
            binding.bind_input(name, *self._place, _NUMPY[tensor.dtype], tuple(tensor.shape), tensor.data_ptr())
        outputs = []
        for name, shape in self._part.outputs.items():
            out = torch.empty(numbers(shape, sizes), dtype=torch.float32, device=device)
            binding.bind_output(name, *self._place, np.float32, tuple(out.shape), out.data_ptr())
            outputs.append(out)
        if device.type == "cuda":
            torch.cuda.current_stream(device).synchronize()  # onnxruntime works on a stream of its own
        self._session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        return tuple(outputs)


def _chain(provider: str, index: int, folder: Path) -> list[Any]:
    """The provider and, behind it, those that take what it cannot do."""
    cuda = (_PROVIDERS["cuda"], {"device_id": str(index)})
    tensorrt = (
        _PROVIDERS["tensorrt"],
        {
            "device_id": str(index),
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(folder / "tensorrt_cache"),
        },
    )
    return {"cpu": [], "cuda": [cuda], "tensorrt": [tensorrt, cuda]}[provider] + [_PROVIDERS["cpu"]]


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
