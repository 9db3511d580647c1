"""`sam-perception eval`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam_perception.errors import ConfigError
from sam_perception.files import replaced

if TYPE_CHECKING:
    from sam_perception.training.scoring import Score

EVAL_EPILOG = """
examples:
  sam-perception eval DIR                                   labelled pictures or a labelled clip
  sam-perception eval DIR DIR2 --model runs/mine/model --out report
  sam-perception eval DIR --still-object 1:250,200,330,290  RGB-D with poses: how far an object at rest wanders
  sam-perception eval --synthetic 40                        rendered clips that training has not seen

DIR has color/NAME.jpg|png and labels/NAME.png with instance ids; info.json with "type": "stills" marks single
pictures, everything else is a clip. J, F and J&F are DAVIS'; a clip's first and last frames do not count.
"""


def add_eval_parser(subparsers: Any) -> None:
    """Add `eval`."""
    parser = subparsers.add_parser(
        "eval",
        help="measure a model: J and F, IoU by kind of prompt, wander of objects at rest",
        epilog=EVAL_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("data", type=Path, nargs="*", metavar="DIR", help="recordings")
    parser.add_argument("--model", default="nano", help="name or directory (default %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default %(default)s)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write scores.csv and worst.png here")
    parser.add_argument("--ignore", type=int, nargs="*", metavar="ID", help="label ids that are no objects")
    parser.add_argument("--no-baselines", action="store_true", help="leave out the filled box and GrabCut")
    parser.add_argument(
        "--still-object", action="append", default=[], metavar="ID:X0,Y0,X1,Y1", help="box around an object at rest"
    )
    parser.add_argument("--synthetic", type=int, metavar="N", help="also N rendered clips")
    parser.set_defaults(run=run_eval)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


def run_eval(arguments: argparse.Namespace) -> int:
    """Measure.

    Raises:
        ConfigError: nothing to measure on, or a malformed option.
    """
    if arguments.synthetic is not None and arguments.synthetic < 1:
        raise ConfigError(f"--synthetic is {arguments.synthetic}: give the number of clips, 1 or more")
    if not arguments.data and arguments.synthetic is None:
        raise ConfigError("nothing to measure on: name a recording, or --synthetic N")
    from sam_perception.segmentation import load_model

    model = load_model(arguments.model, arguments.device, "float32")
    boxes = dict(parse_box(text) for text in arguments.still_object)
    scores = []
    for path in arguments.data:
        scores += _evaluate_folder(model, path, arguments, boxes)
    if scores:
        _tell(scores, arguments.out)
    if arguments.synthetic is not None:
        _evaluate_synthetic(model, arguments.synthetic)
    return 0


def parse_box(text: str) -> tuple[int, tuple[float, float, float, float]]:
    """`ID:X0,Y0,X1,Y1`.

    Raises:
        ConfigError: of another form.
    """
    try:
        number, _, corners = text.partition(":")
        x0, y0, x1, y1 = (float(v) for v in corners.split(","))
        return int(number), (x0, y0, x1, y1)
    except ValueError:
        raise ConfigError(f"--still-object {text!r}: write ID:X0,Y0,X1,Y1, for example 1:250,200,330,290") from None


def _evaluate_folder(
    model: Any, path: Path, arguments: argparse.Namespace, boxes: dict[int, tuple[float, float, float, float]]
) -> list[Score]:
    from tqdm import tqdm

    from sam_perception.sinks.text_table import text_table
    from sam_perception.training.recordings import Recording
    from sam_perception.training.scoring import score_clip, score_stills

    recording = Recording(path, arguments.ignore)
    if boxes:
        from sam_perception.training.wander import measure_wander

        found = measure_wander(model, recording, boxes)
        rows = [
            [f"{w.recording} {w.object_id}", f"{w.seen}/{w.frames}", f"{1e3 * w.rms_m:.1f}", f"{1e3 * w.p95_m:.1f}"]
            for w in found
        ]
        _say(text_table(("object at rest", "frames seen", "wander rms mm", "p95 mm"), rows))
    if not (path / "labels").is_dir():
        return []
    baselines = not arguments.no_baselines
    scored = score_stills(model, recording, baselines=baselines) if recording.stills else score_clip(model, recording)
    return list(tqdm(scored, desc=recording.name, unit="mask"))


def _tell(scores: Sequence[Score], out: Path | None) -> None:
    import csv

    from sam_perception.sinks.text_table import text_table
    from sam_perception.training.pictures import worst_cases, write_png
    from sam_perception.training.scoring import BASELINES, mean_by_prompt

    means = mean_by_prompt(scores)
    rows = [[f"{n}, {p}", str(c), f"{j:.3f}", f"{f:.3f}", f"{(j + f) / 2:.3f}"] for (n, p), (j, f, c) in means.items()]
    _say(text_table(("recording, prompt", "masks", "J", "F", "J&F"), rows))
    if out is None:
        return
    out.mkdir(parents=True, exist_ok=True)
    with replaced(out / "scores.csv") as part, part.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["recording", "frame", "object", "prompt", "J", "F", "J&F"])
        writer.writerows(
            [s.recording, s.frame, s.object_id, s.prompt, f"{s.j:.4f}", f"{s.f:.4f}", f"{s.mean:.4f}"] for s in scores
        )
    write_png(out / "worst.png", worst_cases([s for s in scores if s.prompt not in BASELINES]))
    _say(f"every mask in {out / 'scores.csv'}, the worst in {out / 'worst.png'}")


def _evaluate_synthetic(model: Any, count: int) -> None:
    from tqdm import tqdm

    from sam_perception.sinks.text_table import text_table
    from sam_perception.training.synthetic import held_out_clips, score_synthetic

    clips = tqdm(held_out_clips(count), total=count, desc="rendered clips")
    tallies = score_synthetic(model, clips)
    names = ("J prompted", "J visible", "hidden said", "found again", "visible denied", "hidden frames", "returns")
    rows = []
    for kind, tally in tallies.items():
        values = tally.summary()
        rows.append([kind, *(f"{values[n]:.0f}" if n in names[-2:] else f"{values[n]:.3f}" for n in names)])
    _say(text_table(("prompt", *names), rows))
