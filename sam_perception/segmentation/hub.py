"""Models beside the tracker's: transformers checkpoints from a directory or the Hugging Face Hub's cache.

Only safetensors are read, and nothing is downloaded unless asked for.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sam_perception.errors import CheckpointError, ModelError, ModelNotFound
from sam_perception.files import parsed_json
from sam_perception.segmentation.models import CONFIG, MODELS_DIR_VARIABLE, resolve_device

_PATTERNS = ["*.json", "*.txt", "*.safetensors"]  # of a checkpoint's files: settings, tokenizer, weights


@dataclass(frozen=True)
class ModelKind:
    """A job that models of several architectures do."""

    job: str  # for messages: "to find things by words"
    types: tuple[str, ...]  # config.json's model_type of those that are known to work here
    suggestion: str  # on the Hub

    @property
    def how_to_get(self) -> str:
        """The command that gets the suggested model."""
        return download_command(self.suggestion)


OPEN_VOCABULARY = ModelKind(
    "to find things by words",
    ("grounding-dino", "owlv2", "owlvit", "clip"),
    "IDEA-Research/grounding-dino-tiny",
)
DETECTION = ModelKind(
    "to detect objects",
    (
        *("detr", "conditional_detr", "deformable_detr", "rt_detr", "rt_detr_v2", "d_fine", "yolos"),
        *("mask2former", "maskformer"),
    ),
    "PekingU/rtdetr_v2_r18vd",
)
SEMANTIC = ModelKind(
    "to tell floor and walls",
    ("segformer", "upernet", "mask2former", "maskformer", "mobilevit", "mobilenet_v2", "dpt", "beit"),
    "nvidia/segformer-b0-finetuned-ade-512-512",
)
DEPTH = ModelKind(
    "to guess depth",
    ("depth_anything", "dpt", "glpn"),
    "depth-anything/Depth-Anything-V2-Small-hf",
)
KINDS = {"words": OPEN_VOCABULARY, "detector": DETECTION, "semantic": SEMANTIC, "depth": DEPTH}


def download_command(name: str) -> str:
    """What to type where there is a network."""
    patterns = " ".join(f"--include '{pattern}'" for pattern in _PATTERNS)
    return f"hf download {name} {patterns}"


def find_folder(name_or_dir: str | Path, kind: ModelKind, *, allow_download: bool = False) -> Path:
    """The folder of a checkpoint: the path itself, a folder below SAM_PERCEPTION_MODELS, or the Hub's cache.

    Raises:
        ModelNotFound: nowhere; says how to get it.
        CheckpointError: a folder without config.json or without safetensors.
        ModelError: a model for another job.
    """
    folder = _looked_up(str(name_or_dir), kind, allow_download)
    if not (folder / CONFIG).is_file() or not list(folder.glob("*.safetensors")):
        raise CheckpointError(
            f"{folder} has no {CONFIG} or no .safetensors: it needs both, as transformers' save_pretrained writes "
            "them; pickled checkpoints (.pt, .bin) are never read"
        )
    found = model_type(folder)
    if found not in kind.types:
        raise ModelError(f"{folder} is a model of type {found!r}, wanted {kind.job}: one of {', '.join(kind.types)}")
    return folder


def _looked_up(name: str, kind: ModelKind, allow_download: bool) -> Path:
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    below = os.environ.get(MODELS_DIR_VARIABLE)
    if below:
        for candidate in (Path(below).expanduser() / name, Path(below).expanduser() / Path(name).name):
            if candidate.is_dir():
                return candidate
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        cached = _cached(name, allow_download)
        if cached is not None:
            return cached
    raise ModelNotFound(
        f"no model {name!r} {kind.job} on this machine: pass a directory with config.json and safetensors, or run "
        f"`{download_command(name) if name.count('/') == 1 else kind.how_to_get}` where there is a network"
    )


def _cached(name: str, allow_download: bool) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=_PATTERNS, local_files_only=not allow_download))
    except (LocalEntryNotFoundError, HFValidationError, OSError):
        return None


def model_type(folder: Path) -> str:
    """`model_type` of a checkpoint's config.json.

    Raises:
        CheckpointError: not JSON, or without it.
    """
    try:
        entries = parsed_json((folder / CONFIG).read_text())
        return str(entries["model_type"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder / CONFIG} has no model_type ({error}): get the checkpoint again") from error


def load_weights(auto_class: Any, folder: Path, device: str) -> Any:
    """The model of a folder in float32 on a device, for inference.

    Raises:
        CheckpointError: weights missing, truncated or of another shape.
        ConfigError: no such device.
    """
    target = resolve_device(device)
    try:
        model, seen = auto_class.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except Exception as error:
        raise CheckpointError(f"{folder} cannot be read: {type(error).__name__}: {error}; get it again") from error
    missing, wrong = sorted(seen["missing_keys"]), sorted(str(k) for k in seen["mismatched_keys"])
    if missing or wrong:
        raise CheckpointError(
            f"{folder} does not fit its config: {len(missing)} weights are missing ({', '.join(missing[:3])}), "
            f"{len(wrong)} have another shape ({', '.join(wrong[:3])}); use the files of one and the same model"
        )
    return model.eval().requires_grad_(False).to(target)


def load_part(auto_class: Any, folder: Path, what: str, needs: Sequence[str], **options: Any) -> Any:
    """An image processor or tokenizer of a folder.

    Raises:
        CheckpointError: its file is missing or unreadable.
    """
    try:
        return auto_class.from_pretrained(folder, local_files_only=True, **options)
    except Exception as error:
        raise CheckpointError(
            f"the {what} of {folder} cannot be read ({type(error).__name__}: {error}): the folder needs "
            f"{' or '.join(needs)} of the same model"
        ) from error


def load_image_processor(folder: Path) -> Any:
    """The checkpoint's own preprocessing, on Pillow: torchvision is not needed."""
    from transformers import AutoImageProcessor

    return load_part(AutoImageProcessor, folder, "image processor", ["preprocessor_config.json"], backend="pil")


def load_tokenizer(folder: Path) -> Any:
    """The checkpoint's tokenizer."""
    from transformers import AutoTokenizer

    return load_part(AutoTokenizer, folder, "tokenizer", ["tokenizer.json", "vocab.txt", "vocab.json"])
