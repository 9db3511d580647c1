"""`sam-perception doctor`: what exported models and work on several machines need."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sam_perception.commands.doctor_machine import OK, WARN, Finding, Machine

_EXTRAS = {
    "onnx": "sam-perception export",
    "onnxruntime": "exported models",
    "ray": "process --ray",
}


def check_runtimes(machine: Machine, providers: Callable[[], Sequence[str]]) -> Finding:
    """Which optional runtimes are here; `providers` as segmentation.export.onnx_runtime.available_providers."""
    versions = {name: machine.version(name) for name in _EXTRAS}
    if versions["onnxruntime"] is None:
        versions["onnxruntime"] = machine.version("onnxruntime-gpu")
    here = [f"{name} {version}" for name, version in versions.items() if version is not None]
    missing = [f"{name} ({_EXTRAS[name]})" for name, version in versions.items() if version is None]
    text = ", ".join(here) or "none"
    if missing:
        text += f"; not installed, and optional: {', '.join(missing)}"
    if versions["onnxruntime"] is None:
        return Finding("runtimes", OK, text)
    runs_on = providers()
    text += f"; exported models run on {', '.join(runs_on) or 'nothing'}"
    has_gpu = machine.read("proc/driver/nvidia/version") is not None or machine.read("etc/nv_tegra_release") is not None
    if not runs_on:
        return Finding("runtimes", WARN, text, "onnxruntime cannot be imported: install it again")
    if has_gpu and "cuda" not in runs_on:
        cure = "pip uninstall onnxruntime && pip install onnxruntime-gpu (on a Jetson, NVIDIA's build of it)"
        return Finding("runtimes", WARN, f"{text}, though there is an NVIDIA GPU", cure)
    return Finding("runtimes", OK, text)
