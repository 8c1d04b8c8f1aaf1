"""What a study compares: its config, its cells, and what is known of them before they run."""
