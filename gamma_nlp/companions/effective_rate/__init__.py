"""The effective learning rate of scale-invariant weights (arXiv:1706.05350)."""
