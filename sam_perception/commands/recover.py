"""`sam-perception recover`: a recording that was cut off becomes readable."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

EPILOG = """
example:
  sam-perception recover demo_output/bag

The file is changed in place: what was being written when the recorder was killed is cut off.
"""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "recover",
        help="complete a rosbag2 (mcap) whose recorder was killed",
        description="Complete a rosbag2 (mcap) whose recorder was killed, so that it can be played up to there.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bag", type=Path, help="its folder, without a metadata.yaml")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the subcommand."""
    from sam_perception.sources.bag_recovery import recover_bag

    count = recover_bag(arguments.bag)
    sys.stdout.write(f"{arguments.bag} has {count} messages and can be read\n")
    return 0
