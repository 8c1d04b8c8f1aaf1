"""Parallel text, in a folder and in the archive of IWSLT14."""

from __future__ import annotations

from pathlib import Path

from gamma_nlp.errors import GammaError
from tests.support.fuzz.kind import Kind


def _parallel(folder: Path) -> None:
    from gamma_nlp.tasks.translation.prepare.cleaning import Cleaning, Preparation
    from gamma_nlp.tasks.translation.prepare.prepare import prepare, read_corpus

    corpus = read_corpus(folder / "text", ("de", "en"))
    recipe = Preparation(merges=20, cleaning=Cleaning(max_ratio=3), valid_every=5)
    try:
        prepare(corpus, recipe, folder / "out", source=folder / "text")
    except GammaError:
        left = sorted(path.name for path in folder.iterdir() if path.name != "text")
        assert not left, f"a preparation that was refused leaves {left}"
        raise


def _parallel_files() -> dict[str, bytes]:
    lines = {"de": "Ein Hund sieht einen Ball {}.", "en": "A dog sees a ball {}."}
    return {
        f"text/{split}.{language}": "".join(f"{line.format(n)}\n" for n in range(count)).encode()
        for language, line in lines.items()
        for split, count in (("train", 12), ("val", 3), ("test_x", 3))
    }


def _archive(folder: Path) -> None:
    from gamma_nlp.tasks.translation.prepare import iwslt14
    from gamma_nlp.tasks.translation.prepare.prepare import read_corpus

    assert read_corpus(folder / "de-en.tgz", iwslt14.LANGUAGES).names


def _archive_files() -> tuple[dict[str, bytes], ...]:
    from tests.support.parallel_corpora import archive_files, tgz

    return ({"de-en.tgz": tgz(archive_files())},)


PARALLEL_TEXT = Kind(good=lambda: (_parallel_files(),), read=_parallel, share=1.5)
ARCHIVES = Kind(good=_archive_files, read=_archive, share=2)
