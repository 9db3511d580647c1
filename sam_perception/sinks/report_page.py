"""The report's page: one HTML text without scripts, fonts or anything else from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from sam_perception.overlay import color_of
from sam_perception.scene import ObjectState
from sam_perception.sinks.history import ObjectHistory, RunHistory
from sam_perception.sinks.svg import Floats, Series, bars, css_color, line_plot, map_plot

GENERATOR = '<meta name="generator" content="sam_perception">'
_AXES = ("x, to the right", "y, downward", "z, away from the camera")
_STATE_CLASS = {state: state.name.lower() for state in ObjectState}

_SCENE_LEGEND = (
    "Best grasp of each object: green, amber where its width is a lower bound. Obstacles have colours of their own, "
    "walls are grey, tables brown, what is unknown pink; crosses: nearest points; green line: the ground's outline."
)

STYLE = """
:root{--bg:#12151b;--card:#1a1f28;--line:#2b3240;--text:#e6eaf0;--dim:#93a0b4}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--text);font:15px/1.5 system-ui,"DejaVu Sans",sans-serif}
main{max-width:1240px;margin:0 auto;padding:28px 20px 60px}
h1{font-size:26px;margin:0 0 2px}h2{font-size:18px;margin:34px 0 10px}p{margin:4px 0;color:var(--dim)}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:14px}
.figures{display:flex;flex-wrap:wrap;gap:10px;margin-top:18px}
.figures div{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:8px 16px;min-width:120px}
.figures b{display:block;font-size:20px}.figures span{color:var(--dim);font-size:13px}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th{font-weight:600;color:var(--dim);font-size:13px}
th,td{text-align:right;padding:5px 10px;border-bottom:1px solid var(--line);white-space:nowrap}
th:first-child,td:first-child{text-align:left}tr:last-child td{border-bottom:0}
td:last-child:not(:first-child){white-space:normal;min-width:110px}
.swatch{display:inline-block;width:11px;height:11px;border-radius:3px;margin-right:8px}
video{width:100%;max-width:860px;border-radius:10px;border:1px solid var(--line);display:block}
.pictures{display:grid;grid-template-columns:repeat(auto-fill,minmax(270px,1fr));gap:10px}
figure{margin:0}figure img{width:100%;border-radius:8px;display:block}
figcaption{color:var(--dim);font-size:13px}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(340px,1fr));gap:12px}
svg{width:100%;height:auto;display:block}
svg .grid{stroke:var(--line);stroke-width:1}svg .tick{fill:var(--dim);font-size:10.5px}
svg .title{fill:var(--text);font-size:12px}svg .name{fill:var(--text);font-size:12.5px}
svg .line{fill:none;stroke-width:1.8;stroke-linejoin:round}svg .band{opacity:.22}
.tracked{fill:#3fb871}.reacquired{fill:#58a6ff}.occluded{fill:#e3a33b}.lost{fill:#d0505a}
.legend{display:flex;flex-wrap:wrap;gap:18px;color:var(--dim);font-size:13px;margin-top:8px}
.legend svg{display:inline-block;width:12px;height:12px;margin-right:6px;vertical-align:-1px}
details{margin-top:14px}summary{cursor:pointer;font-weight:600;margin-bottom:8px}
ul{margin:0;padding-left:20px;color:var(--dim)}
"""


@dataclass(frozen=True)
class Table:
    """Rows of text under a title."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    appendix: bool = False  # folded away at the end of the page


def render_page(
    history: RunHistory,
    *,
    title: str,
    source: str,
    independent: bool,
    tables: Sequence[Table],
    pictures: Sequence[tuple[int, str]],
    scene_tables: Sequence[Table],
    scene_pictures: Sequence[tuple[int, str]],
    video: str | None,
) -> str:
    """The whole page; both kinds of pictures are frame indices with paths relative to it."""
    objects = [history.objects[i] for i in sorted(history.objects)]
    x_label = "scene" if independent else "s"
    x = np.arange(len(history.stamps_ns), dtype=np.float64) if independent else history.seconds()
    parts = [f"<h1>{escape(title)}</h1><p>{escape(source)}</p>", _figures(history, independent)]
    parts += [_table(table) for table in tables if not table.appendix]
    if video is not None:
        parts.append(f'<h2>Overlay</h2><video controls muted loop playsinline src="{escape(video)}"></video>')
    if objects:
        parts += [_objects(objects), _states(objects, x, x_label)]
        if independent:
            parts.append(_table(_places(objects)))
        else:
            parts += [_paths(objects), *(_centroids(one, x, x_label) for one in objects)]
    parts += [_table(table) for table in scene_tables]
    parts += [_pictures("Grasps and obstacles", scene_pictures, x, independent, _SCENE_LEGEND)]
    parts += [_pictures("Pictures", pictures, x, independent), _timings(history), _notes(history)]
    parts += [_folded(table) for table in tables if table.appendix]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">{GENERATOR}'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style></head><body><main>{''.join(parts)}</main></body></html>\n"
    )


def _figures(history: RunHistory, independent: bool) -> str:
    seconds = history.seconds()
    duration = f"{seconds[-1]:.1f} s" if seconds.size and not independent else "-"
    figures = [(str(len(history.stamps_ns)), "scenes" if independent else "frames"), (duration, "recorded time")]
    figures += [(str(len(history.objects)), "objects"), (str(len(history.notes)), "notes")]
    return '<div class="figures">' + "".join(f"<div><b>{b}</b><span>{s}</span></div>" for b, s in figures) + "</div>"


def _folded(table: Table) -> str:
    return f"<details><summary>{escape(table.title)}</summary>{_grid(table)}</details>"


def _table(table: Table) -> str:
    return f"<h2>{escape(table.title)}</h2>{_grid(table)}"


def _grid(table: Table) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in table.header)
    rows = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    note = f"<p>{escape(table.note)}</p>" if table.note else ""
    return f'<div class="card scroll"><table><tr>{head}</tr>{rows}</table></div>{note}'


def _swatch(one: ObjectHistory) -> str:
    return f'<i class="swatch" style="background:{css_color(color_of(one.id))}"></i>{escape(one.name)}'


def _median(values: Sequence[float] | Floats, unit: str, scale: float = 1.0, digits: int = 1) -> str:
    known = np.asarray(values, np.float64)
    known = known[np.isfinite(known)]
    return f"{np.median(known) * scale:.{digits}f} {unit}".rstrip() if known.size else "-"


def _objects(objects: Sequence[ObjectHistory]) -> str:
    header = ["object", "frames", "tracked", "reacquired", "occluded", "lost", "longest gap", "score", "mask"]
    header += ["with depth", "centroid &sigma;"]
    rows = []
    for one in objects:
        seen = [i for i, state in enumerate(one.states) if state.visible]
        cells = [str(len(one.frames))]
        cells += [str(one.count(state)) for state in (ObjectState.TRACKED, ObjectState.REACQUIRED)]
        cells += [str(one.count(state)) for state in (ObjectState.OCCLUDED, ObjectState.LOST)]
        cells += [str(one.longest_gap()), _median([one.scores[i] for i in seen], "", digits=2)]
        cells += [_median([one.areas_px[i] for i in seen], "px", digits=0)]
        cells += [_median([one.depth_shares[i] for i in seen], "%", 100, 0)]
        cells += [_median(np.linalg.norm(np.reshape(one.sigmas_m, (-1, 3)), axis=1), "mm", 1000)]
        rows.append(f"<tr><td>{_swatch(one)}</td>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    head = "".join(f"<th>{cell}</th>" for cell in header)
    return (
        f'<h2>Objects</h2><div class="card scroll"><table><tr>{head}</tr>{"".join(rows)}</table></div>'
        "<p>Score, mask, depth and &sigma; are medians over the frames in which the object is seen.</p>"
    )


def _states(objects: Sequence[ObjectHistory], x: Floats, x_label: str) -> str:
    rows = []
    for one in objects:
        kinds = [""] * len(x)
        for frame, state in zip(one.frames, one.states, strict=True):
            kinds[frame] = _STATE_CLASS[state]
        rows.append((one.name, css_color(color_of(one.id)), kinds))
    keys = "".join(
        f'<span><svg viewBox="0 0 12 12"><rect class="{name}" width="12" height="12" rx="2"/></svg>{name}</span>'
        for name in _STATE_CLASS.values()
    )
    return f'<h2>States</h2><div class="card">{bars(x_label, x, rows)}<div class="legend">{keys}</div></div>'


def _per_frame(one: ObjectHistory, values: Sequence[Floats], frames: int) -> Floats:
    """(F, 3) with NaN where the object has no entry."""
    spread = np.full((frames, 3), np.nan)
    spread[one.frames] = np.reshape(values, (-1, 3))
    return spread


def _paths(objects: Sequence[ObjectHistory]) -> str:
    series = []
    for one in objects:
        path = np.reshape(one.centroids_m, (-1, 3))
        series.append(Series(one.name, css_color(color_of(one.id)), path[:, 0], path[:, 2]))
    plot = map_plot("z, away from the camera (m)", "x, to the right (m)", series, width=860, height=420)
    text = "Ring: first seen, dot: last seen. Camera coordinates: a moving camera moves everything."
    return f'<h2>Tracks from above</h2><div class="card" style="max-width:900px">{plot}<p>{text}</p></div>'


def _places(objects: Sequence[ObjectHistory]) -> Table:
    """Where the objects of separate scenes are, scene by scene."""
    rows = []
    for one in objects:
        for frame, state, centroid, sigma in zip(one.frames, one.states, one.centroids_m, one.sigmas_m, strict=True):
            cells = [f"{value:.4f}" if np.isfinite(value) else "-" for value in (*centroid, np.linalg.norm(sigma))]
            rows.append((frame, one.id, (f"scene {frame}: {one.name}", state.name.lower(), *cells)))
    header = ("object", "state", "x (m)", "y (m)", "z (m)", "\u03c3 (m)")
    return Table("Centroids", header, tuple(row for _, _, row in sorted(rows)))


def _centroids(one: ObjectHistory, x: Floats, x_label: str) -> str:
    color = css_color(color_of(one.id))
    centroids, sigmas = (_per_frame(one, values, len(x)) for values in (one.centroids_m, one.sigmas_m))
    plots = []
    for axis, name in enumerate(_AXES):
        series = [Series(one.name, color, x, centroids[:, axis], 2 * sigmas[:, axis])]
        plots.append(f'<div class="card">{line_plot(f"{name} (m)", x_label, series, least=0.02)}</div>')
    return (
        f'<h2 id="object-{one.id}">{_swatch(one)}: centroid</h2><div class="plots">{"".join(plots)}</div>'
        "<p>Line: centroid; band: two standard deviations; gaps: not seen, or too little depth.</p>"
    )


def _pictures(title: str, pictures: Sequence[tuple[int, str]], x: Floats, independent: bool, text: str = "") -> str:
    figures = "".join(
        f'<figure><img loading="lazy" src="{escape(path)}" alt="frame {index}">'
        f"<figcaption>{'scene' if independent else 'frame'} {index}"
        f"{'' if independent else f', {x[index]:.2f} s'}</figcaption></figure>"
        for index, path in pictures
    )
    legend = f"<p>{escape(text)}</p>" if text else ""
    return f'<h2>{escape(title)}</h2>{legend}<div class="pictures">{figures}</div>' if figures else ""


def _timings(history: RunHistory) -> str:
    rows = []
    for stage, spent in history.timings_ms.items():
        p50, p95, p99 = np.percentile(spent, [50, 95, 99])
        rows.append((stage, f"{p50:.1f} ms", f"{p95:.1f} ms", f"{p99:.1f} ms", f"{max(spent):.1f} ms"))
    return _table(Table("Time per frame", ("stage", "p50", "p95", "p99", "max"), tuple(rows))) if rows else ""


def _notes(history: RunHistory) -> str:
    if not history.notes:
        return ""
    lines = "".join(f"<li>{escape(note)}</li>" for note in history.notes[:200])
    more = f"<p>and {len(history.notes) - 200} more</p>" if len(history.notes) > 200 else ""
    return f'<h2>Notes</h2><div class="card"><ul>{lines}</ul>{more}</div>'
