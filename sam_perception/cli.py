"""`sam-perception`: the command line."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sam_perception.commands import bench, demo, doctor, export, process, recover, segment, soak
from sam_perception.errors import PerceptionError
from sam_perception.training.commands import add_eval_parser, add_train_parser

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
    segment.add_parser(subparsers)
    export.add_parser(subparsers)
    bench.add_parser(subparsers)
    doctor.add_parser(subparsers)
    recover.add_parser(subparsers)
    soak.add_parser(subparsers)
    add_train_parser(subparsers)
    add_eval_parser(subparsers)
    return parser


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends as Ctrl-C does: what was started is ended, and unfinished files are left as such."""

    def terminate(number: int, frame: object) -> None:
        del frame
        signal.signal(number, signal.SIG_IGN)  # often sent twice, to the process and to its group
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may handle signals
        return
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns 0, or 2 with one line on stderr where something was wrong with the input."""
    arguments = make_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO if arguments.verbose else logging.WARNING)
    try:
        with _ended_by_sigterm():
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
