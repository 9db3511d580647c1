"""Synthetic scenes, training, fine-tuning and evaluation of SAM 2 models."""
