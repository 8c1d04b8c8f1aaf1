"""Files and folders written whole or not at all; text, JSON and YAML read within limits."""
