"""`sam-perception`: the command line."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from sam_perception.commands import demo, process
from sam_perception.errors import PerceptionError

EPILOG = """
examples:
  sam-perception demo
  sam-perception process recording.bag out.bag --prompts prompts.yaml --report report
  sam-perception COMMAND --help
"""


def make_parser() -> argparse.ArgumentParser:
    """The parser with all subcommands; nothing heavy is imported for it."""
    parser = argparse.ArgumentParser(
        prog="sam-perception",
        description="Keep sight of things: RGB-D in, tracked objects in three dimensions out.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="log what is done, and tracebacks of errors")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    demo.add_parser(subparsers)
    process.add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns 0, or 2 with one line on stderr where something was wrong with the input."""
    arguments = make_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO if arguments.verbose else logging.WARNING)
    try:
        return int(arguments.run(arguments))
    except PerceptionError as error:
        if arguments.verbose:
            logging.exception("%s", error.kind)
        sys.stderr.write(f"sam-perception: {error.kind}: {' '.join(str(error).split())}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("sam-perception: interrupted\n")
        return 130


if __name__ == "__main__":
    sys.exit(main())
