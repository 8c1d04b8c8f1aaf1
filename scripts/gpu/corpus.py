"""Made-up parallel text in the form of ``scripts/prepare_iwslt14``, the same every time.

Lengths and word frequencies are those of subtitles: pairs of 21 subwords on average, of which few
are long, and Zipf's law over 9,000 subwords a language. Words of one language stand for words of
the other, so that a model has something to learn.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

LANGUAGES = ("de", "en")
TYPES = 9_000
SPLITS = {"train": 40_000, "valid": 1_000, "test": 1_000}
QUICK = {"train": 400, "valid": 16, "test": 8}
_LONGEST = 150


def write_corpus(target: Path, *, quick: bool = False) -> Path:
    """Write a prepared folder, whole or not at all, and return it."""
    folder = target.with_name(f"{target.name}.{os.getpid()}")
    types, sizes = (100, QUICK) if quick else (TYPES, SPLITS)
    (folder / "tokens").mkdir(parents=True, exist_ok=True)
    words = {code: np.array([f"{code}{i}" for i in range(types)]) for code in LANGUAGES}
    for number, (name, size) in enumerate(sizes.items()):
        for code, lines in zip(LANGUAGES, _pairs(types, size, number), strict=True):
            text = "".join(" ".join(words[code][line]) + "\n" for line in lines)
            for file in (folder / f"{name}.{code}", folder / "tokens" / f"{name}.{code}"):
                file.write_text(text, encoding="utf-8")
    own = {code: "".join(f"{word} 1\n" for word in words[code]) for code in LANGUAGES}
    for code, text in own.items():
        (folder / f"vocab.{code}").write_text(text, encoding="utf-8")
    (folder / "vocab").write_text("".join(own.values()), encoding="utf-8")
    (folder / "codes").write_text("#version: 0.2\n", encoding="utf-8")
    manifest = {"languages": LANGUAGES, "recipe": {"lowercase": False, "tokenized": True}}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder.rename(target)


def _pairs(types: int, size: int, seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return pairs of lines, each an array of numbers of words."""
    rng = np.random.default_rng(seed)
    chances = 1 / np.arange(1, types + 1)
    chances /= chances.sum()
    lengths = np.clip(rng.lognormal(2.85, 0.6, size), 2, _LONGEST).astype(int)
    stretch = np.clip(rng.normal(1.0, 0.12, size), 0.6, 1.5)
    others = np.clip(lengths * stretch, 2, _LONGEST).astype(int)
    stream = rng.choice(types, size=int(lengths.sum()), p=chances)
    source = np.split(stream, np.cumsum(lengths)[:-1])
    target = [np.resize(line, length) for line, length in zip(source, others, strict=True)]
    return source, target
