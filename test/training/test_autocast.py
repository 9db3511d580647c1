"""A step computes in bfloat16 where the CPU has instructions for it and nowhere else, and without denormals."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import pytest
import torch
from denormals import denormals
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sam_perception.training import autocast, trainer
from sam_perception.training.finetune import FineTuning, fine_tune
from sam_perception.training.lesson import Lesson
from sam_perception.training.loader import Loader
from sam_perception.training.model import initialise, new_model
from sam_perception.training.muon import Float32Muon
from sam_perception.training.trainer import Settings, Trainer

CPUINFO = Path("/proc/cpuinfo")
SHAPES = [(7, 7), (5, 12), (12, 5)]


class Formats(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The floating formats of what operations give."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: set[torch.dtype] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.seen |= {leaf.dtype for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)}
        return out


@pytest.mark.parametrize("native", [True, False])
def test_a_step_of_training_computes_in_what_the_cpu_is_fast_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, native: bool
) -> None:
    monkeypatch.setattr(autocast, "has_bfloat16", lambda _: native)
    monkeypatch.setattr(trainer, "has_bfloat16", lambda _: native)
    course = Trainer(Settings(tmp_path, recipe="tiny", steps=1))
    with Loader(0, 1, 0, 0) as loader:
        loader.ask(course.recipe.stages[0].demand)
        lesson = Lesson(loader.get(), torch.device("cpu"))
    with Formats() as formats:
        course._step(lesson, 0.5, 1e-4, 0.5)
    assert (torch.bfloat16 in formats.seen) == native
    assert torch.float32 in formats.seen


def test_a_gpu_is_taken_to_have_it_and_it_can_be_declined() -> None:
    assert autocast.has_bfloat16("cuda")
    with autocast.mixed("cpu", enabled=False):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


@pytest.mark.skipif(platform.machine() != "x86_64" or not CPUINFO.exists(), reason="reads an x86 Linux's /proc/cpuinfo")
def test_this_cpu_has_it_where_the_kernel_lists_an_instruction_for_it() -> None:
    flags = next(line for line in CPUINFO.read_text().splitlines() if line.startswith("flags")).split()
    assert autocast.has_bfloat16("cpu") == bool({"avx512_bf16", "amx_tile"} & set(flags))


@pytest.mark.parametrize(
    ("machine", "avx512_bf16", "amx", "onednn", "has"),
    [
        ("x86_64", False, False, True, False),  # AVX-512 alone: oneDNN takes it, and emulates
        ("x86_64", True, False, True, True),
        ("AMD64", False, True, True, True),
        ("x86_64", False, False, False, False),
        ("aarch64", False, False, True, True),
        ("aarch64", False, False, False, False),
    ],
)
def test_avx512_alone_is_no_bfloat16(
    monkeypatch: pytest.MonkeyPatch, machine: str, avx512_bf16: bool, amx: bool, onednn: bool, has: bool
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: onednn)
    assert autocast.has_bfloat16("cpu") == has


@pytest.mark.parametrize("rule", [None, "original", "match_rms_adamw"])
@pytest.mark.parametrize("nesterov", [True, False])
def test_float32_muon_is_torchs_but_for_the_format(
    monkeypatch: pytest.MonkeyPatch, rule: str | None, nesterov: bool
) -> None:
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)  # torch's own code, in float32
    random = torch.Generator().manual_seed(0)
    begun = [torch.randn(shape, generator=random) for shape in SHAPES]
    grads = [[torch.randn(shape, generator=random) for shape in SHAPES] for _ in range(4)]
    ends = []
    for kind in (torch.optim.Muon, Float32Muon):
        matrices = [torch.nn.Parameter(m.clone()) for m in [*begun, torch.ones(2, 2)]]  # the last has no gradient
        optimiser = kind(matrices, lr=0.1, weight_decay=0.05, nesterov=nesterov, adjust_lr_fn=rule)
        for step in grads:
            for matrix, grad in zip(matrices, step, strict=False):
                matrix.grad = grad.clone()
            optimiser.step()  # type: ignore[no-untyped-call]
        ends.append([m.detach() for m in matrices])
        assert len(optimiser.state) == len(SHAPES)
    for torchs, ours, before in zip(*ends, begun, strict=False):
        torch.testing.assert_close(ours, torchs, atol=1e-5, rtol=1e-5)
        assert not torch.allclose(ours, before, atol=1e-2)
    assert torch.equal(ends[1][-1], torch.ones(2, 2))


def test_float32_muon_gives_the_loss_of_its_closure() -> None:
    matrix = torch.nn.Parameter(torch.eye(3))

    def loss() -> float:
        matrix.grad = torch.eye(3)
        assert torch.is_grad_enabled()
        return 4.5

    assert Float32Muon([matrix], lr=0.1).step(loss) == 4.5
    assert matrix[0, 0] < 1


def test_training_is_without_denormals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "LOG_EVERY", 1)
    had: list[bool] = []
    trainer.train(Settings(tmp_path, recipe="tiny", steps=2), lambda _: had.append(denormals()))
    assert had == [False, False]
    assert denormals()


def test_fine_tuning_is_without_denormals(shared_data: Path, tmp_path: Path) -> None:
    model = new_model(64)
    initialise(model)
    had: list[bool] = []
    fine_tune(model, FineTuning(shared_data / "stills_osd", tmp_path, steps=2), lambda *_: had.append(denormals()))
    assert had == [False, False]
    assert denormals()
