"""`sam-perception segment`: pictures cut up as a whole, into masks, tables and a COCO file."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from sam_perception.config import EverythingConfig
from sam_perception.errors import ConfigError, SourceError
from sam_perception.settings import Setting, settings_of, with_settings
from sam_perception.sources.pictures import Picture, PictureSource

EPILOG = """
examples:
  sam-perception segment pictures out                          a folder of pictures
  sam-perception segment kitchen.jpg out --pred-iou-thresh 0.5 --stability-score-thresh 0.7
  sam-perception segment flight.mp4 out --every 30             a picture per second of a 30 Hz video
  sam-perception segment pictures out --model sam2.1-hiera-large --device cuda
  sam-perception segment big out --crop-n-layers 1 --crop-n-points-downscale-factor 2     4K pictures

what is written:
  out/NAME/0.png, 1.png, ...   a mask each, 255 on it; numbered as in the table
  out/NAME/metadata.csv        columns as SAM's amg.py writes them
  out/NAME.jpg                 the picture with all masks drawn over it
  out/annotations.json         COCO's instance format, masks as compressed RLE

The model that ships with the package, nano, is small and rarely sure: lower its two thresholds as in the
second example.
"""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "segment",
        help="cut pictures up as a whole (automatic mask generation)",
        description="Find everything in pictures, by asking the model about a grid of points.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("input", type=Path, metavar="IN", help="a picture, a folder of pictures, or a video")
    parser.add_argument("output", type=Path, metavar="OUT", help="folder to create")
    parser.add_argument("--model", default="nano", help="see below; or a folder (default %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default %(default)s)")
    parser.add_argument("--dtype", default="auto", help="auto, float32, bfloat16 or float16: the model's number format")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every N-th picture or frame")
    parser.add_argument("--limit", type=int, metavar="N", help="stop after N pictures")
    parser.add_argument("--no-masks", action="store_true", help="write no PNG per mask")
    parser.add_argument("--no-overlay", action="store_true", help="write no pictures with masks drawn over them")
    group = parser.add_argument_group("automatic mask generation, with the names that SAM gave them")
    for setting in _parameters():
        group.add_argument(
            f"--{setting.name.replace('_', '-')}",
            f"--{setting.name}",  # as SAM's documentation writes them
            dest=setting.name,
            type=type(setting.default),
            metavar="N" if isinstance(setting.default, int) else "X",
            help=f"{setting.doc} (default {setting.default:.4g})",
        )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the subcommand; returns the exit code."""
    for name in ("every", "limit"):
        number = getattr(arguments, name)
        if number is not None and number < 1:
            raise ConfigError(f"--{name} is {number}: give 1 or more")
    config = config_from(arguments)
    source = PictureSource(arguments.input, every=arguments.every)
    from sam_perception.segmentation import MaskGenerator, load_image_model
    from sam_perception.sinks.mask_folder import MaskFolder

    generator = MaskGenerator(load_image_model(arguments.model, arguments.device, arguments.dtype), config)
    with MaskFolder(arguments.output, masks=not arguments.no_masks, overlay=not arguments.no_overlay) as folder:
        pictures = masks = 0
        start_s = time.monotonic()
        for picture in _with_progress(source, arguments.limit):
            found = generator.generate(picture.rgb)
            folder.write(picture.name, picture.file, picture.rgb, found)
            pictures, masks = pictures + 1, masks + len(found)
        took_s = time.monotonic() - start_s
    _summarise(arguments, source, pictures, masks, took_s, config)
    return 0


def config_from(arguments: argparse.Namespace) -> EverythingConfig:
    """The parameters that were given, the others at their defaults.

    Raises:
        ConfigError: one is out of its range.
    """
    given = {s.name: getattr(arguments, s.name) for s in _parameters() if getattr(arguments, s.name) is not None}
    return with_settings(EverythingConfig(), given)


def _parameters() -> list[Setting]:
    return [setting for setting in settings_of(EverythingConfig()) if setting.name != "model"]


def _with_progress(source: PictureSource, limit: int | None) -> Iterable[Picture]:
    from tqdm import tqdm

    length = len(source) if limit is None else min(limit, len(source))
    # disable=None: only on terminals.
    pictures: Iterable[Picture] = tqdm(islice(source, limit), total=length or None, unit="picture", disable=None)
    return pictures


def _summarise(
    arguments: argparse.Namespace, source: PictureSource, pictures: int, masks: int, took_s: float,
    config: EverythingConfig,
) -> None:  # fmt: skip
    for reason in source.rejected:
        sys.stdout.write(f"left out: {reason}\n")
    if not pictures:
        raise SourceError(f"{arguments.input}: no picture could be read, {len(source.rejected)} were left out")
    seconds = took_s / pictures
    sys.stdout.write(f"{arguments.output}: {pictures} pictures, {masks} masks, {seconds:.2f} s per picture\n")
    if not masks:
        sys.stdout.write(
            f"note: no mask passed --pred-iou-thresh {config.pred_iou_thresh:g} and --stability-score-thresh "
            f"{config.stability_score_thresh:g}: try 0.5 and 0.7, or a larger --model\n"
        )
