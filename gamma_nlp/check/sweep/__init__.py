"""Places, probes and audits every text model type of the installed transformers."""
