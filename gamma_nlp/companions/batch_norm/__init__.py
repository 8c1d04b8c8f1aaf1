"""The penalty that a batch norm imposes by itself (arXiv:2209.07587)."""
