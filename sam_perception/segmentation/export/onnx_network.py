"""An exported model as a tracker's backend: onnxruntime computes, torch holds the tensors in between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch.nn import functional

from sam_perception.config import TrackerConfig
from sam_perception.errors import CheckpointError, ConfigError
from sam_perception.segmentation.encoder import ImageFeatures
from sam_perception.segmentation.export.manifest import CONSTANTS, PARTS, ExportManifest
from sam_perception.segmentation.export.onnx_bank import OnnxBank
from sam_perception.segmentation.export.onnx_runtime import Session
from sam_perception.segmentation.hypotheses import rival_share
from sam_perception.segmentation.ledger import BankShape
from sam_perception.segmentation.network import ABSENT_LOGIT, Clicks, Decoded

Tensor = torch.Tensor

# The same numbers as in `network`, which says what they are.
_GIVEN_SCALE, _GIVEN_BIAS, _FED_BACK_LIMIT = 20.0, -10.0, 32.0


class OnnxNetwork:
    """The parts of an exported folder, arranged for streaming as `network.Network` arranges torch's modules.

    Args:
        folder: as `export_model` writes it.
        manifest: its `export.json`.
        provider: cpu, cuda or tensorrt.
        index: of the GPU.

    Raises:
        CheckpointError: a part is missing or cannot be read.
        ConfigError: the provider does not work on this machine.
    """

    is_backend = True

    def __init__(self, folder: Path, manifest: ExportManifest, provider: str = "cpu", index: int = 0) -> None:
        missing = [name for name in PARTS if name not in manifest.parts]
        if missing:
            raise CheckpointError(f"{folder} has no {', no '.join(missing)}: tracking needs all parts; export them all")
        self.manifest, self._batch = manifest, manifest.batch
        gpu = provider != "cpu" and torch.cuda.is_available()
        self.device = torch.device("cuda", index) if gpu else torch.device("cpu")
        self.dtype = torch.float32  # between the parts, also of a model in fewer bits
        self.size, self.feature_size = manifest.size, manifest.feature_size
        self._sessions = {name: Session(folder, part, provider, index) for name, part in manifest.parts.items()}
        constants = _read_constants(folder, self.device)
        self._no_memory = constants["no_memory_embedding"].view(1, -1, 1, 1)
        self._no_pointer = constants["no_object_pointer"]
        self._mask_downsample = constants["mask_downsample.weight"], constants["mask_downsample.bias"]
        h, w = self.feature_size
        self._low = (4 * h, 4 * w)

    def bank(self, slots: int, config: TrackerConfig) -> OnnxBank:
        """An empty memory bank.

        Raises:
            ConfigError: more frames are to be kept than a graph of fixed sizes has place for.
        """
        manifest, (h, w) = self.manifest, self.feature_size
        shape = BankShape(
            slots=slots,
            conditioning=config.conditioning_frames,
            window=manifest.memory_frames,
            pointer_window=manifest.pointer_frames,
            history=config.feature_cache_frames - 1,
            lasting=config.lasting_frames if config.memory_policy == "distractor_aware" else 0,
            tokens=h * w,
            channels=manifest.hidden,
            memory_channels=manifest.memory_channels,
        )
        places = manifest.memories - shape.window
        if self._batch and shape.kept > places:
            raise ConfigError(
                f"{shape.kept} frames are to be kept (tracker.conditioning_frames and lasting_frames), this model was "
                f"exported with place for {places}: lower them, or export with --batch dynamic"
            )
        padded = (manifest.memories, manifest.pointers) if self._batch else (1, 1)
        return OnnxBank(shape, self.device, padded)

    def nothing(self) -> Decoded:
        """No object."""
        none = torch.zeros(0, device=self.device)
        return Decoded(
            none.view(0, 1, 1).expand(0, *self._low), none, none, none.view(0, 1).expand(0, self.manifest.hidden)
        )

    def encode_image(self, pixels: Tensor) -> ImageFeatures:
        """(1, 3, S, S) normalised pixels to features."""
        fine0, fine1, top, tokens = self._sessions["image_encoder"]({"pixels": pixels}, {"B": 1})
        return ImageFeatures((fine0, fine1), top, tokens)

    # ------------------------------------------------------------------ memory to features

    def prepare(self, features: ImageFeatures) -> Tensor:
        """(1, hw, c): the tokens; the exported attention does the rest."""
        return features.tokens

    def fresh(self, features: ImageFeatures) -> Tensor:
        """(1, c, h, w): the picture for an object without memory."""
        return features.top + self._no_memory

    def recall(self, prepared: Tensor, bank: OnnxBank, slots: Sequence[int], frame: int) -> Tensor:
        """(N, c, h, w): the picture as N objects' memories see it."""
        recalled = bank.recall(slots, frame)
        sizes = {"M": recalled.rows.shape[1], "P": recalled.ages.shape[1]}
        return self._run("memory_attention", recalled.inputs(), {"tokens": prepared}, sizes)[0]

    # ------------------------------------------------------------------ features to masks

    def decode(
        self, pixel_features: Tensor, features: ImageFeatures, clicks: Clicks | None = None,
        previous: Tensor | None = None, *, fresh: bool = False,
    ) -> Decoded:  # fmt: skip
        """Masks of N objects from (N or 1, c, h, w) features."""
        count = pixel_features.shape[0] if clicks is None else clicks.points.shape[0]
        given = 0 if clicks is None else clicks.labels.shape[1]
        fed = None if previous is None else previous.clamp(-_FED_BACK_LIMIT, _FED_BACK_LIMIT)
        choice = self.manifest.choice
        many = (
            choice.several
            and (fresh or choice.several_when_tracking)
            and choice.least_clicks <= given <= choice.most_clicks
        )
        return self._heads(pixel_features.expand(count, -1, -1, -1), features, clicks, fed, many)

    def _heads(
        self, pixel_features: Tensor, features: ImageFeatures, clicks: Clicks | None, masks: Tensor | None, many: bool
    ) -> Decoded:
        count = len(pixel_features)
        clicks = clicks or Clicks(
            torch.zeros(count, 1, 2, device=self.device),
            torch.full((count, 1), -1, device=self.device, dtype=torch.int32),
        )
        given = torch.full((count,), masks is not None, device=self.device)
        masks = torch.zeros(count, *self._low, device=self.device) if masks is None else masks
        asked = {"points": clicks.points, "labels": clicks.labels, "masks": masks[:, None], "has_mask": given}
        sizes = {"C": clicks.labels.shape[1]}
        sparse, dense = self._run("prompt_encoder", asked, {}, sizes)
        seen = {"features": pixel_features, "sparse": sparse, "dense": dense}
        fine = {"fine0": features.fine[0], "fine1": features.fine[1]}
        return self._chosen(self._run("mask_decoder", seen, fine, sizes), clicks, many)

    def _chosen(self, answers: tuple[Tensor, ...], clicks: Clicks, many: bool) -> Decoded:
        """Of four masks with all that belongs to them, the one that counts, as SAM 2 chooses it."""
        masks, ious, pointers, score = answers
        rows, score = torch.arange(len(masks), device=self.device), score[:, 0]
        best = 1 + clicks.chosen(ious[:, 1:].argmax(dim=1))
        single = torch.zeros_like(best)
        pointer = best if many else single
        mask = pointer
        if not many and self.manifest.choice.by_stability:
            mask = torch.where(self._stable(masks[:, 0]), single, best)
        there = score > 0
        logits = torch.where(there[:, None, None], masks[rows, mask], ABSENT_LOGIT)
        kept = torch.where(there[:, None], pointers[rows, pointer], self._no_pointer)
        rivals = rival_share(masks[:, 1:], best - 1) if many else torch.zeros(len(masks), device=self.device)
        return Decoded(logits, ious[rows, mask], score, kept, rivals)

    def _stable(self, logits: Tensor) -> Tensor:
        """(N,) whether masks hardly change when the threshold moves."""
        choice, flat = self.manifest.choice, logits.flatten(1)
        inner = (flat > choice.stability_delta).sum(dim=1).float()
        outer = (flat > -choice.stability_delta).sum(dim=1).float()
        return torch.where(outer > 0, inner / outer, 1.0) >= choice.stability_threshold

    def take_mask(self, masks: Tensor, features: ImageFeatures) -> Decoded:
        """(G, S, S) masks of zeros and ones, taken as they are; the decoder only makes their object pointers."""
        asked = self._lowered(functional.conv2d(masks[:, None], *self._mask_downsample, stride=4))
        seen = self._heads(features.top.expand(len(masks), -1, -1, -1), features, None, asked[:, 0], many=False)
        there = masks.flatten(1).any(dim=1)
        return Decoded(
            logits=self._lowered(masks[:, None] * _GIVEN_SCALE + _GIVEN_BIAS)[:, 0],
            mask_scores=torch.ones_like(seen.mask_scores),
            score_logits=there.float() * _GIVEN_SCALE + _GIVEN_BIAS,
            pointers=torch.where(there[:, None], seen.pointers, self._no_pointer),
            rivals=seen.rivals,
        )

    def _lowered(self, masks: Tensor) -> Tensor:
        if tuple(masks.shape[-2:]) == self._low:
            return masks
        return functional.interpolate(masks, size=self._low, mode="bilinear", align_corners=False, antialias=True)

    # ------------------------------------------------------------------ masks to memory

    def project(self, features: ImageFeatures) -> Tensor:
        """(1, c, h, w): the features; the exported memory encoder does the rest."""
        return features.top

    def memorise(self, projected: Tensor, decoded: Decoded, prompted: list[bool]) -> Tensor:
        """(N, hw, 64) memories of N objects, rounded to bfloat16 as both references keep them."""
        asked = {
            "logits": decoded.logits,
            "prompted": torch.tensor(prompted, device=self.device),
            "absent": decoded.score_logits <= 0,
        }
        memory = self._run("memory_encoder", asked, {"top": projected}, {})[0]
        return memory.to(torch.bfloat16).float()

    # ------------------------------------------------------------------ batches

    def _run(
        self, part: str, rows: Mapping[str, Tensor], shared: Mapping[str, Tensor], sizes: Mapping[str, int]
    ) -> tuple[Tensor, ...]:
        """One part on N objects; a graph of fixed batch gets them in portions, the last one filled up.

        Args:
            part: its name.
            rows: inputs with one row for each object.
            shared: inputs that all objects share.
            sizes: what letters but N stand for.
        """
        session, count = self._sessions[part], len(next(iter(rows.values())))
        if not self._batch:
            return session({**rows, **shared}, {**sizes, "N": count})
        portions = []
        for start in range(0, count, self._batch):
            some = {name: _filled(tensor[start : start + self._batch], self._batch) for name, tensor in rows.items()}
            portions.append(session({**some, **shared}, {**sizes, "N": self._batch}))
        return tuple(torch.cat(outputs)[:count] for outputs in zip(*portions, strict=True))


def _filled(rows: Tensor, count: int) -> Tensor:
    """(n, ...) to (count, ...) by repeating the first row."""
    return rows if len(rows) == count else torch.cat([rows, rows[:1].expand(count - len(rows), *rows.shape[1:])])


def _read_constants(folder: Path, device: torch.device) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    file = folder / CONSTANTS
    try:
        constants: dict[str, Tensor] = load_file(file)
    except Exception as error:  # safetensors' own error, or the file system's
        raise CheckpointError(f"{file} cannot be read ({error}): export the model again") from error
    return {name: tensor.to(device) for name, tensor in constants.items()}
