"""`sam-perception train`, and the way in for `sam-perception eval`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from sam_perception.errors import ConfigError
from sam_perception.training.eval_command import add_eval_parser

__all__ = ["add_eval_parser", "add_train_parser"]

BAR_AFTER_S = 5.0  # what is refused is refused before, and then stands on a line of its own
TRAIN_EPILOG = """
examples:
  sam-perception train --out runs/nano --minutes 480 --processes 8      nano from scratch, on rendered scenes
  sam-perception train --out runs/nano --minutes 480 --resume           go on where it stopped
  sam-perception train --start nano --recipe further --out runs/more --minutes 90 --processes 2 --compile
                                                                        go on with the weights that ship
  sam-perception train --recipe further --out runs/more --minutes 90 --processes 2 --compile --resume
                                                                        and with that run, where it stopped
  sam-perception train --from nano --data DIR --out runs/mine           fine-tune on your own pictures
  sam-perception train --from sam2.1-hiera-tiny --data DIR --out runs/mine --checkpointing --device cuda
  accelerate launch --num_processes 4 -m sam_perception.cli train --from sam2.1-hiera-tiny --data DIR --out runs/mine

DIR has either COCO jsons (images, annotations with polygons or run lengths; pictures beside them or in images/),
or color/NAME.jpg|png with labels/NAME.png of instance ids (0 background; labels.json may name ids that are none).
Of a clip one stretch of frames is held out; info.json with "type": "stills" marks single pictures, held out at random.
The result is a model directory, OUT/model, for --model and the node's parameter `model`.
"""


def add_train_parser(subparsers: Any) -> None:
    """Add `train`."""
    parser = subparsers.add_parser(
        "train",
        help="train the nano model from scratch on rendered scenes, or fine-tune a model on your own pictures",
        epilog=TRAIN_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where checkpoint, log and model go")
    parser.add_argument("--seed", type=int, default=0, help="of weights, scenes and draws (default %(default)s)")
    parser.add_argument("--steps", type=int, default=0, help="length of the course (fine-tuning: default 200)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default %(default)s)")
    parser.add_argument("--learning-rate", type=float, metavar="X", help="default: the recipe's; fine-tuning: 5e-5")
    scratch = parser.add_argument_group("from scratch")
    scratch.add_argument(
        "--minutes", type=float, default=0.0, help="length of the course, in place of --steps; those of --compile count"
    )
    scratch.add_argument(
        "--recipe",
        default="nano",
        help="nano, further or polish (with --start), or tiny to see that it runs (default %(default)s)",
    )
    scratch.add_argument(
        "--start", metavar="MODEL", help="weights of nano's shape, or with fewer blocks in the encoder, to begin with"
    )
    scratch.add_argument("--compile", action="store_true", help="by torch.compile: minutes first, faster steps then")
    scratch.add_argument(
        "--resume",
        action="store_true",
        help="go on from the checkpoint in --out, with the recipe and the seed it was begun with",
    )
    scratch.add_argument("--processes", type=int, default=1, metavar="N", help="that average gradients; one per core")
    scratch.add_argument("--workers", type=int, default=1, metavar="N", help="rendering processes for each of them")
    scratch.add_argument("--threads", type=int, default=0, metavar="N", help="of torch in each (default: its own)")
    tuning = parser.add_argument_group("fine-tuning")
    tuning.add_argument("--from", dest="source", metavar="MODEL", help="model name or directory to start from")
    tuning.add_argument("--data", type=Path, metavar="DIR", help="labelled pictures")
    tuning.add_argument(
        "--freeze",
        nargs="*",
        default=["image_encoder", "memory"],
        metavar="PART",
        help="image_encoder, prompt_encoder, mask_decoder, memory (default: image_encoder memory)",
    )
    tuning.add_argument("--batch", type=int, default=2, metavar="N", help="pictures in a step (default %(default)s)")
    tuning.add_argument("--objects", type=int, default=4, metavar="N", help="of each picture (default %(default)s)")
    tuning.add_argument("--validation-share", type=float, default=0.2, metavar="X", help="default %(default)s")
    tuning.add_argument("--precision", choices=("bf16", "fp32"), default="bf16", help="default %(default)s")
    tuning.add_argument("--checkpointing", action="store_true", help="recompute activations, to save memory")
    tuning.add_argument("--ignore", type=int, nargs="*", metavar="ID", help="label ids that are no objects")
    parser.set_defaults(run=run_train)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


def run_train(arguments: argparse.Namespace) -> int:
    """Train or fine-tune.

    Raises:
        ConfigError: options that do not go together.
    """
    if (arguments.source is None) != (arguments.data is None):
        raise ConfigError("fine-tuning takes both --from MODEL and --data DIR; training from scratch takes neither")
    if arguments.source is None:
        return _from_scratch(arguments)
    if arguments.minutes or arguments.resume or arguments.start or arguments.compile:
        raise ConfigError(
            "--minutes, --resume, --start and --compile are for training on rendered scenes: "
            "fine-tuning takes --steps and begins with --from"
        )
    return _fine_tune(arguments)


def _from_scratch(arguments: argparse.Namespace) -> int:
    import torch
    from tqdm import tqdm

    from sam_perception.segmentation.models import find_checkpoint, resolve_device
    from sam_perception.training.pictures import plot_log
    from sam_perception.training.trainer import Settings, train

    if arguments.threads > 0:
        torch.set_num_threads(arguments.threads)
    elif arguments.processes > 1:
        torch.set_num_threads(1)
    settings = Settings(
        arguments.out,
        recipe=arguments.recipe,
        seed=arguments.seed,
        steps=arguments.steps,
        minutes=arguments.minutes,
        device=str(resolve_device(arguments.device)),
        workers=arguments.workers,
        processes=arguments.processes,
        resume=arguments.resume,
        learning_rate=arguments.learning_rate,
        start=None if arguments.start is None else find_checkpoint(arguments.start),
        compile=arguments.compile,
    )
    layout = "{l_bar}{bar}| {elapsed}<{remaining}{postfix}"
    with tqdm(total=100.0, unit="%", bar_format=layout, delay=BAR_AFTER_S) as bar:

        def report(row: dict[str, Any]) -> None:
            bar.update(min(100.0, 100 * row["progress"]) - bar.n)
            shown = {k: row[k] for k in ("step", "loss", "box", "track", "s_per_step", "wait") if row[k] != ""}
            bar.set_postfix(shown)

        state = train(settings, report)
        bar.update(100.0 * min(1.0, state.progress) - bar.n)
    if state.step >= 20:
        plot_log(arguments.out / "log.csv", arguments.out / "log.png")
    if state.calibrated_by:
        _say(f"the object score was moved by {state.calibrated_by:+g}, by clips in which objects are hidden")
    _say(f"{state.step} steps in {state.elapsed_s / 60:.1f} min; model in {arguments.out / 'model'}")
    return 0


def _fine_tune(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from sam_perception.segmentation import load_model
    from sam_perception.sinks.text_table import text_table
    from sam_perception.training.finetune import FineTuning, fine_tune

    settings = FineTuning(
        arguments.data,
        arguments.out,
        frozen=tuple(arguments.freeze),
        steps=arguments.steps or 200,
        pictures=arguments.batch,
        objects=arguments.objects,
        learning_rate=arguments.learning_rate or 5e-5,
        validation_share=arguments.validation_share,
        seed=arguments.seed,
        mixed_precision=arguments.precision == "bf16",
        checkpointing=arguments.checkpointing,
        ignore=None if arguments.ignore is None else tuple(arguments.ignore),
    )
    model = load_model(arguments.source, arguments.device, "float32")
    with tqdm(total=settings.steps, unit="step", delay=BAR_AFTER_S) as bar:

        def report(_: int, loss: float) -> None:
            bar.update(1)
            bar.set_postfix(loss=round(loss, 3))

        result = fine_tune(model, settings, report)
    if not result.after:  # another process than the first
        return 0
    rows = [[kind, f"{result.before[kind]:.3f}", f"{result.after[kind]:.3f}"] for kind in result.after]
    _say(f"trained {result.trained:,} of {result.trained + result.frozen:,} parameters on {result.training} pictures")
    _say(text_table((f"IoU on {result.validation} held-out pictures", "before", "after"), rows))
    _say(f"model in {arguments.out / 'model'}")
    return 0
