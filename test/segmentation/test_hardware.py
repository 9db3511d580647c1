"""How the CPU computes: without denormals while networks run, and nowhere else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from denormals import denormals
from numpy.typing import NDArray
from torch.nn.modules.module import register_module_forward_pre_hook

from sam_perception.prompts import BoxPrompt
from sam_perception.segmentation import ImagePredictor, StreamingTracker, load_model
from sam_perception.segmentation.export.manifest import PartFile
from sam_perception.segmentation.export.onnx_runtime import Session
from sam_perception.segmentation.hardware import without_denormals

# In a process of its own, since torch keeps its threads. Of two threads' work the second half is the other one's.
IN_THREADS = """
import torch
from sam_perception.segmentation.hardware import start_threads, without_denormals
torch.set_num_threads(2)
start_threads()
with without_denormals():
    left = torch.full((1 << 22,), 1e-30) * 1e-10 != 0
print(int(left.sum()), torch.get_num_threads())
"""


def test_denormals_come_back_but_where_they_were_off() -> None:
    with without_denormals():
        assert not denormals()
        with without_denormals():
            assert not denormals()
        assert not denormals()
    assert denormals()
    with pytest.raises(ValueError, match="on the way"), without_denormals():
        raise ValueError("on the way")
    assert denormals()


def test_threads_that_torch_starts_are_without_them_too() -> None:
    done = subprocess.run([sys.executable, "-c", IN_THREADS], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == ["0", "2"]


@pytest.fixture(scope="module")
def nano() -> Any:
    return load_model("nano", "cpu", "float32")


@pytest.fixture(scope="module")
def pictures() -> list[NDArray[np.uint8]]:
    """A bright square that moves over a grey ground."""
    found = np.full((4, 96, 128, 3), 60, np.uint8)
    for number, picture in enumerate(found):
        picture[30:60, 20 + 6 * number : 50 + 6 * number] = (220, 180, 40)
    return list(found)


def test_networks_run_without_denormals(nano: Any, pictures: list[NDArray[np.uint8]]) -> None:
    tracker, predictor, seen = StreamingTracker(nano, max_objects=1), ImagePredictor(nano), list[bool]()
    hook = register_module_forward_pre_hook(lambda *_: seen.append(denormals()))
    try:
        tracker.prompt(BoxPrompt(1, (20, 30, 50, 60)))
        for picture in pictures:
            tracker.step(picture)
        tracked = len(seen)
        predictor.set_image(pictures[0])
        predictor.predict(box=[20, 30, 50, 60])
    finally:
        hook.remove()
    assert 0 < tracked < len(seen)
    assert not any(seen)
    assert denormals()


def test_tracking_is_the_same_with_them(nano: Any, pictures: list[NDArray[np.uint8]]) -> None:
    masks = []
    for step in (StreamingTracker.step, StreamingTracker.step.__wrapped__):  # type: ignore[attr-defined]
        tracker = StreamingTracker(nano, max_objects=1)
        tracker.prompt(BoxPrompt(1, (20, 30, 50, 60)))
        with torch.inference_mode():
            masks.append([step(tracker, picture).masks for picture in pictures])
    assert masks[0][-1].any()
    np.testing.assert_array_equal(masks[0], masks[1])


def test_exported_parts_run_without_them_and_leave_the_thread_as_it_was(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'sam_perception[onnx]'")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'sam_perception[onnx]'")
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [4]) for name in "xy")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Mul", ["x", "x"], ["y"])], "square", [x], [y])
    opset = onnx.helper.make_opsetid("", 17)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8), tmp_path / "square.onnx")
    part = PartFile("square.onnx", "", {"x": (4,)}, {"y": (4,)}, 0.0)
    session = Session(tmp_path, part, "cpu")
    assert denormals()
    with without_denormals():
        (squares,) = session({"x": torch.full((4,), 1e-20)}, {})
    assert squares.tolist() == [0.0] * 4
