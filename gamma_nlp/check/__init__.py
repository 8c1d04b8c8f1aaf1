"""Proves a gain table on the user's model, and holds the stock rule against it."""
