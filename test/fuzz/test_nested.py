"""Files of a model that are nested beyond reason are refused, not a crash."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sam_perception.errors import PerceptionError
from sam_perception.segmentation.export import manifest
from sam_perception.segmentation.hub import model_type
from sam_perception.segmentation.pictures.image_models import load_image_model

DEEP = '{"model_type": ' + "[" * 100_000 + "]" * 100_000 + "}"


def image_model(folder: Path) -> Any:
    (folder / "model.safetensors").write_bytes(b"")
    return load_image_model(str(folder))


@pytest.mark.parametrize(
    ("name", "read"),
    [("config.json", model_type), ("config.json", image_model), ("export.json", manifest.read_manifest)],
    ids=["detector", "picture model", "export"],
)
def test_a_file_nested_beyond_reason_is_refused(tmp_path: Path, name: str, read: Callable[[Path], Any]) -> None:
    (tmp_path / name).write_text(DEEP)
    with pytest.raises(PerceptionError, match="nested too deeply"):
        read(tmp_path)
