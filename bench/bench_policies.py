"""The memory policies on rendered clips with look-alikes, long occlusions and returns.

    python bench/bench_policies.py                        21 clips of 48 frames, as in docs/tracking.md
    python bench/bench_policies.py --clips 6 --out /tmp   quicker
    python bench/bench_policies.py --model DIR

Every policy sees the same clips and the same prompts. Writes policies.json and policies.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sam_perception.config import PerceptionConfig
from sam_perception.segmentation import load_model
from sam_perception.settings import with_settings
from sam_perception.training.identities import IdentityTally, follow_clip
from sam_perception.training.scenes.lookalikes import EVENTS, Event, lookalike_clip, stamps_ns

POLICIES = ("fifo", "distractor_aware", "gated_3d")
COLUMNS = ("J visible", "absent said", "returns found", "switches", "frames on another")
SEED = 880_000  # training draws from other sequences


def measure(
    model: Any, policies: Sequence[str], clips: int, frames: int, settings: dict[str, Any]
) -> dict[str, dict[str, dict[str, float]]]:
    """Summaries by policy, and in it by event and over all."""
    tallies = {p: {e: IdentityTally() for e in (*EVENTS, "all")} for p in policies}
    for k in range(clips):
        event: Event = EVENTS[k % len(EVENTS)]
        clip = lookalike_clip(np.random.default_rng([SEED, k]), event, frames=frames)
        for policy in policies:
            config = with_settings(PerceptionConfig(), {**settings, "tracker.memory_policy": policy})
            follow_clip(model, clip, stamps_ns(frames), config, tallies[policy][event])
        sys.stderr.write(f"clip {k + 1} of {clips}\n")
    for of_policy in tallies.values():
        for event in EVENTS:
            _add(of_policy["all"], of_policy[event])
    return {p: {e: tally.summary() for e, tally in of_policy.items()} for p, of_policy in tallies.items()}


def _add(total: IdentityTally, part: IdentityTally) -> None:
    total.visible_j += part.visible_j
    total.absent_said += part.absent_said
    total.found += part.found
    total.switches += part.switches
    total.elsewhere += part.elsewhere


def as_markdown(results: dict[str, dict[str, dict[str, float]]], about: str) -> str:
    """One table: events, and in each the policies."""
    counts = {e: next(iter(results.values()))[e] for e in (*EVENTS, "all")}
    lines = [about, "", "| clips | policy | " + " | ".join(COLUMNS) + " |", "| --- " * (len(COLUMNS) + 2) + "|"]
    for event in (*EVENTS, "all"):
        c = counts[event]
        name = (
            f"{event}: {c['visible frames']:.0f} visible, {c['absent frames']:.0f} absent frames, "
            f"{c['returns']:.0f} returns"
        )
        for policy, of_policy in results.items():
            cells = [_cell(column, of_policy[event][column]) for column in COLUMNS]
            lines.append(f"| {name} | {policy} | " + " | ".join(cells) + " |")
            name = ""
    return "\n".join(lines) + "\n"


def _cell(column: str, value: float) -> str:
    if np.isnan(value):
        return "-"
    return f"{value:.0f}" if column in ("switches", "frames on another") else f"{value:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano", help="name or checkpoint folder")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--policies", nargs="+", default=POLICIES, choices=POLICIES)
    parser.add_argument("--clips", type=int, default=21)
    parser.add_argument("--frames", type=int, default=48)
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=NUMBER", help="tracker.reliable_mask_score=0.7"
    )
    parser.add_argument("--out", type=Path, default=Path())
    args = parser.parse_args()
    settings = {name: json.loads(value) for name, _, value in (s.partition("=") for s in args.set)}
    start = time.perf_counter()
    results = measure(load_model(args.model, args.device), args.policies, args.clips, args.frames, settings)
    about = (
        f"{args.model}, {args.clips} clips of {args.frames} frames (256 x 256, RGB-D, 15 Hz), seeds [{SEED}, k], "
        f"torch {torch.__version__}, {platform.machine()} with {os.cpu_count()} cores"
        + (f", {' '.join(args.set)}" if args.set else "")
        + f"; {time.perf_counter() - start:.0f} s"
    )
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "policies.json").write_text(json.dumps({"about": about, "results": results}, indent=1) + "\n")
    (args.out / "policies.md").write_text(as_markdown(results, about))
    sys.stdout.write(as_markdown(results, about))


if __name__ == "__main__":
    main()
