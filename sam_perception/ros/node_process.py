"""The real node as a process of its own, for those who play to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_END_S = 10.0


def node_command(settings: Mapping[str, Any]) -> list[str]:
    """What starts the node with these parameters."""
    command = [sys.executable, "-m", "sam_perception.ros.node"]
    if settings:
        command.append("--ros-args")
    for name, value in settings.items():
        command += ["-p", f"{name}:={str(value).lower() if isinstance(value, bool) else value}"]
    return command


@contextmanager
def node_process(domain_id: int, log: Path, settings: Mapping[str, Any]) -> Iterator[subprocess.Popen[bytes]]:
    """`perception_node` in a process and a DDS domain of its own; gone afterwards, whatever happens."""
    environment = {**os.environ, "ROS_DOMAIN_ID": str(domain_id)}
    with log.open("wb") as output:
        # A session of its own: Ctrl-C ends this process, which then ends the node.
        process = subprocess.Popen(
            node_command(settings), env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            end(process)


def end(process: subprocess.Popen[bytes]) -> tuple[int, float]:
    """Exit code after SIGINT, and how long it took; after ten seconds the process is killed."""
    start_s = time.monotonic()
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        code = process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        code = process.wait()
    return code, time.monotonic() - start_s


def tail(log: Path, lines: int = 12) -> str:
    """The end of the node's output, for messages."""
    text = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-lines:]
    return f"{' | '.join(text) or 'it wrote nothing'} (all of it in {log})"
