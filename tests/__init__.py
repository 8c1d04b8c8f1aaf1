"""The tests, mirroring the package; what they share is in support/."""
