"""Decay by category in fairseq: its own commands, made to run today, and ``gamma_adam``.

``shims`` lets fairseq 0.12.2 run under today's Python and torch, ``commands`` are its commands
with the shims in place, and ``adam`` is the optimizer that ``--optimizer gamma_adam`` names. In
this package ``fairseq`` is always the installed one; nothing here imports it before it is used.
"""
