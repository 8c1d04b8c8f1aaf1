"""Parallel text made ready for training."""
