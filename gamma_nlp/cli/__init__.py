"""The ``gamma-nlp`` command: one file a command."""
