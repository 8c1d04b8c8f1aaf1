"""The versions that a result depends on. Imports none of the packages, so that it costs nothing."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Sequence

PACKAGES = (
    "gamma_nlp",
    "torch",
    "transformers",
    "accelerate",
    "datasets",
    "evaluate",
    "tokenizers",
    "numpy",
)


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Return Python's version and those of the packages that are installed."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
