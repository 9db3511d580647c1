"""`sam-perception export` and what becomes of damaged exports."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from sam_perception.cli import main
from sam_perception.config import PerceptionConfig
from sam_perception.errors import CheckpointError, ConfigError
from sam_perception.perception import Perception
from sam_perception.prompts import BoxPrompt
from sam_perception.segmentation import load_model
from sam_perception.sources.synthetic import SyntheticSource

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'sam_perception[onnx]'")
ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'sam_perception[onnx]'")

PARTS = {"image_encoder", "memory_attention", "prompt_encoder", "mask_decoder", "memory_encoder"}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "nano"
    assert main(["export", "--model", "nano", str(folder)]) == 0
    return folder


def test_every_part_is_a_valid_graph_with_the_names_and_shapes_that_are_promised(exported: Path) -> None:
    entries = json.loads((exported / "export.json").read_text())
    assert set(entries["parts"]) == PARTS
    assert {"torch", "transformers", "onnx", "onnxruntime"} <= set(entries["versions"])
    recipe = (exported / "tensorrt.txt").read_text()
    for part in entries["parts"].values():
        assert part["max_abs_difference"] <= 1e-3
        onnx.checker.check_model(str(exported / part["file"]), full_check=True)
        session = ort.InferenceSession(str(exported / part["file"]), providers=["CPUExecutionProvider"])
        assert [i.name for i in session.get_inputs()] == list(part["inputs"])
        assert [o.name for o in session.get_outputs()] == list(part["outputs"])
        for given, promised in zip(session.get_inputs(), part["inputs"].values(), strict=True):
            assert given.shape == list(promised)
            if any(isinstance(d, str) for d in promised):
                assert f"{given.name}:" in recipe
        assert f"--onnx={part['file']} " in recipe.replace("\\\n", "")
    assert "NOT been run" in recipe


def test_a_static_batch_leaves_only_the_clicks_free(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "static"
    parts = "prompt_encoder,mask_decoder"
    assert main(["export", "--parts", parts, "--batch", "static:4", str(out)]) == 0
    entries = json.loads((out / "export.json").read_text())["parts"]
    assert entries["mask_decoder"]["inputs"]["features"][0] == 4
    free = {d for part in entries.values() for shape in part["inputs"].values() for d in shape if isinstance(d, str)}
    assert free == {"C", "C+1"}
    shown = capsys.readouterr().out
    assert "mask_decoder" in shown
    assert "every part is within 0.001 of torch" in shown
    with pytest.raises(CheckpointError, match="no image_encoder, no memory_attention, no memory_encoder: tracking"):
        load_model(out, "cpu")


def test_the_whole_recipe_runs_on_it(exported: Path) -> None:
    frames = list(SyntheticSource(width=160, height=120, frames=3))
    masks = {}
    for model in ("nano", str(exported)):
        perception = Perception(PerceptionConfig(model=model, device="cpu"))
        perception.prompt(BoxPrompt(1, (60, 40, 100, 90)))
        masks[model] = np.stack([perception.step(frame).objects[0].mask for frame in frames])
    assert masks["nano"].any()
    assert (masks["nano"] != masks[str(exported)]).mean() < 1e-3


@pytest.mark.parametrize("number_format", ["int8", "fp16"])
def test_fewer_bits_are_smaller_and_still_find_the_object(exported: Path, tmp_path: Path, number_format: str) -> None:
    out = tmp_path / number_format
    assert main(["export", "--quantize", number_format, str(out)]) == 0
    before, after = (sum(f.stat().st_size for f in folder.glob("*.onnx")) for folder in (exported, out))
    assert after < 0.8 * before
    frames = list(SyntheticSource(width=160, height=120, frames=3))
    masks = {}
    for folder in (exported, out):
        perception = Perception(PerceptionConfig(model=str(folder), device="cpu"))
        perception.prompt(BoxPrompt(1, (60, 40, 100, 90)))
        masks[folder] = np.stack([perception.step(frame).objects[0].mask for frame in frames])
    iou = (masks[exported] & masks[out]).sum() / (masks[exported] | masks[out]).sum()
    assert iou > 0.8
    with pytest.raises(ConfigError, match=f"dtype is bfloat16, .* was exported as {number_format}: set dtype to auto"):
        load_model(out, "cpu", "bfloat16")


def test_damage_is_found(exported: Path, tmp_path: Path) -> None:
    out = tmp_path / "damaged"
    shutil.copytree(exported, out)
    file = out / "mask_decoder.onnx"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"mask_decoder.onnx does not match its manifest .* export the model"):
        load_model(out, "cpu")
    (out / "export.json").write_text('{"format": 99}')
    with pytest.raises(CheckpointError, match="is of format 99, wanted 1: export again"):
        load_model(out, "cpu")
    (out / "export.json").write_text("{}")
    with pytest.raises(CheckpointError, match="is not a manifest"):
        load_model(out, "cpu")


def test_the_doctor_looks_at_exported_models(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["doctor", "--listen", "0", "--model", str(exported)])
    assert f"models         {exported} in {exported}" in capsys.readouterr().out
    shutil.copytree(exported, tmp_path / "damaged")
    (tmp_path / "damaged/memory_encoder.onnx").write_bytes(b"")
    assert main(["doctor", "--listen", "0", "--model", str(tmp_path / "damaged")]) == 1
    assert "memory_encoder.onnx does not match its manifest" in capsys.readouterr().out


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "tensorrt"])
def test_a_device_that_is_not_there_is_refused(exported: Path, device: str) -> None:
    if len(ort.get_available_providers()) > 2:
        pytest.skip("this onnxruntime may have it")
    with pytest.raises(ConfigError, match=f"device is '{device}', the installed onnxruntime has cpu: choose one"):
        load_model(exported, device)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch", "static:0"], "write dynamic, or static:4"),
        (["--batch", "4"], "write dynamic, or static:4"),
        (["--parts", "mask_decoder,tail"], "choose among image_encoder, memory_attention"),
        (["--model", "edgetam"], "edgetam"),
        (["--model", "nowhere"], "no model 'nowhere'"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", *arguments, str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_existing_folder_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["export", str(tmp_path)]) == 2
    assert "exists already: give a new folder" in capsys.readouterr().err
    assert [f.name for f in tmp_path.iterdir()] == ["file"]
