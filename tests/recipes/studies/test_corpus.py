"""The corpus is split by file, made once, and says what each window and each token is."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from gamma_nlp.errors import GammaError
from recipes.studies.corpus import Corpus, is_validation, load_corpus, sources, standard_library

SIZES = {"vocabulary": 300, "length": 16, "windows": 8}


def write_sources(folder: Path, files: int = 40) -> Path:
    """Small files that differ, of which some are for validation."""
    folder.mkdir()
    for number in range(files):
        lines = [f"def add_{number}_{i}(left, right):\n    return left + {i}\n" for i in range(9)]
        (folder / f"module_{number}.py").write_text("\n".join(lines), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sources(tmp_path_factory.mktemp("text") / "lib")


@pytest.fixture(scope="module")
def corpus(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return load_corpus(folder, keep_in=tmp_path_factory.mktemp("kept"), **SIZES)


def test_tests_tables_and_other_packages_are_left_out(tmp_path: Path) -> None:
    kept = ["json/decoder.py", "re.py"]
    left = ["site-packages/a.py", "test/b.py", "x/tests/c.py", "encodings/d.py"]
    for name in [*kept, *left, "_sysconfigdata__linux.py", "notes.txt"]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("pass\n", encoding="utf-8")
    (tmp_path / "latin.py").write_bytes(b"# caf\xe9\n")
    assert [name for name, _ in sources(tmp_path)] == kept


def test_the_standard_library_is_there() -> None:
    assert (standard_library() / "textwrap.py").is_file()


def test_no_file_is_in_both_sets_and_windows_name_theirs(folder: Path, corpus: Corpus) -> None:
    names = {str(one).rpartition(":")[0] for one in corpus.ids}
    assert names and all(is_validation(name) for name in names)
    assert len(set(corpus.ids)) == len(corpus.ids) == len(corpus.validation) == 8
    texts = dict(sources(folder))
    train = sum(len(text) for name, text in texts.items() if not is_validation(name))
    covered = corpus.bytes_of[corpus.train].sum()
    assert 0 <= train - covered < 16 * corpus.bytes_of.max()  # all but the last, cut window


def test_windows_hold_the_text_of_their_file(folder: Path, corpus: Corpus) -> None:
    texts = dict(sources(folder))
    for one in sorted({str(one).rpartition(":")[0] for one in corpus.ids}):
        rows = [at for at, name in enumerate(corpus.ids) if str(name).rpartition(":")[0] == one]
        assert corpus.bytes_of[corpus.validation[rows]].sum() <= len(texts[one])


def test_a_corpus_is_made_once_and_again_where_its_text_or_settings_differ(
    folder: Path, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load_corpus(folder, keep_in=tmp_path, **SIZES)
    assert first.digests() == corpus.digests()  # the same wherever it is made
    other = load_corpus(folder, keep_in=tmp_path, **{**SIZES, "length": 8})
    assert other.digests() != first.digests() and len(os.listdir(tmp_path)) == 2
    monkeypatch.setattr("recipes.studies.corpus._make", None)  # from the file, or not at all
    again = load_corpus(folder, keep_in=tmp_path, **SIZES)
    for name, values in vars(first).items():
        np.testing.assert_array_equal(getattr(again, name), values)
    with pytest.raises(TypeError):
        load_corpus(write_sources(tmp_path / "more", 41), keep_in=tmp_path, **SIZES)


def test_a_damaged_file_and_too_little_text_are_named(folder: Path, tmp_path: Path) -> None:
    load_corpus(folder, keep_in=tmp_path, **SIZES)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(GammaError, match=f"{path.name} is damaged .*; delete it"):
        load_corpus(folder, keep_in=tmp_path, **SIZES)
    with pytest.raises(GammaError, match="too little text"):
        load_corpus(write_sources(tmp_path / "few", 1), keep_in=tmp_path, **SIZES)
    with pytest.raises(GammaError, match="no folder"):
        load_corpus(tmp_path / "none", keep_in=tmp_path, **SIZES)
