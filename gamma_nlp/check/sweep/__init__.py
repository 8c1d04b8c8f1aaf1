"""Places, probes and audits every model type of the installed transformers."""

KINDS = ("text", "other", "all")
"""Types of models: those that read text alone, those that read images, audio or series, or all."""
