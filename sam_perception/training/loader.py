"""Processes that render scenes and make batches while the model learns."""

from __future__ import annotations

import multiprocessing as mp
import os
import queue
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam_perception.errors import SourceError
from sam_perception.training.samples import Batch, make_sample, stack

POOL_CLIPS = 128  # clips kept by each process to draw samples from
WAIT_S = 300.0  # a process that has made nothing for so long is taken for dead


@dataclass(frozen=True)
class Demand:
    """What the batches of one stage of training look like."""

    image_size: int
    pictures: int  # pictures in a batch of single pictures
    clips: int  # clips in a batch of clips
    frames: int  # frames of a clip
    objects: int  # objects in each
    clip_share: float  # share of batches that are clips
    difficulty: tuple[float, float]  # of the scenes, 0 to 1, drawn evenly
    uses: float = 2.0  # how many samples are drawn from each rendered frame, on average
    render_px: tuple[int, int] = (256, 256)  # width and height of the scenes, drawn evenly: sharp and less sharp ones
    strides: tuple[int, int] = (1, 4)  # frames of the camera from one frame of a clip to the next


@dataclass
class _Pool:
    rng: np.random.Generator
    clips: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]
    kinds: np.random.Generator  # apart, so that processes that train together turn to clips together
    oldest: int = 0
    credit: float = 0.0  # frames that may still be drawn before another clip is due

    def refresh(self, demand: Demand) -> None:
        """Render clips until there are enough, and enough new ones for what was drawn."""
        from sam_perception.training.scenes import SceneOptions, random_clip

        while len(self.clips) < 12 or self.credit <= 0:
            frames = max(6, demand.frames + 2) if demand.clip_share > 0 else 5
            stride = int(self.rng.integers(demand.strides[0], demand.strides[1] + 1)) if demand.clip_share > 0 else 4
            size = int(self.rng.integers(demand.render_px[0], demand.render_px[1] + 1))
            options = SceneOptions(
                width=size,
                height=size,
                frames=frames,
                stride=stride,
                difficulty=float(self.rng.uniform(*demand.difficulty)),
                max_objects=8,
            )
            clip = random_clip(self.rng, options)
            self.credit += frames * demand.uses
            if len(self.clips) < POOL_CLIPS:
                self.clips.append((clip.rgb, clip.ids))
            else:
                self.clips[self.oldest] = (clip.rgb, clip.ids)
                self.oldest = (self.oldest + 1) % POOL_CLIPS

    def draw(self, demand: Demand, frames: int) -> Batch:
        """One sample of `frames` frames."""
        while True:
            rgb, ids = self.clips[int(self.rng.integers(len(self.clips)))]
            if len(rgb) < frames:
                rgb, ids = (np.concatenate([a, a[::-1]])[:frames] for a in (rgb, ids))
            start = int(self.rng.integers(len(rgb) - frames + 1))
            part = slice(start, start + frames)
            rgb, ids = rgb[part], ids[part]
            if self.rng.random() < 0.5:
                rgb, ids = rgb[::-1], ids[::-1]
            sample = make_sample(self.rng, rgb, ids, demand.image_size, demand.objects)
            if sample is not None:
                self.credit -= frames
                return sample
            self.credit -= 0.5  # so that a pool without any object is replaced in the end
            self.refresh(demand)


def new_pool(seed: int, worker: int, skip: int, rank: int = 0) -> _Pool:
    """An empty pool; the same numbers give the same batches.

    Trailing zeros do not change what a seed gives, so each ends in a number of its own: without them rank 0 would
    have the shared draws, and seed 770000 the scenes that are held out.
    """
    own = np.random.default_rng([seed, worker, skip, rank, 1])
    return _Pool(own, [], kinds=np.random.default_rng([seed, worker, skip, 0, 2]))


def batches(seed: int, worker: int, demand: Demand, skip: int = 0) -> Iterator[Batch]:
    """Endless batches of one process; the same seed, worker and demand give the same ones."""
    pool = new_pool(seed, worker, skip)
    while True:
        yield next_batch(pool, demand)


def next_batch(pool: _Pool, demand: Demand) -> Batch:
    """A batch of single pictures or of clips, as the demand shares them."""
    pool.refresh(demand)
    as_clips = demand.frames > 1 and pool.kinds.random() < demand.clip_share
    count, frames = (demand.clips, demand.frames) if as_clips else (demand.pictures, 1)
    samples = []
    for _ in range(count):
        samples.append(pool.draw(demand, frames))
        pool.refresh(demand)
    return stack(samples)


def _work(numbers: tuple[int, int, int, int], orders: Any, ready: Any) -> None:
    """Make batches until told to end, or until the process that wants them is gone."""
    import cv2

    os.nice(5)  # rendering yields to learning
    cv2.setNumThreads(1)
    pool, parent = new_pool(*numbers), os.getppid()
    number, demand = orders.get()
    while demand is not None and os.getppid() == parent:
        batch = next_batch(pool, demand)
        while orders.empty() and os.getppid() == parent:
            try:
                ready.put((number, batch), timeout=1.0)
                break
            except queue.Full:
                continue
        while not orders.empty():
            number, demand = orders.get()
    ready.cancel_join_thread()


class Loader:
    """Batches from `workers` processes in turn; ends them when closed."""

    def __init__(self, seed: int, workers: int, skip: int = 0, rank: int = 0) -> None:
        context = mp.get_context("spawn")
        self._orders = [context.Queue() for _ in range(workers)]
        self._ready = [context.Queue(4) for _ in range(workers)]
        self._processes = [
            context.Process(target=_work, args=((seed, i, skip, rank), o, r), daemon=True)
            for i, (o, r) in enumerate(zip(self._orders, self._ready, strict=True))
        ]
        for process in self._processes:
            process.start()
        self._number = 0
        self._turn = 0

    def ask(self, demand: Demand) -> None:
        """From now on make batches of this kind; batches of an earlier kind are thrown away."""
        self._number += 1
        for orders in self._orders:
            orders.put((self._number, demand))

    def get(self) -> Batch:
        """The next batch, waiting for it.

        Raises:
            SourceError: a process ended or made nothing for five minutes.
        """
        while True:
            worker = self._turn
            try:
                number, batch = self._ready[worker].get(timeout=WAIT_S)
            except queue.Empty:
                alive = self._processes[worker].is_alive()
                raise SourceError(
                    f"scene process {worker} gave no batch within {WAIT_S:.0f} s (alive: {alive}): "
                    "see its traceback above, or run with fewer workers"
                ) from None
            self._turn = (worker + 1) % len(self._ready)
            if number == self._number:
                made: Batch = batch
                return made

    def close(self) -> None:
        """End the processes."""
        for orders in self._orders:
            orders.put((0, None))
        for process, ready in zip(self._processes, self._ready, strict=True):
            process.terminate()  # it may be waiting to hand over a batch that nobody will take
            process.join(timeout=5)
            ready.cancel_join_thread()

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
