"""Checkpoints from fairseq to transformers and back."""
