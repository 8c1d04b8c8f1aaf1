"""``gamma-nlp`` in a process of its own, and the config of a small model for it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

BERT = {
    "model_type": "bert",
    "architectures": ["BertForMaskedLM"],
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_attention_heads": 2,
    "num_hidden_layers": 3,
    "vocab_size": 16,
}
Capture = pytest.CaptureFixture[str]


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gamma_nlp.cli.main", *words],
        env={**os.environ, "NO_PROXY": "127.0.0.1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
