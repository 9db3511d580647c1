"""The network compiled once, for a few numbers of objects, and never again.

torch.compile makes a program for each shape that it sees. So that there are few, and all of them known
beforehand, batches of objects are filled up to the next bucket (1, 2, 4, 8 ... up to `max_objects`)
with copies of their first object, and memories and pointers to as many as there can be, masked where
there are none. Objects do not look at one another, so neither changes anything but rounding.

That mask is there always, although a GPU's fastest attention takes none. Tracking that is not compiled goes
without where all objects have equally much; but how much that is depends on how often they were prompted: with
room for two prompted frames, an object that was prompted once never fills it. So there would have to be a
program without a mask for each number of prompted frames in each bucket, and it would not serve objects that
differ. That multiplies the minutes of warming up; what it would gain on a GPU has not been measured.

Prompts are not compiled. SAM 2's decoder attends to every point it is given, padding points too, so
that filling up points would change its answer; and a prompt is one call among thousands. They run as
without compilation, in any number.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from sam_perception.config import TrackerConfig
from sam_perception.errors import ConfigError
from sam_perception.segmentation.cuda_graphs import CudaGraphs, Recorded, Recorder
from sam_perception.segmentation.device_memory import is_device_memory_error
from sam_perception.segmentation.encoder import ImageFeatures
from sam_perception.segmentation.memory_bank import MemoryBank
from sam_perception.segmentation.network import Clicks, Decoded, Network
from sam_perception.segmentation.transfer import upload

Tensor = torch.Tensor
Function = Callable[..., Any]
Compiler = Callable[[Function], Function]
Progress = Callable[[str], None]

# Programs per function that torch keeps before it gives up and runs uncompiled; its own limit is 8.
_MOST_PROGRAMS = 256


def inductor(function: Function) -> Function:
    """What torch itself compiles with; without its CUDA graphs, for which `cuda_graphs` is there."""
    return torch.compile(function, fullgraph=True, dynamic=False, options={"triton.cudagraphs": False})


class CompiledNetwork(Network):
    """`Network` whose work on every frame is compiled, and on a GPU recorded.

    Args:
        model: as for `Network`; its weights stay as and where they are.
        max_objects: the largest bucket.
        compiler: turns a function of tensors into a faster one.
        recorder: records what comes out of it; None: `CudaGraphs` on a GPU, nothing elsewhere.

    Raises:
        ModelError: the model is of another kind.
    """

    is_backend = True

    def __init__(
        self, model: Any, max_objects: int, compiler: Compiler = inductor, recorder: Recorder | None = None
    ) -> None:
        super().__init__(model)
        self.buckets = _buckets(max_objects)
        if recorder is None and self.device.type == "cuda":
            recorder = CudaGraphs(self.device)

        def program(function: Function) -> Function:
            compiled = compiler(function)
            return compiled if recorder is None else Recorded(compiled, recorder)

        self._image_program = program(self._image_parts)
        self._prepare_program = program(self.attention.prepare)
        self._project_program = program(self._projected)
        self._attend_program = program(self._attend)
        self._decode_program = program(self._decode)
        self._memorise_program = program(self._memories)

    # ------------------------------------------------------------------ once per frame

    def encode_image(self, pixels: Tensor) -> ImageFeatures:
        """As `Network.encode_image`."""
        # How a picture lies in memory depends on whether it was resized, and is part of a program's shape.
        first, second, top, tokens = self._image_program(pixels.contiguous())
        return ImageFeatures((first, second), top, tokens)

    def _image_parts(self, pixels: Tensor) -> tuple[Tensor, ...]:
        features = super().encode_image(pixels)
        return (*features.fine, features.top, features.tokens)

    def prepare(self, features: ImageFeatures) -> Tensor:
        """As `Network.prepare`."""
        prepared: Tensor = self._prepare_program(features.tokens)
        return prepared

    def project(self, features: ImageFeatures) -> Tensor:
        """As `Network.project`."""
        projected: Tensor = self._project_program(features.top)
        return projected

    # ------------------------------------------------------------------ for all objects

    def recall(self, prepared: Tensor, bank: MemoryBank, slots: Sequence[int], frame: int) -> Tensor:
        """As `Network.recall`."""
        count, size = len(slots), self._bucket(len(slots))
        filled = [*slots, *[slots[0]] * (size - count)]
        read = bank.gather(filled, bank.ledger.select(filled, frame))
        recalled: Tensor = self._attend_program(
            prepared, read.values, read.temporal, read.pointers, read.ages, read.mask, *read.keys
        )
        return recalled[:count]

    def _attend(
        self, prepared: Tensor, values: Tensor, temporal: Tensor, pointers: Tensor, ages: Tensor, mask: Tensor,
        *keys: Tensor,
    ) -> Tensor:  # fmt: skip
        attention = self.attention
        tokens = self._positioned_pointers(pointers, ages)

        def keys_of(layer: int) -> Tensor:
            rotated = keys[layer] if keys else attention.memory_keys(layer, values + self._memory_position)
            timed = rotated + attention.layers[layer].temporal_keys[temporal]
            return torch.cat([timed.flatten(1, 2), attention.pointer_keys(layer, tokens)], dim=1)

        everything = torch.cat([values.flatten(1, 2), pointers.reshape(len(pointers), -1, values.shape[-1])], dim=1)
        conditioned = attention(prepared, keys_of, everything, mask)
        return conditioned.transpose(1, 2).reshape(len(values), -1, *self.feature_size)

    def decode(
        self, pixel_features: Tensor, features: ImageFeatures, clicks: Clicks | None = None,
        previous: Tensor | None = None, *, fresh: bool = False,
    ) -> Decoded:  # fmt: skip
        """As `Network.decode`; compiled where there is no prompt."""
        if clicks is not None or previous is not None or fresh:
            return super().decode(pixel_features, features, clicks, previous, fresh=fresh)
        count = len(pixel_features)
        parts = self._decode_program(_filled(pixel_features, self._bucket(count)), *features.fine)
        return Decoded(*(part[:count] for part in parts))

    def _decode(self, pixel_features: Tensor, *fine: Tensor) -> tuple[Tensor | None, ...]:
        decoded = self._heads(pixel_features, fine, self._no_click, None, self._several_masks(0, fresh=False))
        return decoded.logits, decoded.mask_scores, decoded.score_logits, decoded.pointers, decoded.rivals

    def memorise(self, projected: Tensor, decoded: Decoded, prompted: list[bool]) -> Tensor:
        """As `Network.memorise`."""
        count, size = len(decoded.logits), self._bucket(len(decoded.logits))
        flags = upload([*prompted, *[False] * (size - count)], self.device)
        logits, scores = _filled(decoded.logits, size), _filled(decoded.score_logits, size)
        memories: Tensor = self._memorise_program(projected, logits, scores, flags)
        return self._rounded(memories[:count])

    # ------------------------------------------------------------------ once for all

    def ready(self, config: TrackerConfig, progress: Progress | None = None) -> CompiledNetwork:
        """This, warmed up.

        Raises:
            ConfigError: torch cannot compile here.
        """
        try:
            self.warm_up(config, progress)
        except Exception as error:
            if is_device_memory_error(error):
                raise
            raise ConfigError(
                f"torch cannot compile the model here ({type(error).__name__}: {str(error).splitlines()[0]}): on a CPU "
                "it needs a C++ compiler (apt install g++), on a GPU triton, which comes with torch's CUDA builds; or "
                "set compile to false"
            ) from error
        return self

    @torch.inference_mode()
    def warm_up(self, config: TrackerConfig, progress: Progress | None = None) -> None:
        """Make every program that tracking will use.

        Args:
            config: of the tracker that will use it.
            progress: is told, in words, what was compiled and how long that took.
        """
        tell, bank = progress or _silent, self.bank(self.buckets[-1], config)
        with torch._dynamo.config.patch(recompile_limit=_MOST_PROGRAMS, accumulated_recompile_limit=_MOST_PROGRAMS):
            features, prepared, projected = self._warm_image(tell)
            # Downwards: what is recorded for fewer objects then finds its inputs' places there already.
            for size in reversed(self.buckets):
                start = time.perf_counter()
                recalled = self.recall(prepared, bank, list(range(size)), 0)
                decoded = self.decode(recalled, features)
                self.memorise(projected, decoded, [False] * size)
                tell(
                    f"compiled tracking of {size} of {self.buckets[-1]} objects in {time.perf_counter() - start:.1f} s"
                )

    def _warm_image(self, tell: Progress) -> tuple[ImageFeatures, Tensor, Tensor]:
        start = time.perf_counter()
        pixels = torch.zeros(1, 3, self.size, self.size, device=self.device, dtype=self.dtype)
        features = self.encode_image(pixels)
        prepared, projected = self.prepare(features), self.project(features)
        tell(f"compiled the image encoder in {time.perf_counter() - start:.1f} s")
        return features, prepared, projected

    def _bucket(self, count: int) -> int:
        return next((size for size in self.buckets if size >= count), count)


def _buckets(most: int) -> tuple[int, ...]:
    """1, 2, 4 ... and `most` itself."""
    return (*(1 << k for k in range(most.bit_length()) if 1 << k < most), most)


def _filled(rows: Tensor, size: int) -> Tensor:
    """(N, ...) to (size, ...) with copies of the first row behind, one after the other in memory.

    How a tensor lies in memory is part of a program's shape, and depends on where it comes from.
    """
    if len(rows) < size:
        rows = torch.cat([rows, rows[:1].expand(size - len(rows), *rows.shape[1:])])
    return rows.contiguous()


def _silent(_: str) -> None:
    pass
