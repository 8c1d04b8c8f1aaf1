"""What every run has: settings, a folder, a report, plots."""
