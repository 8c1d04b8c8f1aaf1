"""The statistics of a study: paired comparisons, their intervals, and verdicts in words."""
