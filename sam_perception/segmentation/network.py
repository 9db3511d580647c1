"""SAM 2's parts as functions on one flat batch of objects.

The modules and weights are transformers' `Sam2VideoModel`; this says how they follow one another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch.nn import functional

from sam_perception.config import TrackerConfig
from sam_perception.segmentation.attention import MemoryAttention, sine_encoding
from sam_perception.segmentation.encoder import ImageEncoder, ImageFeatures
from sam_perception.segmentation.hypotheses import rival_share
from sam_perception.segmentation.ledger import BankShape
from sam_perception.segmentation.memory_bank import MemoryBank
from sam_perception.segmentation.support import require_supported
from sam_perception.segmentation.transfer import upload

Tensor = torch.Tensor

ABSENT_LOGIT = -1024.0  # mask logit of an object that is not there
# A mask that was given counts as these logits: object pixels +10, others -10.
_GIVEN_SCALE, _GIVEN_BIAS = 20.0, -10.0
# Masks fed back are clamped to this, as Meta's predictor does.
_FED_BACK_LIMIT = 32.0


@dataclass(frozen=True, eq=False)
class Decoded:
    """Masks of N objects and what the memory keeps of them."""

    logits: Tensor  # (N, h, w) low-resolution mask logits
    mask_scores: Tensor  # (N,) predicted IoU
    score_logits: Tensor  # (N,) positive: the object is in the picture
    pointers: Tensor  # (N, c)
    # (N,) float32, `rival_share` of tracked objects; None: the backend has one hypothesis only.
    rivals: Tensor | None = None

    @staticmethod
    def join(parts: Sequence[Decoded]) -> Decoded:
        """One batch of several."""
        columns = {f.name: [getattr(p, f.name) for p in parts] for f in fields(Decoded)}
        joined = {n: None if any(c is None for c in column) else torch.cat(column) for n, column in columns.items()}
        return Decoded(**joined)  # type: ignore[arg-type]  # only rivals may be None

    def rows(self, rows: Sequence[int]) -> Decoded:
        """Some of the objects, in the order of `rows`."""
        index = upload(rows, self.logits.device)
        columns = {f.name: getattr(self, f.name) for f in fields(self)}
        kept = {name: None if column is None else column[index] for name, column in columns.items()}
        return Decoded(**kept)  # type: ignore[arg-type]  # only rivals may be None


@dataclass(frozen=True, eq=False)
class Clicks:
    """Points on G objects, equally many each, in the model's pixels; a box is two points with labels 2 and 3."""

    points: Tensor  # (G, P, 2)
    labels: Tensor  # (G, P) int32; 1 object, 0 not object
    # (G,) int64: which of three answers to a single click is taken, 1 to 3, or 0 for the surest; None: that for all.
    choose: Tensor | None = None

    def rows(self, rows: slice) -> Clicks:
        """Those on some of the objects."""
        return Clicks(self.points[rows], self.labels[rows], None if self.choose is None else self.choose[rows])

    def chosen(self, best: Tensor) -> Tensor:
        """(G,) index of the answer to take, where (G,) `best` is that of the surest."""
        return best if self.choose is None else torch.where(self.choose > 0, self.choose - 1, best)


class Network:
    """A `Sam2VideoModel`, arranged for streaming.

    Raises:
        ModelError: the model is not of the kind whose parts are used here.
    """

    def __init__(self, model: Any) -> None:
        require_supported(model)
        self._model, self._config = model.eval(), model.config
        reference = model.no_memory_embedding
        self.device, self.dtype = reference.device, reference.dtype
        self.size = int(model.image_size)
        self.feature_size: tuple[int, int] = tuple(model.backbone_feature_sizes[-1])
        with torch.inference_mode():
            self._image_encoder = ImageEncoder(model)
            self.attention = MemoryAttention(model)
            self._image_position = model.get_image_wide_positional_embeddings().to(self.dtype)
            self._no_memory = reference.view(1, -1, 1, 1)
            h, w = self.feature_size
            position = model.memory_encoder.position_encoding(
                torch.Size((1, model.mem_dim, h, w)), self.device, torch.float32
            )
            self._memory_position = position.flatten(2).transpose(1, 2).to(self.dtype)  # (1, hw, 64)
            self._no_click = Clicks(
                torch.zeros(1, 1, 2, device=self.device, dtype=torch.float32),
                torch.full((1, 1), -1, device=self.device, dtype=torch.int32),
            )

    def bank(self, slots: int, config: TrackerConfig) -> MemoryBank:
        """An empty memory bank for this network."""
        h, w = self.feature_size
        shape = BankShape(
            slots=slots,
            conditioning=config.conditioning_frames,
            window=self._config.num_maskmem - 1,
            pointer_window=self._config.max_object_pointers_in_encoder - 1,
            history=config.feature_cache_frames - 1,
            lasting=config.lasting_frames if config.memory_policy == "distractor_aware" else 0,
            tokens=h * w,
            channels=self._model.hidden_dim,
            memory_channels=self._model.mem_dim,
        )
        return MemoryBank(shape, self.attention, self._memory_position)

    def nothing(self) -> Decoded:
        """No object."""
        none = torch.zeros(0, device=self.device, dtype=self.dtype)
        masks = none.view(0, 1, 1).expand(0, *self._model.prompt_encoder.mask_input_size)
        return Decoded(masks, none, none, none.view(0, 1).expand(0, self._model.hidden_dim), none.float())

    def encode_image(self, pixels: Tensor) -> ImageFeatures:
        """(1, 3, S, S) normalised pixels to what all objects share of the picture."""
        return self._image_encoder(pixels)

    # ------------------------------------------------------------------ memory to features

    def fresh(self, features: ImageFeatures) -> Tensor:
        """(1, c, h, w): the picture for an object without memory."""
        fresh: Tensor = features.top + self._no_memory
        return fresh

    def prepare(self, features: ImageFeatures) -> Tensor:
        """(1, hw, c): what memory attention does before it looks at any object."""
        return self.attention.prepare(features.tokens)

    def recall(self, prepared: Tensor, bank: MemoryBank, slots: Sequence[int], frame: int) -> Tensor:
        """(N, c, h, w): the picture as N objects' memories see it.

        Args:
            prepared: `prepare` of the picture.
            bank: the memories.
            slots: N.
            frame: number of the frame; memories of frames before it are recalled.
        """
        selection = bank.ledger.select(slots, frame)
        ages = upload(selection.pointer_ages, self.device)
        tokens = self._positioned_pointers(bank.pointers(slots, selection), ages)
        conditioned = self.attention(
            prepared,
            lambda layer: bank.keys(layer, slots, selection, self.attention.pointer_keys(layer, tokens)),
            bank.values(slots, selection),
            bank.mask(selection),
        )
        return conditioned.transpose(1, 2).reshape(len(slots), -1, *self.feature_size)

    def _positioned_pointers(self, pointers: Tensor, ages: Tensor) -> Tensor:
        """(N, P, c) pointers and their (N, P) ages to (N, P * parts, 64) tokens with temporal encoding."""
        tokens = pointers.reshape(*pointers.shape[:2], -1, self._model.mem_dim)
        if self._config.enable_temporal_pos_encoding_for_object_pointers:
            longest = self._config.max_object_pointers_in_encoder - 1
            relative = ages.float() / longest
            encoding = sine_encoding(relative, self._model.hidden_dim).to(self.dtype)
            tokens = tokens + self._model.temporal_positional_encoding_projection_layer(encoding)[:, :, None]
        positioned: Tensor = tokens.flatten(1, 2)
        return positioned

    # ------------------------------------------------------------------ features to masks

    def decode(
        self, pixel_features: Tensor, features: ImageFeatures, clicks: Clicks | None = None,
        previous: Tensor | None = None, *, fresh: bool = False,
    ) -> Decoded:  # fmt: skip
        """Masks of N objects from (N or 1, c, h, w) features.

        Args:
            pixel_features: from `recall`, or from `fresh`.
            features: of the same frame.
            clicks: on the objects, or None for tracking.
            previous: (N, h, w) mask logits to start from.
            fresh: without memory.
        """
        count = pixel_features.shape[0] if clicks is None else clicks.points.shape[0]
        given = 0 if clicks is None else clicks.labels.shape[1]
        clicks = clicks or self._no_click
        pixel_features = pixel_features.expand(count, -1, -1, -1)
        many = self._several_masks(given, fresh)
        fed = None if previous is None else previous[:, None].clamp(-_FED_BACK_LIMIT, _FED_BACK_LIMIT)
        return self._heads(pixel_features, features.fine, clicks, fed, many)

    def _several_masks(self, clicks: int, fresh: bool) -> bool:
        config = self._config
        return bool(
            config.multimask_output_in_sam
            and (fresh or config.multimask_output_for_tracking)
            and config.multimask_min_pt_num <= clicks <= config.multimask_max_pt_num
        )

    def _heads(
        self, pixel_features: Tensor, fine: Sequence[Tensor], clicks: Clicks, masks: Tensor | None, many: bool
    ) -> Decoded:
        model, count = self._model, pixel_features.shape[0]
        encoder = model.prompt_encoder
        masks = None if masks is None else masks.to(encoder.no_mask_embed.weight.dtype)
        sparse, dense = encoder(clicks.points[:, None], clicks.labels[:, None], None, masks)
        logits, ious, tokens, score = model.mask_decoder(
            image_embeddings=pixel_features,
            image_positional_embeddings=self._image_position,
            sparse_prompt_embeddings=sparse.to(self.dtype).expand(count, -1, -1, -1),
            dense_prompt_embeddings=dense.to(self.dtype),
            multimask_output=many,
            high_resolution_features=list(fine),
        )
        logits, ious, tokens, score = logits[:, 0], ious[:, 0], tokens[:, 0], score[:, 0, 0]
        if many:
            best = clicks.chosen(ious.argmax(dim=-1))
            rows = torch.arange(count, device=self.device)
            rivals = rival_share(logits, best)
            logits, ious, tokens = logits[rows, best], ious[rows, best], tokens[rows, best]
        else:
            rivals = torch.zeros(count, device=self.device)
            logits, ious, tokens = logits[:, 0], ious[:, 0], tokens[:, 0]
        there = score > 0
        logits = torch.where(there[:, None, None], logits, ABSENT_LOGIT)
        return Decoded(logits, ious, score, self._pointers(tokens, there), rivals)

    def _pointers(self, tokens: Tensor, there: Tensor) -> Tensor:
        return torch.where(there[:, None], self._model.object_pointer_proj(tokens), self._model.no_object_pointer)

    def take_mask(self, masks: Tensor, features: ImageFeatures) -> Decoded:
        """(G, S, S) masks of zeros and ones, taken as they are; the decoder only makes their object pointers."""
        model = self._model
        low = model.prompt_encoder.mask_input_size
        asked = _resized(model.mask_downsample(masks[:, None]), low)
        clicks = Clicks(self._no_click.points.expand(len(masks), -1, -1), self._no_click.labels.expand(len(masks), -1))
        seen = self._heads(features.top.expand(len(masks), -1, -1, -1), features.fine, clicks, asked, many=False)
        there = masks.flatten(1).any(dim=1)
        return Decoded(
            logits=_resized(masks[:, None] * _GIVEN_SCALE + _GIVEN_BIAS, low)[:, 0],
            mask_scores=torch.ones_like(seen.mask_scores),
            score_logits=there.to(self.dtype) * _GIVEN_SCALE + _GIVEN_BIAS,
            pointers=torch.where(there[:, None], seen.pointers, model.no_object_pointer),
            rivals=seen.rivals,
        )

    # ------------------------------------------------------------------ masks to memory

    def project(self, features: ImageFeatures) -> Tensor:
        """(1, c, h, w): the picture as the memory encoder wants it."""
        return self._projected(features.top)

    def _projected(self, top: Tensor) -> Tensor:
        projected: Tensor = self._model.memory_encoder.feature_projection(top)
        return projected

    def memorise(self, projected: Tensor, decoded: Decoded, prompted: list[bool]) -> Tensor:
        """(N, hw, 64) memories of N objects.

        Masks that somebody pointed at enter as zeros and ones, tracked ones as probabilities.
        """
        hard = upload(prompted, self.device) if any(prompted) else None
        return self._rounded(self._memories(projected, decoded.logits, decoded.score_logits, hard))

    def _rounded(self, memories: Tensor) -> Tensor:
        """Both references keep memories in bfloat16, whatever the model's format; rounding gives their numbers.

        Not within what is compiled: a compiler may leave out conversions that it thinks of as a detour.
        """
        return memories.to(torch.bfloat16).to(self.dtype)

    def _memories(self, projected: Tensor, logits: Tensor, score_logits: Tensor, hard: Tensor | None) -> Tensor:
        config, encoder = self._config, self._model.memory_encoder
        full = functional.interpolate(
            logits[:, None].float(), size=(self.size, self.size), mode="bilinear", align_corners=False
        )
        soft = torch.sigmoid(full)
        if hard is not None:
            soft = torch.where(hard[:, None, None, None], (full > 0).float(), soft)
        scaled = (soft * config.sigmoid_scale_for_mem_enc + config.sigmoid_bias_for_mem_enc).to(self.dtype)
        memory = encoder.projection(encoder.memory_fuser(projected + encoder.mask_downsampler(scaled)))
        if self._model.occlusion_spatial_embedding_parameter is not None:
            absent = (score_logits <= 0).to(self.dtype)[:, None, None, None]
            memory = memory + absent * self._model.occlusion_spatial_embedding_parameter[:, :, None, None]
        flat: Tensor = memory.flatten(2).transpose(1, 2)
        return flat


def _resized(masks: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(masks.shape[-2:]) == tuple(size):
        return masks
    resized = functional.interpolate(masks.float(), size=size, mode="bilinear", align_corners=False, antialias=True)
    return resized.to(masks.dtype)
