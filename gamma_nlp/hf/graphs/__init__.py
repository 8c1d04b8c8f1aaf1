"""Training steps that are recorded once as CUDA graphs and replayed."""
