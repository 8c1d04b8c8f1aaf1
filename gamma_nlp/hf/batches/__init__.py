"""Batches by length and by a budget of tokens, for any Trainer."""
