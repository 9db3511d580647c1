"""Processes that work off recordings, one after the other each: a crash costs one recording.

A worker reads one job per line from its standard input and answers with one line each. What libraries
print goes to its standard error, so that it cannot get between the answers.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict

from sam_perception.commands.fleet_job import Job, Outcome, run_job


class Worker:
    """One process; started when it is needed, and again after a crash.

    Args:
        environment: variables beside those of this process.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = {**os.environ, **environment}
        self._process: subprocess.Popen[str] | None = None
        self._closed = False
        self._lock = threading.Lock()

    def run(self, job: Job) -> Outcome:
        """One job; a process that dies over it is an outcome too."""
        start = time.perf_counter()
        try:
            process = self._started()
            assert process.stdin is not None  # noqa: S101 - both are pipes
            assert process.stdout is not None  # noqa: S101
            process.stdin.write(job.to_json() + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except OSError:
            answer = ""
        if answer:
            return Outcome(**json.loads(answer))
        return Outcome(job.name, time.perf_counter() - start, f"WorkerDied: {self._reason()}")

    def _started(self) -> subprocess.Popen[str]:
        with self._lock:
            if self._closed:
                raise BrokenPipeError
            if self._process is None or self._process.poll() is not None:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "sam_perception.commands.fleet_worker"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    env=self._environment,
                )
            return self._process

    def _reason(self) -> str:
        process, self._process = self._process, None
        if process is None:
            return "the worker could not be started"
        code = process.wait()
        if code >= 0:
            return f"the worker ended with exit code {code}; its messages are above"
        hint = "; was it out of memory?" if code == -9 else ""
        return f"the worker was ended by signal {-code}{hint}"

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._closed, process = True, self._process
        if process is not None and process.poll() is None:
            process.terminate()
            process.wait()


def run_in_processes(jobs: Sequence[Job], count: int, gpus: int) -> Iterator[Outcome]:
    """Outcomes in the order in which jobs end.

    Args:
        jobs: what is to be done.
        count: of processes.
        gpus: of this machine; each process sees one of them, in turn. 0: nothing is said about GPUs.
    """
    workers = [Worker({"CUDA_VISIBLE_DEVICES": str(k % gpus)} if gpus else {}) for k in range(count)]
    idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
    for worker in workers:
        idle.put(worker)

    def work(job: Job) -> Outcome:
        worker = idle.get()
        try:
            return worker.run(job)
        finally:
            idle.put(worker)

    with ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(work, job) for job in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            for future in futures:
                future.cancel()
            for worker in workers:
                worker.close()


def serve() -> None:
    """Answer jobs from standard input until it ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        outcome = run_job(Job.from_json(line))
        answers.write(json.dumps(asdict(outcome)) + "\n")
        answers.flush()


if __name__ == "__main__":
    try:
        serve()
    except KeyboardInterrupt:
        sys.exit(130)
