"""Frames get a guess of depth where the sensor has none."""

from __future__ import annotations

from dataclasses import replace

from sam_perception.config import PerceptionConfig
from sam_perception.discovery import DepthModel
from sam_perception.errors import DepthFitRefused
from sam_perception.frame import DepthSource, RgbdFrame
from sam_perception.geometry import depth_valid
from sam_perception.geometry.depth_fit import guess_by_fit, guess_unscaled

_SOURCES = {"fill": DepthSource.FILLED, "estimate": DepthSource.ESTIMATED}


class DepthGuesser:
    """Asks a model about each frame and scales its answer by the sensor's depth.

    Without a fit there is no guess, but from a model that says metres, and with a sensor that sees nothing
    at all: then the model is taken at its word, with `depth.unscaled_error`.

    Args:
        model: guesses inverse depth.
    """

    def __init__(self, model: DepthModel) -> None:
        self._model = model
        self._refused = False

    def guess(self, frame: RgbdFrame, config: PerceptionConfig) -> tuple[RgbdFrame, tuple[str, ...]]:
        """The frame with a guess, or as it was; and what there is to say, once per change."""
        settings, geometry = config.depth, config.geometry
        source = _SOURCES.get(settings.mode)
        if source is None:
            return frame, ()
        disparity = self._model.disparity(frame.rgb)
        sees = bool(depth_valid(frame.depth_m, geometry).any())
        try:
            if not sees and self._model.metric:
                guess = guess_unscaled(disparity, source, settings, geometry)
            else:
                guess = guess_by_fit(disparity, frame.depth_m, source, settings, geometry)
        except DepthFitRefused as refusal:
            told, self._refused = self._refused, True
            return frame, () if told else (f"depth is not guessed: {refusal}",)
        told, self._refused = not self._refused, False
        return replace(frame, guess=guess), () if told else ("depth is guessed again",)
