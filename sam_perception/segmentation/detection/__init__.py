"""Boxes and labels from words, from detectors and from semantic segmentation."""
