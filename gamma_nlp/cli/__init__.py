"""The ``gamma-nlp`` command: one file per command."""
