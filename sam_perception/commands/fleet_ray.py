"""Recordings on a Ray cluster."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from sam_perception.commands.fleet_job import Job, Outcome, run_job
from sam_perception.errors import ConfigError

LOCAL = "local"
_ATTEMPTS = 3  # at a cluster on this machine: ray gives it 30 s to start, which a busy machine may exceed

_log = logging.getLogger(__name__)


def run_on_ray(jobs: Sequence[Job], address: str, count: int | None, *, gpus: bool) -> Iterator[Outcome]:
    """Outcomes in the order in which jobs end.

    Every machine of the cluster needs this package, and the recordings under the same paths.

    Args:
        jobs: what is to be done.
        address: of the cluster's head (HOST:PORT, ray://HOST:PORT), `auto`, or `local` for one on this machine.
        count: jobs at once, at most; None: as many as the cluster has room for. Of a local cluster, its CPUs.
        gpus: where the cluster has GPUs, each job takes one.

    Raises:
        ConfigError: ray is not installed, or there is no cluster at the address.
    """
    ray = _started(address, jobs[0].threads * (count or os.cpu_count() or 1))
    try:
        wanted = {"num_cpus": jobs[0].threads}
        if gpus and ray.cluster_resources().get("GPU", 0) >= 1:
            wanted["num_gpus"] = 1
        remote = ray.remote(max_retries=0, **wanted)(_answer)
        waiting, running = list(jobs), dict[Any, Job]()
        while waiting or running:
            while waiting and (count is None or len(running) < count):
                job = waiting.pop(0)
                running[remote.remote(job.to_json())] = job
            (ready, *_), _ = ray.wait(list(running), num_returns=1)
            yield _outcome(ray, ready, running.pop(ready))
    finally:
        ray.shutdown()


def _started(address: str, cpus: int) -> Any:
    try:
        import ray
    except ImportError as error:
        raise ConfigError(f"--ray needs ray, which is not here ({error}): pip install 'sam_perception[ray]'") from None
    options: dict[str, Any] = {"address": address, "log_to_driver": False}
    if address == LOCAL:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        options |= {"num_cpus": cpus, "include_dashboard": False}
    for attempt in range(_ATTEMPTS if address == LOCAL else 1):
        try:
            ray.init(**options)
        except Exception as error:  # what it raises for a cluster that does not start is a plain Exception
            ray.shutdown()
            problem = error
            _log.info("attempt %d to start Ray: %s", attempt + 1, error)
        else:
            return ray
    raise ConfigError(
        f"no Ray cluster at {address!r} ({' '.join(str(problem).split())[:200]}): start one with `ray start --head`, "
        "or give --ray local"
    ) from problem


def _answer(job: str) -> dict[str, Any]:
    return asdict(run_job(Job.from_json(job)))


def _outcome(ray: Any, ready: Any, job: Job) -> Outcome:
    try:
        return Outcome(**ray.get(ready))
    except ray.exceptions.RayError as error:
        first = str(error).strip().splitlines()[0]
        return Outcome(job.name, 0.0, f"{type(error).__name__}: {first}")
