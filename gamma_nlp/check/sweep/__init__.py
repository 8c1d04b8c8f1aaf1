"""Places, probes and audits every model type of the installed transformers."""
