"""What the node's tests share: a DDS domain for each, a camera, and a client that waits on conditions."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("sam_perception.msg", reason="the messages are not built")

from sam_perception._ros_environment import ensure_ros_environment

ensure_ros_environment()

from ros_harness import Harness  # noqa: E402 - imports rclpy

_COUNTER = itertools.count()
_DOMAINS = 101  # those above clash with ephemeral ports on Linux


def next_domain() -> int:
    """A DDS domain that no other test in progress uses, and hardly one of another run."""
    # Workers that share out the tests have every so many-th domain each; their parent's number is the run's.
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    run = os.getppid() if workers > 1 else os.getpid()
    each = _DOMAINS // workers
    return 1 + worker % workers * each + (run * 13 + next(_COUNTER)) % each


@pytest.fixture(autouse=True, scope="session")
def _ros_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What nodes keep for a restart is not to outlive the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROS_HOME", str(tmp_path_factory.mktemp("ros_home")))
        yield


@pytest.fixture
def domain() -> int:
    return next_domain()


@pytest.fixture
def harness(domain: int) -> Iterator[Harness]:
    with Harness(domain) as made:
        yield made


@pytest.fixture(scope="module")
def shared_harness() -> Iterator[Harness]:
    """One for all tests of a module: those must leave it as they found it."""
    with Harness(next_domain()) as made:
        yield made
