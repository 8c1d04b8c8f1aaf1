"""Three companion methods, a folder each: what weight decay does besides the gains.

* ``effective_rate``: the effective learning rate of scale-invariant weights, and unit norm.
* ``strong``: L1 and L2 at the steps at which learning bears them, sparsity, compressed files.
* ``batch_norm``: the ridge penalty that a batch norm amounts to, and its multipliers.
"""
