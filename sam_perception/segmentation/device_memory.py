"""What it looks like when memory for tensors runs out, on a GPU or on the host."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from sam_perception.errors import DeviceMemoryError

# Where an allocation fails below torch's own allocator, the error is an ordinary RuntimeError with one of these.
_TEXTS = (
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "can't allocate memory",  # torch on the CPU
    "Failed to allocate memory",  # onnxruntime
)
_SHOWN = 160  # characters; what CUDA says goes on with advice for those who wrote the program


def is_device_memory_error(error: BaseException) -> bool:
    """Whether an exception says that memory ran out."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _TEXTS)


def first_words(error: BaseException) -> str:
    """The part of such an error's text that people need."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN].rstrip()}..."


@contextmanager
def device_memory_errors(what: str) -> Iterator[None]:
    """Turn exceptions that say so into `DeviceMemoryError`; `what` was being done, as in "segmenting everything".

    Raises:
        DeviceMemoryError: memory ran out inside the block.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, DeviceMemoryError) or not is_device_memory_error(error):
            raise
        seen = first_words(error)
    else:
        return
    # Raised outside of the handler, so that it does not carry the traceback that keeps the tensors alive.
    raise DeviceMemoryError(f"{what}: {seen}; end what else uses this device, or choose a smaller model")


def release_cached_memory() -> None:
    """Give back what torch keeps for later; what is in use stays."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
