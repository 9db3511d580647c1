"""Models for single pictures by name: SAM, SAM 2, SAM 2.1 and the package's own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sam_perception.errors import CheckpointError, ModelError, ModelNotFound
from sam_perception.files import parsed_json
from sam_perception.segmentation import models

# Besides those that can track too, `models.MODEL_NAMES`; with their place on the Hugging Face Hub.
PICTURE_ONLY = {
    "sam-vit-base": "facebook/sam-vit-base",
    "sam-vit-large": "facebook/sam-vit-large",
    "sam-vit-huge": "facebook/sam-vit-huge",
    "sam2-hiera-tiny": "facebook/sam2-hiera-tiny",
    "sam2-hiera-small": "facebook/sam2-hiera-small",
    "sam2-hiera-base-plus": "facebook/sam2-hiera-base-plus",
    "sam2-hiera-large": "facebook/sam2-hiera-large",
}
IMAGE_MODEL_NAMES = (*models.MODEL_NAMES, *PICTURE_ONLY)

_NO_EDGETAM = (
    "its image encoder is a timm model, timm needs torchvision, and this package runs without either; choose "
    "sam2.1-hiera-tiny, which is the nearest in size"
)


def load_image_model(
    name_or_dir: str | Path, device: str = "auto", dtype: str = "auto", *, allow_download: bool = False
) -> Any:
    """A transformers `SamModel`, `Sam2Model` or `Sam2VideoModel`, ready for `ImagePredictor` and `MaskGenerator`.

    Args:
        name_or_dir: one of `IMAGE_MODEL_NAMES`, or a folder with `config.json` and `model.safetensors` whose
            model_type is sam, sam2 or sam2_video.
        device: auto, cpu, cuda or cuda:N.
        dtype: auto, float32, bfloat16 or float16; as `load_model` takes them.
        allow_download: fetch a published model that is not on this machine from the Hugging Face Hub.

    Raises:
        ModelNotFound: unknown name, or not on this machine; says how to get it.
        CheckpointError: truncated, changed, or not fitting its config.
        ModelError: a model of another kind; EdgeTAM, and why.
        ConfigError: unknown device or number format.
    """
    name = str(name_or_dir)
    target = models.resolve_device(device)
    number_format = models.resolve_dtype(dtype, target)
    if name == "edgetam":
        raise ModelError(f"model {name} cannot be used: {_NO_EDGETAM}")
    folder = find_image_checkpoint(name, allow_download=allow_download)
    models.verify_checksums(folder)
    kind = _model_type(folder)
    if kind == "sam2_video":
        return models.load_model(folder, device, dtype, allow_download=allow_download)
    model = _read(folder, kind).eval().requires_grad_(False).to(target)
    return models.in_format(model, number_format)


def find_image_checkpoint(name: str, *, allow_download: bool = False) -> Path:
    """The folder that holds a model's `config.json` and `model.safetensors`; see `models.find_checkpoint`.

    Raises:
        ModelNotFound: nowhere.
        ModelError: a model that this package knows and cannot use.
        CheckpointError: a folder without one of the two files.
    """
    if name not in PICTURE_ONLY:
        try:
            return models.find_checkpoint(name, allow_download=allow_download)
        except ModelNotFound as error:
            if name in models.MODEL_NAMES:
                raise
            raise ModelNotFound(
                f"no model {name!r}: it is neither a folder nor one of {', '.join(IMAGE_MODEL_NAMES)}; pass one of them"
            ) from error
    place = Path(os.environ.get(models.MODELS_DIR_VARIABLE, "")).expanduser() / name
    if os.environ.get(models.MODELS_DIR_VARIABLE) and place.is_dir():
        return models.find_checkpoint(place)
    return models.find_checkpoint(models.hub_folder(name, PICTURE_ONLY[name], allow_download=allow_download))


def _model_type(folder: Path) -> str:
    file = folder / models.CONFIG
    try:
        kind = str(parsed_json(file.read_text(encoding="utf-8")).get("model_type"))
    except (ValueError, AttributeError) as error:
        raise CheckpointError(f"{file} is not a JSON object ({error}): get the checkpoint again") from error
    if kind.startswith("edgetam"):
        raise ModelError(f"{folder} holds a model of type {kind}: {_NO_EDGETAM}")
    if kind not in ("sam", "sam2", "sam2_video"):
        raise ModelError(
            f"{file} describes a model of type {kind!r}, wanted sam, sam2 or sam2_video: use a SAM, SAM 2 or SAM 2.1 "
            "checkpoint in transformers' format"
        )
    return kind


def _read(folder: Path, kind: str) -> Any:
    from transformers import Sam2Model, SamModel

    return models.read_weights(folder, {"sam": SamModel, "sam2": Sam2Model}[kind])
