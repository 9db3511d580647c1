"""The nano model: its configuration, the initial weights that learn, and its checkpoint directory."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sam_perception.errors import CheckpointError, ModelNotFound
from sam_perception.files import replaced

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
CHECKSUMS = "SHA256SUMS"

BLOCKS = "vision_encoder.backbone.blocks."  # what the names of the encoder's blocks begin with
MEMORY_DIM = 64  # transformers' memory attention is written for 64


def nano_config(image_size: int = 256) -> Any:
    """A `Sam2VideoConfig` of 5.6 million parameters for square images of `image_size` pixels.

    The weights do not depend on the image size, so that training can begin with small pictures: the coarse stages'
    windows grow with it, so that they go on to see the whole picture, and nothing is filled up.
    Hidden size 128 is the least that transformers' streaming session runs with. The mask decoder
    attends at full width: halving it, as SAM 2 does at 256 channels, leaves too little at 128.
    """
    from transformers import (
        Sam2HieraDetConfig,
        Sam2VideoConfig,
        Sam2VideoMaskDecoderConfig,
        Sam2VideoPromptEncoderConfig,
        Sam2VisionConfig,
    )

    hidden, widths = 128, [32, 64, 128, 256]
    backbone = Sam2HieraDetConfig(
        image_size=[image_size, image_size],
        hidden_size=widths[0],
        embed_dim_per_stage=widths,
        num_attention_heads=1,
        num_attention_heads_per_stage=[1, 2, 4, 8],
        blocks_per_stage=[1, 3, 8, 3],
        window_size_per_stage=[8, 8, image_size // 16, image_size // 32],
        global_attention_blocks=[],
        window_positional_embedding_background_size=[7, 7],
    )
    grids = [[image_size // stride] * 2 for stride in (4, 8, 16)]
    vision = Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=widths[::-1],
        fpn_hidden_size=hidden,
        backbone_feature_sizes=grids,
    )
    decoder = Sam2VideoMaskDecoderConfig(
        hidden_size=hidden,
        mlp_dim=256,
        num_attention_heads=2,
        attention_downsample_rate=1,
        iou_head_hidden_dim=hidden,
    )
    return Sam2VideoConfig(
        vision_config=vision,
        prompt_encoder_config=Sam2VideoPromptEncoderConfig(image_size=image_size, hidden_size=hidden),
        mask_decoder_config=decoder,
        image_size=image_size,
        memory_attention_rope_feat_sizes=grids[-1],
        memory_attention_hidden_size=hidden,
        memory_attention_num_layers=2,
        memory_attention_feed_forward_hidden_size=256,
        memory_attention_dropout=0.0,
        memory_attention_rope_dropout=0.0,
        memory_encoder_hidden_size=hidden,
        memory_encoder_output_channels=MEMORY_DIM,
        mask_downsampler_embed_dim=hidden,
        memory_fuser_num_layers=1,
        memory_fuser_embed_dim=hidden,
        memory_fuser_intermediate_dim=256,
        memory_fuser_layer_scale_init_value=0.1,
    )


def new_model(image_size: int = 256, *, attention: str = "sdpa", config: Any = None) -> Any:
    """A `Sam2VideoModel` of the nano configuration (or `config`) with transformers' own random weights."""
    from transformers import Sam2VideoModel

    config = nano_config(image_size) if config is None else config
    config._attn_implementation = attention
    return Sam2VideoModel(config)


@torch.no_grad()
def initialise(model: Any) -> None:
    """Replace transformers' initial weights, from which hardly anything is learnt.

    It leaves position and memory embeddings zero and draws linear layers with a deviation of 0.02.
    Here linear layers are Xavier uniform, embeddings have O(1) or small random values, and attention
    starts near the identity: queries equal keys, so that alike tokens attend to each other
    (Trockman and Kolter, "Mimetic initialization of self-attention layers", 2023).
    """
    small = ("pos_embed", "memory_temporal_positional_encoding", "no_memory", "no_object_pointer", "occlusion")
    tokens = ("token.weight", "tokens.weight", "point_embed", "no_mask_embed", "not_a_point")
    for name, value in model.named_parameters():
        if any(part in name for part in tokens):
            nn.init.normal_(value, std=0.5)
        elif any(part in name for part in small):
            nn.init.trunc_normal_(value, std=0.02)
        elif value.ndim >= 2 and name.endswith("weight"):
            nn.init.xavier_uniform_(value)
    for module in model.modules():
        kind = type(module).__name__
        if kind == "Sam2VideoMemoryFuserCXBlock":
            # transformers makes it zero, whatever the configuration says.
            module.scale.fill_(model.config.memory_fuser_layer_scale_init_value)
        elif kind == "Sam2VideoAttention":
            nn.init.orthogonal_(module.q_proj.weight)
            module.k_proj.weight.copy_(module.q_proj.weight)
            nn.init.zeros_(module.q_proj.bias)
            nn.init.zeros_(module.k_proj.bias)
        elif kind == "Sam2VideoRoPEAttention":
            # A constant real part in every rotated pair makes attention begin with nearby positions.
            for linear in (module.q_proj, module.k_proj):
                linear.weight.mul_(0.3)
                linear.bias.fill_(1.0)
                linear.bias[1::2] = 0.0
    tie_position_code(model)


@torch.no_grad()
def tie_position_code(model: Any) -> None:
    """Give prompts and image the same random position code, as SAM has it; transformers draws two."""
    model.shared_image_embedding.positional_embedding.copy_(model.prompt_encoder.shared_embedding.positional_embedding)


def parameter_count(model: nn.Module) -> int:
    """How many numbers are learnt."""
    return sum(p.numel() for p in model.parameters())


def save_model(model: Any, folder: Path, *, half: bool = True) -> None:
    """Write config.json, model.safetensors and their SHA256SUMS into `folder`.

    With `half`, floating-point weights are rounded to float16.

    Raises:
        CheckpointError: a weight is not finite, or too large for float16.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        stored = value.detach().cpu()
        stored = stored.half() if half and stored.is_floating_point() else stored
        if stored.is_floating_point() and not torch.isfinite(stored).all():
            raise CheckpointError(f"{name} has values that are not finite as {stored.dtype}: train with a lower rate")
        tensors[name] = stored.contiguous()
    (folder / CHECKSUMS).unlink(missing_ok=True)  # of the files before; none is better than wrong ones
    with replaced(folder / WEIGHTS) as path:
        save_file(tensors, path, metadata={"format": "pt"})
    with replaced(folder / CONFIG) as path:
        path.write_text(json.dumps(_plain_config(model.config), indent=2, sort_keys=True) + "\n")
    write_checksums(folder)


def _plain_config(config: Any) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    # Weights are cast when they are loaded; a dtype here would override the caller's.
    values.pop("dtype", None)
    values["architectures"] = ["Sam2VideoModel"]
    return values


def write_checksums(folder: Path) -> None:
    """SHA256SUMS of config and weights, in the format of sha256sum."""
    lines = [f"{sha256(folder / name)}  {name}\n" for name in (CONFIG, WEIGHTS)]
    with replaced(folder / CHECKSUMS) as path:
        path.write_text("".join(lines))


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def begin_with(model: Any, folder: Path) -> None:
    """Read the weights of a model directory into `model`, whose encoder may have more blocks in a stage.

    The added blocks lie between those that were there and pass on what they get: `model` says what the smaller one
    said, until it learns. Of each, both residual branches end in zeros, and the rest is left as it is.

    Raises:
        ModelNotFound: no weights or configuration.
        CheckpointError: damaged, its encoder has more blocks than that of `model`, or it differs in something else.
    """
    path = folder / WEIGHTS
    tensors = _read_tensors(path)
    had = _blocks_said(folder / CONFIG)
    has = list(model.config.vision_config.backbone_config.blocks_per_stage)
    if len(had) != len(has) or any(before > now for before, now in zip(had, has, strict=True)):
        raise CheckpointError(f"{folder} has an encoder of {had} blocks: at most {has} can be begun with")
    places = block_places(had, has)
    numbers = {int(name[len(BLOCKS) :].split(".")[0]) for name in tensors if name.startswith(BLOCKS)}
    if numbers != set(range(len(places))):
        raise CheckpointError(f"{path} does not fit {CONFIG}: {len(numbers)} blocks of an encoder, {had} are said")
    moved = {_moved(name, places): value for name, value in tensors.items()}
    own = model.state_dict()
    for number in set(range(sum(has))) - set(places):
        for name in (k for k in own if k.startswith(f"{BLOCKS}{number}.")):
            ends = name.rsplit(".", 1)[0].endswith((".attn.proj", ".mlp.proj_out"))
            moved[name] = torch.zeros_like(own[name]) if ends else own[name]
    _fill(model, moved, path)


def _blocks_said(path: Path) -> list[int]:
    """Blocks in each stage of the encoder, by a model directory's configuration."""
    try:
        config = json.loads(path.read_text())
        return [int(n) for n in config["vision_config"]["backbone_config"]["blocks_per_stage"]]
    except FileNotFoundError as error:
        raise ModelNotFound(f"no configuration at {path}: pass a directory with {CONFIG}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} does not say blocks_per_stage of its encoder: copy it again") from error


def block_places(had: list[int], has: list[int]) -> list[int]:
    """Where the blocks of an encoder of `had` blocks in each stage go in one of `has`: evenly, the first one first."""
    return [sum(has[:stage]) + k * has[stage] // n for stage, n in enumerate(had) for k in range(n)]


def _moved(name: str, places: list[int]) -> str:
    if not name.startswith(BLOCKS):
        return name
    number, rest = name[len(BLOCKS) :].split(".", 1)
    return f"{BLOCKS}{places[int(number)]}.{rest}"


def _read_tensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ModelNotFound(f"no weights at {path}: pass a directory with {WEIGHTS}")
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except Exception as error:  # safetensors raises a type of its own that is not exported
        raise CheckpointError(f"{path} cannot be read ({error}): copy it again") from error
    return tensors


def _fill(model: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    own = model.state_dict()
    wrong = [k for k in own if k not in tensors or tensors[k].shape != own[k].shape]
    if wrong or set(tensors) - set(own):
        raise CheckpointError(
            f"{path} does not fit the model: {len(wrong)} of {len(own)} tensors missing or of another shape, "
            f"{len(set(tensors) - set(own))} unknown; first: {(wrong or sorted(set(tensors) - set(own)))[0]}"
        )
    model.load_state_dict({k: v.to(own[k].dtype) for k, v in tensors.items()})


def resized(model: Any, image_size: int) -> Any:
    """A copy of a nano model for pictures of another size, with the same weights."""
    other = new_model(image_size, attention=model.config._attn_implementation)
    other.load_state_dict(model.state_dict())
    return other.to(next(model.parameters()).device)


def weights_megabytes(model: nn.Module) -> float:
    """Size of the float16 weights."""
    return math.fsum(v.numel() * 2 for v in model.state_dict().values()) / 1e6
