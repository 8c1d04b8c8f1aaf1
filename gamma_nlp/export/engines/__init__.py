"""One file per engine: how it matches patterns, what its models' parameters are called, its text."""
