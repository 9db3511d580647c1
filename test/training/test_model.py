"""Nano's configuration, and its checkpoint directory written, read, and read into a deeper model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from sam_perception.errors import CheckpointError, ModelNotFound
from sam_perception.training.blocks import encode_images
from sam_perception.training.model import (
    CONFIG,
    WEIGHTS,
    begin_with,
    block_places,
    initialise,
    nano_config,
    new_model,
    save_model,
    sha256,
)


def model_of(blocks: list[int]) -> Any:
    """A small model with random weights and so many blocks in each stage of its encoder."""
    config = nano_config(64)
    config.vision_config.backbone_config.blocks_per_stage = blocks
    model = new_model(config=config)
    initialise(model)
    return model.eval()


def test_a_model_directory_holds_what_was_saved(small_model: Any, tmp_path: Path) -> None:
    save_model(small_model, tmp_path)
    other = new_model(64)
    begin_with(other, tmp_path)
    for name, value in small_model.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value.half().float(), atol=0, rtol=0)
    sums = dict(reversed(line.split("  ")) for line in (tmp_path / "SHA256SUMS").read_text().splitlines())
    assert sums == {name: sha256(tmp_path / name) for name in (CONFIG, WEIGHTS)}
    (tmp_path / WEIGHTS).write_bytes((tmp_path / WEIGHTS).read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="copy it again"):
        begin_with(other, tmp_path)


def test_a_deeper_model_begins_with_what_the_smaller_one_says_and_learns_from_there(tmp_path: Path) -> None:
    torch.manual_seed(0)
    small = model_of([1, 2, 3, 1])
    save_model(small, tmp_path, half=False)
    deep = model_of([1, 3, 6, 2])
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        wanted = encode_images(small, pixels)
        assert not torch.allclose(encode_images(deep, pixels).coarse, wanted.coarse, atol=1e-2)
        begin_with(deep, tmp_path)
        for name in ("fine", "middle", "coarse"):
            torch.testing.assert_close(getattr(encode_images(deep, pixels), name), getattr(wanted, name))
    (encode_images(deep, pixels).coarse - 1).square().mean().backward()
    added = deep.vision_encoder.backbone.blocks[11]
    assert added.attn.proj.weight.grad.abs().max() > 0
    assert added.mlp.proj_out.weight.grad.abs().max() > 0


def test_added_blocks_lie_between_those_that_were_there() -> None:
    assert block_places([1, 2, 3, 1], [1, 2, 3, 1]) == [0, 1, 2, 3, 4, 5, 6]
    assert block_places([1, 2, 3, 1], [1, 2, 6, 2]) == [0, 1, 2, 3, 5, 7, 9]
    assert block_places([1, 2, 3, 1], [2, 3, 7, 2]) == [0, 2, 3, 5, 7, 9, 12]


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    deep, shallow = model_of([1, 2, 3, 1]), model_of([1, 1, 1, 1])
    save_model(deep, tmp_path / "deep")
    with pytest.raises(CheckpointError, match=r"encoder of \[1, 2, 3, 1\] blocks"):
        begin_with(shallow, tmp_path / "deep")
    with pytest.raises(ModelNotFound, match="no weights"):
        begin_with(deep, tmp_path)
    bare = shutil.copytree(tmp_path / "deep", tmp_path / "bare")
    (bare / CONFIG).unlink()
    with pytest.raises(ModelNotFound, match="no configuration"):
        begin_with(deep, bare)
    for content in ("{", "[]", "{}"):
        (bare / CONFIG).write_text(content)
        with pytest.raises(CheckpointError, match="blocks_per_stage"):
            begin_with(deep, bare)
    said = json.loads((tmp_path / "deep" / CONFIG).read_text())
    said["vision_config"]["backbone_config"]["blocks_per_stage"] = [1, 1, 3, 1]
    (bare / CONFIG).write_text(json.dumps(said))
    with pytest.raises(CheckpointError, match="7 blocks"):
        begin_with(deep, bare)


@pytest.mark.parametrize("size", [64, 128, 256, 384])
def test_the_coarse_stages_see_the_whole_picture_and_no_window_is_filled_up(size: int) -> None:
    backbone = nano_config(size).vision_config.backbone_config
    grids = [size // stride for stride in (4, 8, 16, 32)]
    assert [grid % window for grid, window in zip(grids, backbone.window_size_per_stage, strict=True)] == [0] * 4
    assert backbone.window_size_per_stage[2:] == grids[2:]


def test_weights_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    model = new_model(64)
    initialise(model)
    with torch.no_grad():
        model.no_memory_embedding.fill_(1e6)  # beyond float16
    with pytest.raises(CheckpointError, match="no_memory_embedding"):
        save_model(model, tmp_path)
