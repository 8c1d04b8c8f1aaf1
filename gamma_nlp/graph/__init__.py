"""Runs a model once and records what each operation does to the signal, as plain data."""
