"""Checkpoints: found by name, whole, fitting, and never pickles."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_models import clip, random_model, small_config

from sam_perception.errors import CheckpointError, ConfigError, ModelError, ModelNotFound
from sam_perception.prompts import BoxPrompt
from sam_perception.segmentation import MODEL_NAMES, StreamingTracker, load_model
from sam_perception.segmentation import models as models_module


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    model = random_model(small_config(), seed=3)
    folder = tmp_path_factory.mktemp("checkpoint")
    model.save_pretrained(folder)
    return model, folder


@pytest.fixture
def copied(saved: tuple[Any, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved[1], tmp_path / "copy"))


def test_a_folder_gives_back_the_same_weights_and_masks(saved: tuple[Any, Path]) -> None:
    model, folder = saved
    loaded = load_model(folder, device="cpu")
    for name, tensor in [*model.state_dict().items(), *model.named_buffers()]:
        assert torch.equal(tensor, dict(loaded.named_buffers()).get(name, loaded.state_dict().get(name))), name
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    answers = []
    for m in (model, loaded):
        tracker = StreamingTracker(m)
        tracker.prompt(BoxPrompt(1, (20, 20, 60, 60)))
        answers.append([tracker.step(p).logits for p in clip(3, 128)][-1])
    torch.testing.assert_close(*answers, atol=1e-3, rtol=0)  # other memory alignment, other rounding


def test_half_precision_keeps_coordinates_exact(saved: tuple[Any, Path]) -> None:
    model = load_model(saved[1], device="cpu", dtype="bfloat16")
    assert model.memory_attention.layer_norm.weight.dtype == torch.bfloat16
    assert model.mask_decoder.iou_token.weight.dtype == torch.bfloat16
    assert {p.dtype for p in model.prompt_encoder.parameters()} == {torch.float32}
    assert model.shared_image_embedding.positional_embedding.dtype == torch.float32
    tracker = StreamingTracker(model)
    tracker.prompt(BoxPrompt(1, (20, 20, 60, 60)))
    assert [tracker.step(p).ids.tolist() for p in clip(3, 128)] == [[1]] * 3


def test_loading_shows_no_progress_bar(saved: tuple[Any, Path], capfd: pytest.CaptureFixture[str]) -> None:
    load_model(saved[1])
    out, err = capfd.readouterr()
    assert out == ""
    assert "Loading" not in err


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_a_truncated_checkpoint(copied: Path, share: float) -> None:
    weights = copied / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(CheckpointError, match=r"model\.safetensors \(\d+ bytes\) cannot be read.*truncated"):
        load_model(copied)


def test_weights_that_are_missing_or_of_another_shape(copied: Path) -> None:
    tensors = load_file(copied / "model.safetensors")
    del tensors["no_object_pointer"]
    tensors["mask_decoder.iou_token.weight"] = torch.zeros(1, 7)
    save_file(tensors, copied / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"no_object_pointer|mismatch|shape"):
        load_model(copied)


def test_a_missing_weight_is_named(copied: Path) -> None:
    tensors = load_file(copied / "model.safetensors")
    del tensors["no_object_pointer"]
    save_file(tensors, copied / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"1 weights are missing \(no_object_pointer\)"):
        load_model(copied)


def test_checksums_are_checked(copied: Path) -> None:
    digest = hashlib.sha256((copied / "model.safetensors").read_bytes()).hexdigest()
    (copied / "SHA256SUMS").write_text(f"{digest}  model.safetensors\n")
    load_model(copied)
    data = bytearray((copied / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (copied / "model.safetensors").write_bytes(bytes(data))
    with pytest.raises(CheckpointError, match="does not match its checksum"):
        load_model(copied)
    (copied / "SHA256SUMS").write_text(f"{digest}  other.safetensors\n")
    with pytest.raises(CheckpointError, match="no file"):
        load_model(copied)


def test_pickled_weights_are_not_read(copied: Path) -> None:
    (copied / "model.safetensors").rename(copied / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"no model\.safetensors.*never read"):
        load_model(copied)


@pytest.mark.parametrize(
    ("content", "error"),
    [("{", CheckpointError), ("[]", ModelError), ('{"model_type": "sam3_video"}', ModelError)],
)
def test_configs_that_are_none(copied: Path, content: str, error: type[Exception]) -> None:
    (copied / "config.json").write_text(content)
    with pytest.raises(error, match=r"config\.json"):
        load_model(copied)


def test_a_sam2_that_cannot_be_streamed(copied: Path) -> None:
    entries = json.loads((copied / "config.json").read_text())
    entries["memory_attention_num_attention_heads"] = 2
    (copied / "config.json").write_text(json.dumps(entries))
    with pytest.raises(ModelError, match="memory_attention_num_attention_heads is 2, wanted 1"):
        StreamingTracker(load_model(copied))


def test_unknown_names() -> None:
    with pytest.raises(ModelNotFound, match=r"neither a folder nor one of nano, sam2\.1-hiera-tiny"):
        load_model("sam9")
    with pytest.raises(ModelError, match="edgetam is not supported"):
        load_model("edgetam")


def test_published_models_say_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.delenv(models_module.MODELS_DIR_VARIABLE, raising=False)
    for name in MODEL_NAMES[1:]:
        with pytest.raises(ModelNotFound, match=f"huggingface-cli download facebook/{name} .*SAM_PERCEPTION_MODELS"):
            load_model(name)


def test_published_models_are_found_by_variable_and_in_the_hub_cache(
    saved: tuple[Any, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    shutil.copytree(saved[1], tmp_path / "models" / "sam2.1-hiera-tiny")
    monkeypatch.setenv(models_module.MODELS_DIR_VARIABLE, str(tmp_path / "models"))
    assert models_module.find_checkpoint("sam2.1-hiera-tiny") == tmp_path / "models" / "sam2.1-hiera-tiny"
    hub = tmp_path / "hub"
    snapshot = hub / "models--facebook--sam2.1-hiera-small" / "snapshots" / "0123456789abcdef"
    shutil.copytree(saved[1], snapshot)
    (hub / "models--facebook--sam2.1-hiera-small" / "refs").mkdir()
    (hub / "models--facebook--sam2.1-hiera-small" / "refs" / "main").write_text("0123456789abcdef")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(hub))
    assert models_module.find_checkpoint("sam2.1-hiera-small") == snapshot


def test_devices_and_formats() -> None:
    assert models_module.resolve_device("cpu") == torch.device("cpu")
    assert models_module.resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert models_module.resolve_dtype("auto", torch.device("cpu")) is torch.float32
    assert models_module.resolve_dtype("float16", torch.device("cpu")) is torch.float16
    for device in ("gpu", "meta", "cuda:99"):
        with pytest.raises(ConfigError, match="device is"):
            models_module.resolve_device(device)
    with pytest.raises(ConfigError, match="dtype is"):
        models_module.resolve_dtype("int8", torch.device("cpu"))


@pytest.mark.parametrize(("native", "expected"), [(True, torch.bfloat16), (False, torch.float16)])
def test_bfloat16_is_taken_only_where_the_named_gpu_has_it(
    native: bool, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    current = [torch.device("cuda", 0)]

    @contextmanager
    def made_current(index: int) -> Iterator[None]:
        current.append(torch.device("cuda", index))
        yield
        current.pop()

    def supported(including_emulation: bool = True) -> bool:
        return including_emulation or (native and current[-1].index == 1)

    monkeypatch.setattr(torch.cuda, "device", made_current)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert models_module.resolve_dtype("auto", torch.device("cuda", 1)) is expected


def test_the_packaged_model_tracks() -> None:
    folder = Path(models_module.__file__).parent.parent / "models" / "nano"
    if not folder.is_dir():
        pytest.skip(f"no packaged model at {folder}")
    tracker = StreamingTracker(load_model("nano", device="cpu"))
    tracker.prompt(BoxPrompt(1, (20, 20, 60, 60)))
    assert tracker.step(clip(1, 128)[0]).ids.tolist() == [1]
