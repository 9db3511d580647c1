"""Whatever bytes come: a refusal that says something, never another exception, never a hang."""

from __future__ import annotations

import io
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from fuzz_cases import TARGETS, seeds, survives
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

pytest.importorskip("rclpy")
pytest.importorskip("torch")

CHEAP = (
    "frame",
    "prompt message",
    "prompts.yaml",
    "config yaml",
    "--set",
    "run lengths",
    "intrinsics.json",
    "SHA256SUMS",
)
few = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))

leaves = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6)
    | st.sampled_from(["object_id", "box", "points", "size", "counts", 0, -1, 2**31, 2**64, 1e308])
)  # fmt: skip
KEYS = (
    *("object_id", "label", "frame", "box", "points", "point_labels", "mask", "text", "size", "counts", "width"),
    *("height", "fx", "fy", "cx", "cy", "images", "annotations", "segmentation", "image_id", "file_name", "id"),
    *("max_objects", "geometry", "tracker", "model", "min_depth_m"),
)
keys = st.text(max_size=4) | st.sampled_from(KEYS)
documents = st.recursive(leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=5))


@pytest.mark.parametrize("name", TARGETS)
def test_inputs_that_somebody_thought_of(name: str) -> None:
    for raw in seeds(name):
        survives(name, raw)


@pytest.mark.parametrize("name", CHEAP)
@few
@given(raw=st.binary(max_size=400))
def test_any_bytes(name: str, raw: bytes) -> None:
    survives(name, raw)


@pytest.mark.parametrize("name", ["prompts.yaml", "config yaml", "run lengths", "COCO annotations", "intrinsics.json"])
@few
@given(document=documents)
def test_any_document(name: str, document: Any) -> None:
    survives(name, json.dumps(document if name != "prompts.yaml" else [document]).encode())


@settings(max_examples=400, deadline=None, derandomize=True)
@given(raw=st.binary(min_size=60, max_size=300))
def test_any_images_become_a_frame_or_a_refusal(raw: bytes) -> None:
    survives("frame", raw)


def test_the_fuzzed_images_are_not_all_refused() -> None:
    rng = np.random.default_rng(0)
    good = sum(survives("frame", rng.integers(0, 256, 200, np.uint8).tobytes()) for _ in range(3000))
    assert good > 10


def resume_file() -> bytes:
    """A good one."""
    from reliability_writer import frame, scene

    from sam_perception.ros.resume import ObjectStore

    with TemporaryDirectory() as folder:
        path = Path(folder) / "objects.npz"
        ObjectStore(path, 60.0).keep(frame(0), scene(0))
        return path.read_bytes()


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_damaged_resume_file_is_refused(data: st.DataObject) -> None:
    good = _resume()
    assert survives("resume file", good)
    at = data.draw(st.integers(0, len(good) - 1))
    change = data.draw(st.binary(min_size=1, max_size=4))
    survives("resume file", good[:at] + change + good[at + len(change) :])
    survives("resume file", good[:at])


_CACHE: list[bytes] = []


def _resume() -> bytes:
    if not _CACHE:
        _CACHE.append(resume_file())
    return _CACHE[0]


@few
@given(values=st.dictionaries(st.text(max_size=8), st.integers(-(2**40), 2**40) | st.floats(), max_size=4))
@example(values={"meta": 3})
def test_another_npz_is_refused(values: dict[str, Any]) -> None:
    stream = io.BytesIO()
    np.savez(stream, **{f"k{i}": np.array(v) for i, v in enumerate(values.values())}, meta=np.array(json.dumps(values)))
    assert not survives("resume file", stream.getvalue())
