"""Arms by doses by seeds: run them, compare them, say whether the choice of decay mattered."""
