"""The same targets with coverage-guided bytes, for as long as one likes.

    pip install atheris
    PYTHONPATH=test/fuzz python test/fuzz/fuzz_atheris.py "prompts.yaml" -max_total_time=300

The first argument names a target of `fuzz_cases.TARGETS`; the others are libFuzzer's. A crash or a
hang is written to a file, which the same command with that file as its last argument repeats.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory


def main() -> None:
    """Fuzz one target; ends only by a finding or by libFuzzer's own limits."""
    try:
        import atheris
    except ImportError:
        sys.exit("atheris is not installed: pip install atheris")
    with atheris.instrument_imports(include=["sam_perception"]):
        from fuzz_cases import TARGETS, seeds, survives
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"name a target: {', '.join(TARGETS)}")
    name = sys.argv.pop(1)
    with TemporaryDirectory() as corpus:
        for number, raw in enumerate(seeds(name)):
            (Path(corpus) / str(number)).write_bytes(raw)
        atheris.Setup([*sys.argv, "-timeout=30", corpus], lambda raw: survives(name, raw))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
