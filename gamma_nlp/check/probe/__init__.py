"""The numeric check of a gain table: tape, facts, noise, additions, verdicts, in this order.

Nothing here reads the residual graph or shares code with it, so that the two check each other.
"""
