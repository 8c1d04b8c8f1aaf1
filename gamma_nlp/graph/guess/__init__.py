"""Random inputs for models of transformers, made after what their configs say."""
