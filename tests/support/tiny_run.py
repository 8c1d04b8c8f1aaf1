"""A run's folder as the translation recipe leaves it, with a random model: for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gamma_nlp.tasks.translation.prepare.cleaning import Cleaning, Recipe
from gamma_nlp.tasks.translation.prepare.prepare import prepare, read_corpus
from gamma_nlp.tasks.translation.text import TranslationText, read_prepared
from tests.support.parallel_corpora import make_folder
from tests.support.tiny_models import tiny_marian

POSITIONS = 40


def prepared(tmp_path: Path) -> Path:
    """A prepared folder: German and English of ``parallel_corpora.make_folder``."""
    path = tmp_path / "prepared"
    corpus = read_corpus(make_folder(tmp_path), ("de", "en"))
    prepare(corpus, Recipe(merges=7, cleaning=Cleaning()), path)
    return path


def random_model(text: TranslationText, seed: int = 0) -> Any:
    """A random Marian model of the text's vocabularies."""
    return tiny_marian(
        seed,
        vocab_size=len(text.source),
        decoder_vocab_size=len(text.target),
        share_encoder_decoder_embeddings=text.joint,
        max_position_embeddings=POSITIONS,
        init_std=0.5,
    )


def checkpoint(run: Path, step: int, *, best: str | None = None, seed: int = 0) -> Path:
    """Add a checkpoint; ``best`` is what the Trainer's state calls the best one."""
    path = run / f"checkpoint-{step}"
    random_model(TranslationText.load(run), seed).save_pretrained(path)
    state = {"global_step": step, "best_model_checkpoint": best}
    (path / "trainer_state.json").write_text(json.dumps(state), encoding="utf-8")
    return path


def tiny_run(tmp_path: Path, *, joint: bool = True, averaged: bool = True) -> Path:
    """A run's folder: its text and, with ``averaged``, its final model."""
    run = tmp_path / "run"
    text = read_prepared(prepared(tmp_path), "de", "en", joint=joint)
    text.save(run)
    if averaged:
        random_model(text).save_pretrained(run / "averaged")
    return run
