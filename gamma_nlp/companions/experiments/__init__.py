"""Experiments that show the companion methods' effects; recipes/ holds their commands."""
