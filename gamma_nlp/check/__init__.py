"""Checks a gain table on the user's model, and compares the stock rule with it."""
