"""Companion methods, each apart from the others: what weight decay does besides the gains.

* :mod:`gamma_nlp.companions.invariance`: which tensors can be rescaled without any effect.
* :mod:`gamma_nlp.companions.effective`: how fast such tensors really turn, and where decay leads.
* :mod:`gamma_nlp.companions.unit_norm`: training with their norm held constant.
* :mod:`gamma_nlp.companions.rates`: a Trainer callback that logs their rates.
* :mod:`gamma_nlp.companions.strong`: L1 and L2 at the steps at which learning bears them.
* :mod:`gamma_nlp.companions.strong_log`: a Trainer callback that logs what it does.
* :mod:`gamma_nlp.companions.sparsity`: zeros and compression of a model.
* :mod:`gamma_nlp.companions.compressed`: checkpoints without the zeros.
* :mod:`gamma_nlp.companions.bn_penalty`: the ridge penalty that a batch norm amounts to.
* :mod:`gamma_nlp.companions.multipliers`: its strength in a network, from one backward pass.
"""
