"""What `sam-perception doctor` says of exported models and of several machines."""

from __future__ import annotations

from pathlib import Path

import pytest

from sam_perception.commands.doctor_machine import OK, WARN, Machine
from sam_perception.commands.doctor_runtimes import check_runtimes

VERSIONS = {"onnx": "1.23.2", "onnxruntime": "1.31.1", "ray": "2.60.0"}


def machine(root: Path, versions: dict[str, str]) -> Machine:
    return Machine(root=root, version=versions.get)


def test_what_is_here_is_named(tmp_path: Path) -> None:
    found = check_runtimes(machine(tmp_path, VERSIONS), lambda: ("cpu",))
    assert found.status == OK
    assert found.text == "onnx 1.23.2, onnxruntime 1.31.1, ray 2.60.0; exported models run on cpu"


def test_what_is_missing_is_optional(tmp_path: Path) -> None:
    found = check_runtimes(machine(tmp_path, {"onnx": "1.23.2"}), lambda: pytest.fail("must not be asked"))
    assert found.status == OK
    assert found.text.endswith("not installed, and optional: onnxruntime (exported models), ray (process --ray)")


@pytest.mark.parametrize("sign", ["proc/driver/nvidia/version", "etc/nv_tegra_release"])
def test_a_gpu_that_onnxruntime_does_not_use_is_a_warning(tmp_path: Path, sign: str) -> None:
    (tmp_path / sign).parent.mkdir(parents=True)
    (tmp_path / sign).touch()
    found = check_runtimes(machine(tmp_path, VERSIONS), lambda: ("cpu",))
    assert found.status == WARN
    assert "onnxruntime-gpu" in found.cure
    gpu_build = {**VERSIONS, "onnxruntime-gpu": "1.31.1"}
    del gpu_build["onnxruntime"]
    found = check_runtimes(machine(tmp_path, gpu_build), lambda: ("cpu", "cuda", "tensorrt"))
    assert found.status == OK
    assert found.text.endswith("exported models run on cpu, cuda, tensorrt")


def test_a_broken_onnxruntime_is_a_warning(tmp_path: Path) -> None:
    assert check_runtimes(machine(tmp_path, VERSIONS), tuple).status == WARN
