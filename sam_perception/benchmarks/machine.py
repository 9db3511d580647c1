"""What was measured on."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any


def describe_machine(threads: int, device: Any = None, dtype: Any = None) -> dict[str, str]:
    """Processor, load, versions, number format, and the GPU where one is measured: what belongs beside any number."""
    import numpy as np
    import torch

    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    facts = {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "load before": f"{load:.1f}",
        "threads": str(threads),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
    }
    if dtype is not None:
        facts["number format"] = str(dtype).removeprefix("torch.")
    if device is not None and device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts["gpu"] = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"
    return facts


def use_threads(threads: int | None) -> int:
    """Let torch use so many threads, or leave it its own choice; how many it uses."""
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    return int(torch.get_num_threads())


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
