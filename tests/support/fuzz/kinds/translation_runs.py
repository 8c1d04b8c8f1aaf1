"""Folders of finished translation runs."""

from __future__ import annotations

from pathlib import Path

from tests.support.fuzz.kind import Kind, made


def _translation_run(folder: Path) -> None:
    from gamma_nlp.tasks.translation.checkpoints import find_model, load_saved
    from gamma_nlp.tasks.translation.text import TranslationText

    text = TranslationText.load(folder / "run")
    load_saved(find_model(folder / "run"))
    text.encode_source(text.subwords(["Ein Hund sieht 3."]))


def _translation_run_files() -> tuple[dict[str, bytes], ...]:
    from tests.support.tiny_run import tiny_run

    whole = made(tiny_run)
    return ({name: data for name, data in whole.items() if name.startswith("run/")},)


TRANSLATION_RUNS = Kind(good=_translation_run_files, read=_translation_run, share=0.5)
