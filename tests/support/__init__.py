"""What several tests share: models, inputs, runs, checks."""
