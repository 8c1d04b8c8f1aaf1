"""How the gains of a run grew, read from its checkpoints alone."""
