"""Strong L1 and L2 regularisation that learning survives (arXiv:1811.08056)."""
