"""What the experiments of ``recipes/`` share: images, small networks, grids of short trainings.

* :mod:`gamma_nlp.companions.experiments.images`: readers of MNIST and CIFAR-10.
* :mod:`gamma_nlp.companions.experiments.cells`: a list of trainings over worker processes.
"""
