"""Decides where each gain sits, from name tables and from the graph."""
