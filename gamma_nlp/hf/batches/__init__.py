"""How training data becomes batches: by token budget, or by similar length."""
