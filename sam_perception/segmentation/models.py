"""Models by name: where their checkpoints lie, and that they are whole.

Checkpoints are folders with `config.json` and `model.safetensors`, as transformers writes them.
Nothing is ever unpickled, and nothing is downloaded unless asked for.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from sam_perception.errors import CheckpointError, ConfigError, ModelError, ModelNotFound
from sam_perception.files import parsed_json
from sam_perception.segmentation.current_device import on_device
from sam_perception.segmentation.export.manifest import is_exported
from sam_perception.segmentation.hardware import start_threads

PACKAGED = ("nano",)
PUBLISHED = {
    "sam2.1-hiera-tiny": "facebook/sam2.1-hiera-tiny",
    "sam2.1-hiera-small": "facebook/sam2.1-hiera-small",
    "sam2.1-hiera-base-plus": "facebook/sam2.1-hiera-base-plus",
    "sam2.1-hiera-large": "facebook/sam2.1-hiera-large",
}
MODEL_NAMES = (*PACKAGED, *PUBLISHED)
_UNSUPPORTED = {
    "edgetam": "its image encoder needs timm, and its memory is compressed by a perceiver that the memory bank "
    "does not hold"
}

# Folder of checkpoint folders, named as the models are.
MODELS_DIR_VARIABLE = "SAM_PERCEPTION_MODELS"
CONFIG, WEIGHTS, CHECKSUMS = "config.json", "model.safetensors", "SHA256SUMS"

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_model(
    name_or_dir: str | Path, device: str = "auto", dtype: str = "auto", *, allow_download: bool = False
) -> Any:
    """A transformers `Sam2VideoModel`, or an exported model, ready for tracking.

    Args:
        name_or_dir: one of `MODEL_NAMES`, or a folder with `config.json` and `model.safetensors`, or one
            that `sam-perception export` has written; its device may also be tensorrt or tensorrt:N.
        device: auto, cpu, cuda or cuda:N; auto takes a GPU where there is one.
        dtype: auto, float32, bfloat16 or float16; auto takes bfloat16 on GPUs that have it, float16 on
            others and float32 on the CPU.
        allow_download: fetch a published model that is not on this machine from the Hugging Face Hub.

    Raises:
        ModelNotFound: unknown name, or not on this machine; says how to get it.
        CheckpointError: truncated, changed, or not fitting its config.
        ModelError: a model that this package cannot track with.
        ConfigError: unknown device or number format.
    """
    if is_exported(Path(name_or_dir).expanduser()):
        from sam_perception.segmentation.export.onnx_model import open_exported

        return open_exported(Path(name_or_dir).expanduser(), device, dtype)
    target = resolve_device(device)
    number_format = resolve_dtype(dtype, target)
    folder = find_checkpoint(name_or_dir, allow_download=allow_download)
    verify_checksums(folder)
    config = _read_config(folder)
    model = _read_weights(folder, config).eval().requires_grad_(False).to(target)
    return in_format(model, number_format)


def resolve_device(device: str) -> torch.device:
    """The torch device that a setting means.

    Raises:
        ConfigError: not a device name, or one that this machine does not have.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"device is {device!r}: choose auto, cpu, cuda or cuda:N") from error
    if chosen.type not in ("cpu", "cuda"):
        raise ConfigError(f"device is {device!r}: choose auto, cpu, cuda or cuda:N")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device is {device!r}, torch {torch.__version__} sees {torch.cuda.device_count()} GPUs: "
            "choose auto or cpu, or install a CUDA build of torch"
        )
    return chosen


def resolve_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """The torch number format that a setting means on a device.

    Raises:
        ConfigError: none of auto, float32, bfloat16, float16.
    """
    if dtype == "auto":
        if device.type == "cpu":
            return torch.float32
        # torch asks the current GPU, and counts those that only emulate it, at a fraction of float16's speed.
        with on_device(device):
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float16
    if dtype not in _DTYPES:
        raise ConfigError(f"dtype is {dtype!r}: choose auto, {', '.join(_DTYPES)}")
    return _DTYPES[dtype]


def find_checkpoint(name_or_dir: str | Path, *, allow_download: bool = False) -> Path:
    """The folder that holds a model's `config.json` and `model.safetensors`.

    Looked for: the path itself, the package's own models, the folder that SAM_PERCEPTION_MODELS names,
    then Hugging Face's cache.

    Raises:
        ModelNotFound: nowhere.
        ModelError: a model that this package knows and cannot track with.
        CheckpointError: a folder without one of the two files.
    """
    name = str(name_or_dir)
    if name in _UNSUPPORTED:
        raise ModelError(f"model {name} is not supported: {_UNSUPPORTED[name]}; choose one of {', '.join(MODEL_NAMES)}")
    if name not in MODEL_NAMES:
        folder = Path(name).expanduser()
        if not folder.is_dir():
            raise ModelNotFound(
                f"no model {name!r}: it is neither a folder nor one of {', '.join(MODEL_NAMES)}; pass one of them"
            )
        return _complete(folder)
    places = [Path(__file__).resolve().parent.parent / "models" / name] if name in PACKAGED else []
    if os.environ.get(MODELS_DIR_VARIABLE):
        places.append(Path(os.environ[MODELS_DIR_VARIABLE]).expanduser() / name)
    for place in places:
        if place.is_dir():
            return _complete(place)
    if name in PUBLISHED:
        return _complete(hub_folder(name, PUBLISHED[name], allow_download=allow_download))
    raise ModelNotFound(f"model {name} is not at {places[0]}: reinstall sam_perception, it comes with the package")


def _complete(folder: Path) -> Path:
    missing = [f for f in (CONFIG, WEIGHTS) if not (folder / f).is_file()]
    if missing:
        raise CheckpointError(
            f"checkpoint folder {folder} has no {' and no '.join(missing)}: it needs {CONFIG} and {WEIGHTS} as "
            "transformers' save_pretrained writes them; pickled checkpoints (.pt, .bin) are never read"
        )
    return folder


def hub_folder(name: str, repository: str, *, allow_download: bool) -> Path:
    """Where Hugging Face's cache keeps a model.

    Args:
        name: what people call it here.
        repository: its place on the Hub, owner/name.
        allow_download: fetch it if it is not there.

    Raises:
        ModelNotFound: not there; says how to get it.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = snapshot_download(repository, allow_patterns=[CONFIG, WEIGHTS], local_files_only=not allow_download)
    except (LocalEntryNotFoundError, OSError) as error:
        raise ModelNotFound(
            f"model {name} is not on this machine: run `huggingface-cli download {repository} {CONFIG} {WEIGHTS}` "
            f"where there is a network, or copy the two files to a folder {name} in the folder that the environment "
            f"variable {MODELS_DIR_VARIABLE} names"
        ) from error
    return Path(folder)


def verify_checksums(folder: Path) -> None:
    """Check the files that the folder's SHA256SUMS lists, where there is one.

    Raises:
        CheckpointError: a file differs or is missing.
    """
    sums = folder / CHECKSUMS
    if not sums.is_file():
        return
    try:
        lines = sums.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{sums} cannot be read ({error}): get the checkpoint again") from error
    for line in lines:
        expected, _, name = line.strip().partition(" ")
        name = name.strip().lstrip("*")
        if not name:
            continue
        file = folder / name
        try:
            seen = sha256_of(file) if file.is_file() else "no file"
        except OSError:  # not even a name that a file can have
            seen = "no file"
        if seen != expected:
            raise CheckpointError(
                f"{str(file)[:300]} does not match its checksum (sha256 {seen[:16]}, expected {expected[:16]}): "
                "it is damaged or was changed; get it again"
            )


def sha256_of(file: Path) -> str:
    """A file's SHA-256 in hexadecimal."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def _read_config(folder: Path) -> Any:
    from transformers import Sam2VideoConfig

    file = folder / CONFIG
    try:
        entries = parsed_json(file.read_bytes())
    except ValueError as error:
        raise CheckpointError(f"{file} is not JSON ({error}): get the checkpoint again") from error
    kind = entries.get("model_type") if isinstance(entries, dict) else None
    if kind != Sam2VideoConfig.model_type:
        raise ModelError(
            f"{file} describes a model of type {kind!r}, wanted {Sam2VideoConfig.model_type!r}: use a SAM 2.1 video "
            "checkpoint in transformers' format"
        )
    return _or_checkpoint_error(lambda: Sam2VideoConfig.from_dict(entries), file)


def in_format(model: Any, dtype: torch.dtype) -> Any:
    """The model in another number format; what encodes coordinates stays in float32.

    bfloat16 tells only 256 positions apart along a picture's side.
    """
    exact = {name: getattr(model, name) for name in ("prompt_encoder", "shared_image_embedding")}
    for name in exact:
        setattr(model, name, None)
    model.to(dtype)
    for name, module in exact.items():
        setattr(model, name, module)
    return model


def _read_weights(folder: Path, config: Any) -> Any:
    from transformers import Sam2VideoModel

    return read_weights(folder, Sam2VideoModel, config)


def read_weights(folder: Path, kind: Any, config: Any = None) -> Any:
    """A model of the transformers class `kind` with a folder's weights, float32 on the CPU.

    Args:
        folder: with `config.json` and `model.safetensors`.
        kind: class of the model.
        config: of it; the folder's own when left out.

    Raises:
        CheckpointError: the files cannot be read or do not fit together.
    """
    from transformers.utils import logging

    start_threads()
    file = folder / WEIGHTS
    _or_checkpoint_error(lambda: _tensor_names(file), file)
    shows_progress = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model, seen = _or_checkpoint_error(
            lambda: kind.from_pretrained(
                folder,
                **({} if config is None else {"config": config}),
                dtype=torch.float32,
                attn_implementation="sdpa",
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
            ),
            file,
        )
    finally:
        if shows_progress:
            logging.enable_progress_bar()
    missing, wrong = sorted(seen["missing_keys"]), sorted(str(k) for k in seen["mismatched_keys"])
    if missing or wrong:
        raise CheckpointError(
            f"{file} does not fit its config: {len(missing)} weights are missing ({', '.join(missing[:3])}), "
            f"{len(wrong)} have another shape ({', '.join(wrong[:3])}); use the files of one and the same model"
        )
    return model


def _tensor_names(file: Path) -> list[str]:
    from safetensors import safe_open

    with safe_open(file, framework="pt") as tensors:
        return list(tensors.keys())


def _or_checkpoint_error(read: Callable[[], Any], file: Path) -> Any:
    """What `read` returns; libraries' errors about a broken file become ours."""
    try:
        return read()
    except Exception as error:
        raise CheckpointError(
            f"{file} ({file.stat().st_size} bytes) cannot be read: {type(error).__name__}: {error}; "
            "it may be truncated; get it again"
        ) from error
