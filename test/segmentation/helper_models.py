"""Tiny models of the architectures beside the tracker's, with random weights, in folders as the Hub has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers as tf

WORDS = "a an the red blue green mug cup book box bottle table of photo with floor wall empty surface blurry background"


def bert_tokenizer() -> Any:
    """Whole words only; special tokens where Grounding DINO looks for them (ids 101, 102, 1012, 1029)."""
    ids = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103, ".": 1012, "?": 1029}
    ids |= {word: 200 + number for number, word in enumerate(WORDS.split())}
    taken = set(ids.values())
    ids |= {f"[unused{number}]": number for number in range(1100) if number not in taken}
    return tf.BertTokenizer(vocab=ids)


def clip_tokenizer() -> Any:
    """Letters only, since merges would need a corpus."""
    letters = [chr(97 + i) for i in range(26)]
    # OWL takes a text whose first token is number 0 for padding.
    vocabulary = ["!", "!</w>", *letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return tf.CLIPTokenizer(vocab={token: i for i, token in enumerate(vocabulary)}, merges=[])


def backbone(*stages: str) -> Any:
    return tf.SwinConfig(
        image_size=64,
        embed_dim=16,
        depths=[1, 1, 1, 1],
        num_heads=[1, 2, 2, 2],
        window_size=4,
        out_features=list(stages),
    )


def save(folder: Path, model: Any, *parts: Any, spread: float = 0.6) -> Path:
    # transformers' own initial weights are so small that every answer is the same.
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1 and "logit_s" not in name:
            torch.nn.init.normal_(parameter, std=spread / parameter.shape[-1] ** 0.25)
    for part in (model, *parts):
        part.save_pretrained(folder)
    return folder


def grounding_dino(folder: Path) -> Path:
    torch.manual_seed(3)
    text = tf.BertConfig(
        vocab_size=1100, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
    )
    config = tf.GroundingDinoConfig(
        backbone_config=backbone("stage2", "stage3", "stage4"), text_config=text, d_model=32, encoder_layers=1,
        decoder_layers=2, num_queries=20, encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=64,
        decoder_ffn_dim=64,
    )  # fmt: skip
    images = tf.GroundingDinoImageProcessorPil(size={"shortest_edge": 96, "longest_edge": 160})
    return save(folder, tf.GroundingDinoForObjectDetection(config), images, bert_tokenizer())


def owl(folder: Path, version: int = 2) -> Path:
    torch.manual_seed(4)
    text = {
        "vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64,
        "max_position_embeddings": 16, "bos_token_id": 54, "eos_token_id": 55, "pad_token_id": 0,
    }  # fmt: skip
    vision = {
        "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64, "image_size": 96,
        "patch_size": 16,
    }  # fmt: skip
    size = {"height": 96, "width": 96}
    if version == 2:
        config: Any = tf.Owlv2Config(text_config=text, vision_config=vision, projection_dim=32)
        images: Any = tf.Owlv2ImageProcessorPil(size=size)
        return save(folder, tf.Owlv2ForObjectDetection(config), images, clip_tokenizer(), spread=0.2)
    config = tf.OwlViTConfig(text_config=text, vision_config=vision, projection_dim=32)
    images = tf.OwlViTImageProcessorPil(size=size)
    return save(folder, tf.OwlViTForObjectDetection(config), images, clip_tokenizer(), spread=0.2)


def clip(folder: Path) -> Path:
    torch.manual_seed(5)
    text = {
        "vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64,
        "max_position_embeddings": 64, "bos_token_id": 54, "eos_token_id": 55, "pad_token_id": 55,
    }  # fmt: skip
    vision = {
        "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64, "image_size": 32,
        "patch_size": 8,
    }  # fmt: skip
    config = tf.CLIPConfig(text_config=text, vision_config=vision, projection_dim=32)
    images = tf.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    return save(folder, tf.CLIPModel(config), images, clip_tokenizer())


LABELS = {0: "cup", 1: "book", 2: "bottle"}


def rt_detr(folder: Path) -> Path:
    torch.manual_seed(6)
    resnet = tf.RTDetrResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = tf.RTDetrConfig(
        backbone_config=resnet, encoder_in_channels=[8, 16, 16], encoder_hidden_dim=32, d_model=32, num_queries=12,
        decoder_in_channels=[32, 32, 32], decoder_layers=1, decoder_attention_heads=2, decoder_ffn_dim=32,
        encoder_ffn_dim=32, encoder_attention_heads=2, id2label=LABELS, label2id={v: k for k, v in LABELS.items()},
    )  # fmt: skip
    images = tf.RTDetrImageProcessorPil(size={"height": 96, "width": 96})
    return save(folder, tf.RTDetrForObjectDetection(config), images)


def yolos(folder: Path) -> Path:
    torch.manual_seed(7)
    config = tf.YolosConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, image_size=[96, 128],
        patch_size=16, num_detection_tokens=9, id2label=LABELS, label2id={v: k for k, v in LABELS.items()},
        use_mid_position_embeddings=False,
    )  # fmt: skip
    images = tf.YolosImageProcessorPil(size={"shortest_edge": 96, "longest_edge": 128})
    return save(folder, tf.YolosForObjectDetection(config), images)


def mask2former(folder: Path) -> Path:
    torch.manual_seed(8)
    config = tf.Mask2FormerConfig(
        backbone_config=backbone("stage1", "stage2", "stage3", "stage4"), feature_size=32, mask_feature_size=32,
        hidden_dim=32, encoder_feedforward_dim=16, encoder_layers=1, decoder_layers=2, num_attention_heads=2,
        dim_feedforward=16, num_queries=8, id2label=LABELS, label2id={v: k for k, v in LABELS.items()},
    )  # fmt: skip
    images = tf.Mask2FormerImageProcessorPil(size={"height": 96, "width": 128}, num_labels=3, ignore_index=255)
    return save(folder, tf.Mask2FormerForUniversalSegmentation(config), images)


def segformer(folder: Path) -> Path:
    torch.manual_seed(9)
    names = {0: "wall", 1: "floor, flooring", 2: "mug"}
    config = tf.SegformerConfig(
        depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 16, 16], num_attention_heads=[1, 1, 2, 2], decoder_hidden_size=16,
        sr_ratios=[4, 2, 1, 1], id2label=names, label2id={v: k for k, v in names.items()},
    )  # fmt: skip
    images = tf.SegformerImageProcessorPil(size={"height": 64, "width": 64})
    return save(folder, tf.SegformerForSemanticSegmentation(config), images)


def depth_anything(folder: Path, kind: str = "relative") -> Path:
    torch.manual_seed(10)
    vit = tf.Dinov2Config(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, image_size=56, patch_size=14,
        out_features=["stage1", "stage2", "stage3", "stage4"], reshape_hidden_states=False, apply_layernorm=True,
    )  # fmt: skip
    config = tf.DepthAnythingConfig(
        backbone_config=vit, patch_size=14, reassemble_hidden_size=16, neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=8, head_hidden_size=8, depth_estimation_type=kind, max_depth=10 if kind == "metric" else 1,
    )  # fmt: skip
    images = tf.DPTImageProcessorPil(size={"height": 56, "width": 56}, ensure_multiple_of=14, keep_aspect_ratio=True)
    return save(folder, tf.DepthAnythingForDepthEstimation(config), images)


def glpn(folder: Path) -> Path:
    torch.manual_seed(11)
    config = tf.GLPNConfig(
        depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 16, 16], num_attention_heads=[1, 1, 2, 2], decoder_hidden_size=8,
        sr_ratios=[4, 2, 1, 1],
    )  # fmt: skip
    return save(folder, tf.GLPNForDepthEstimation(config), tf.GLPNImageProcessorPil())
