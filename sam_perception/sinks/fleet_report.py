"""What became of many recordings: one table for programs, one page with links for people."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from sam_perception.scene import ObjectState
from sam_perception.sinks.report_page import GENERATOR, STYLE

_STATES = tuple(state.name.lower() for state in ObjectState)
_STYLE = "a{color:#58a6ff}.failed td{color:#e58a90;text-align:left!important}"
_OBJECT_COLUMNS = ("object", "frames", *_STATES, "longest gap", "with position")
_COLUMNS = ("recording", "state", "recording frames", "rejected", *_OBJECT_COLUMNS, "error")


@dataclass(frozen=True)
class Recording:
    """One recording's results in short."""

    name: str
    frames: int = 0
    rejected: int = 0
    objects: tuple[Mapping[str, str], ...] = ()  # rows of `RunHistory.rows`, by its header
    report: str = ""  # path of its own page, relative to the fleet's; empty without one
    error: str = ""  # empty: done

    def rows(self) -> list[tuple[str, ...]]:
        """Lines of the table: one for each object, one where there is none."""
        head = (self.name, "failed" if self.error else "done", str(self.frames), str(self.rejected))
        empty: tuple[Mapping[str, str], ...] = ({},)
        return [(*head, *(o.get(c, "") for c in _OBJECT_COLUMNS), self.error) for o in self.objects or empty]


def write_csv(path: Path, recordings: Sequence[Recording]) -> None:
    """One line per recording and object."""
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(_COLUMNS)
        for recording in recordings:
            table.writerows(recording.rows())


def write_page(path: Path, recordings: Sequence[Recording]) -> None:
    """The same as a page, with links to each recording's folder and report."""
    failed = sum(bool(r.error) for r in recordings)
    figures = [
        (len(recordings), "recordings"),
        (failed, "failed"),
        (sum(r.frames for r in recordings), "frames"),
        (sum(len(r.objects) for r in recordings), "objects"),
    ]
    boxes = "".join(f"<div><b>{number}</b><span>{what}</span></div>" for number, what in figures)
    header = ("recording", "frames", "rejected", *_OBJECT_COLUMNS, "results")
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(_rows(recording) for recording in recordings)
    path.write_text(
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">{GENERATOR}'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>sam_perception: recordings</title>'
        f"<style>{STYLE}{_STYLE}</style></head><body><main>"
        f'<h1>Recordings</h1><div class="figures">{boxes}</div><h2>Objects</h2>'
        f'<div class="card scroll"><table><tr>{head}</tr>{body}</table></div></main></body></html>\n',
        encoding="utf-8",
    )


def _rows(recording: Recording) -> str:
    if recording.error:
        name, width = escape(recording.name), len(_OBJECT_COLUMNS) + 3
        return f'<tr class="failed"><td>{name}</td><td colspan="{width}">{escape(recording.error)}</td></tr>'
    links = [("bag", f"{recording.name}/bag"), ("objects.csv", f"{recording.name}/objects.csv")]
    links += [("report", recording.report)] if recording.report else []
    results = " ".join(f'<a href="{escape(target)}">{escape(text)}</a>' for text, target in links)
    lines = []
    for number, row in enumerate(recording.rows()):
        head = (row[0], *row[2:4]) if number == 0 else ("", "", "")
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in (*head, *row[4:-1]))
        lines.append(f"<tr>{cells}<td>{results if number == 0 else ''}</td></tr>")
    return "".join(lines)
