"""fairseq's commands on current Python and torch, with ``--optimizer gamma_adam``.

Within this package ``import fairseq`` always means the installed one, and nothing imports it
before a command needs it.
"""
