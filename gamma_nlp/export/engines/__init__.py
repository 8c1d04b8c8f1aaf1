"""One file per engine: how it matches patterns, what it calls parameters, its text."""
