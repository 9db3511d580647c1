"""Processes that train one model together: each has its own batches, gradients are averaged."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn


class Peers:
    """A group of `world` processes that share gradients; on CPU one process per core beats threads.

    Args:
        rank: of this process, from 0.
        world: how many there are.
        meeting: a file that does not exist yet, in a folder that all can write to.
    """

    def __init__(self, rank: int = 0, world: int = 1, meeting: Path | None = None, backend: str = "gloo") -> None:
        self.rank, self.world = rank, world
        if world > 1 and meeting is not None:
            dist.init_process_group(backend, init_method=f"file://{meeting}", rank=rank, world_size=world)

    @property
    def first(self) -> bool:
        """Whether this process writes logs and checkpoints."""
        return self.rank == 0

    def average(self, parameters: Iterable[nn.Parameter], told: float) -> float:
        """Average the gradients in place; returns what the first process `told`."""
        if self.world == 1:
            return told
        grown = [p for p in parameters if p.requires_grad]
        for p in grown:
            if p.grad is None:  # a prompt kind that this process did not draw
                p.grad = torch.zeros_like(p)
        grads: list[Tensor] = [p.grad for p in grown if p.grad is not None]
        word = torch.full((1,), told * self.world if self.first else 0.0, device=grads[0].device, dtype=torch.float64)
        flat = torch.cat([g.flatten() for g in grads])
        dist.all_reduce(word)
        dist.all_reduce(flat)
        flat /= self.world
        for grad, part in zip(grads, torch.split(flat, [g.numel() for g in grads]), strict=True):
            grad.copy_(part.view_as(grad))
        return float(word) / self.world

    def close(self) -> None:
        """Leave the group."""
        if self.world > 1:
            dist.destroy_process_group()
