"""What the runs of a study found, read strictly: which of them count, and how they pair."""
