"""Convert translation models from fairseq to transformers and back."""
