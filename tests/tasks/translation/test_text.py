"""Text of a translation run: there and back, kept in a folder, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from gamma_nlp.errors import GammaError
from gamma_nlp.tasks.translation.text import SPECIAL, TranslationText, read_prepared, word_tokenizer
from tests.support.parallel_corpora import lines
from tests.support.tiny_run import prepared, tiny_run

PAD_ID, END_ID, UNKNOWN_ID = range(3)


@pytest.fixture(params=[True, False], ids=["joint", "separate"])
def joint(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return prepared(tmp_path)


def test_training_text_is_encoded_without_loss(folder: Path, joint: bool) -> None:
    text = read_prepared(folder, "de", "en", joint=joint)
    pieces, tokens = lines(folder / "train.en"), lines(folder / "tokens/train.en")
    ids = text.encode_target(pieces)
    assert text.decode(ids) == tokens
    assert all(row[-1] == END_ID and UNKNOWN_ID not in row for row in ids)
    sources = text.encode_source(lines(folder / "train.de"))
    assert not any(UNKNOWN_ID in row for row in sources)


def test_plain_text_becomes_what_training_saw(folder: Path) -> None:
    text = read_prepared(folder, "de", "en", joint=True)
    assert text.subwords(lines(folder / "raw/train.de")) == lines(folder / "train.de")
    assert text.subwords([]) == []
    assert text.encode_source([]) == []
    assert text.encode_source([""]) == [[END_ID]]
    assert text.plain(["ein dog 3 ."]) == ["ein dog 3."]


def test_letters_and_tokens_stay_where_training_kept_them(folder: Path) -> None:
    text = read_prepared(folder, "de", "en", joint=True)
    kept = replace(text, lowercase=False, tokenized=True)
    joined = [piece.replace("@@ ", "") for piece in kept.subwords(["Ein  Hund's Ball."])]
    assert joined == ["Ein Hund's Ball."]  # spaces made single, nothing split off or escaped


def test_vocabularies_are_shared_or_of_a_language(folder: Path, joint: bool) -> None:
    text = read_prepared(folder, "de", "en", joint=joint)
    assert text.joint is joint
    assert ("dog" in text.source.get_vocab()) is joint
    assert "dog" in text.target.get_vocab()
    for tokenizer in (text.source, text.target):
        assert tokenizer.convert_tokens_to_ids(list(SPECIAL)) == [PAD_ID, END_ID, UNKNOWN_ID]


def test_what_is_saved_is_loaded(folder: Path, tmp_path: Path, joint: bool) -> None:
    text = replace(read_prepared(folder, "en", "de", joint=joint), lowercase=False)
    text.save(tmp_path / "run")
    again = TranslationText.load(tmp_path / "run")
    for name in ("source_language", "target_language", "lowercase", "tokenized", "codes", "joint"):
        assert getattr(again, name) == getattr(text, name), name
    plain = ["Ein Dog 5.", "Ein ganz neues Wort."]
    pieces = text.subwords(plain)
    assert again.subwords(plain) == pieces
    assert again.encode_source(pieces) == text.encode_source(pieces)
    assert again.encode_target(pieces) == text.encode_target(pieces)


def test_unknown_words_share_an_id_and_show_as_such(folder: Path) -> None:
    text = read_prepared(folder, "de", "en", joint=True)
    ids = text.encode_target(["dog xyz 3"])
    assert ids[0][1] == UNKNOWN_ID
    assert text.decode(ids) == ["dog <unk> 3"]


def test_padding_and_end_marks_are_no_words(folder: Path) -> None:
    text = read_prepared(folder, "de", "en", joint=True)
    ids = text.encode_target(["ein dog"])[0]
    assert text.decode([[END_ID, *ids, PAD_ID, PAD_ID], [END_ID]]) == ["ein dog", ""]


@pytest.mark.parametrize("mark", SPECIAL)
def test_a_mark_in_the_text_is_a_word_of_the_text(mark: str, folder: Path) -> None:
    text = read_prepared(folder, "de", "en", joint=True)
    ids = text.encode_source([f"ein {mark} hund", f"ein{mark}hund", mark])
    assert [row.index(END_ID) + 1 for row in ids] == [len(row) for row in ids] == [4, 2, 2]
    assert not any(PAD_ID in row for row in ids)
    escaped = text.encode_source(text.subwords([f"ein {mark} hund"]))[0]
    assert escaped.index(END_ID) + 1 == len(escaped) and PAD_ID not in escaped


def test_a_vocabulary_that_holds_a_mark_keeps_the_first_ids() -> None:
    tokenizer = word_tokenizer(["dog", "</s>", "cat", "dog"])
    assert tokenizer.get_vocab() == {"<pad>": 0, "</s>": 1, "<unk>": 2, "dog": 3, "cat": 4}


def test_a_folder_that_is_not_prepared_is_named(tmp_path: Path) -> None:
    with pytest.raises(GammaError, match=r"data .* is not a prepared folder .*prepare_iwslt14"):
        read_prepared(tmp_path, "de", "en", joint=True)
    for content in ("[]", '{"languages": ["de", "en"], "recipe": {}}'):
        (tmp_path / "manifest.json").write_text(content)
        with pytest.raises(GammaError, match="is not a prepared folder"):
            read_prepared(tmp_path, "de", "en", joint=True)


def test_wrong_languages_are_named(folder: Path) -> None:
    with pytest.raises(GammaError, match="has de and en, not de and fr; set source_language"):
        read_prepared(folder, "de", "fr", joint=True)


@pytest.mark.parametrize("broken", ["", "codes", "text.json", "source/tokenizer.json"])
def test_a_folder_that_is_not_a_run_is_named(broken: str, folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    if broken:
        read_prepared(folder, "de", "en", joint=True).save(run)
        (run / "text" / broken).unlink()
    with pytest.raises(GammaError, match=r"run is not the folder of a translation run: .*output_d"):
        TranslationText.load(run)


@pytest.mark.parametrize("absent", ["codes", "text.json"])
def test_the_file_that_a_run_lacks_is_named(absent: str, folder: Path, tmp_path: Path) -> None:
    read_prepared(folder, "de", "en", joint=True).save(tmp_path / "run")
    (tmp_path / "run" / "text" / absent).unlink()
    with pytest.raises(GammaError, match=rf"\(No such file or directory: \S*/text/{absent}\)"):
        TranslationText.load(tmp_path / "run")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"source_language": "de"}'])
def test_a_damaged_run_is_named(content: str, folder: Path, tmp_path: Path) -> None:
    read_prepared(folder, "de", "en", joint=True).save(tmp_path / "run")
    (tmp_path / "run/text/text.json").write_text(content)
    with pytest.raises(GammaError, match="is not the folder of a translation run"):
        TranslationText.load(tmp_path / "run")


def test_settings_of_a_tokenizer_that_do_not_fit_are_named(tmp_path: Path) -> None:
    run = tiny_run(tmp_path, averaged=False)
    path = run / "text" / "source" / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(settings | {"model_max_length": "long"}), encoding="utf-8")
    with pytest.raises(GammaError, match="text cannot be read"):
        TranslationText.load(run)


@pytest.mark.parametrize(
    "changes",
    [
        {"normalizer": {"type": "Lowercase"}},  # it reads text, into other ids
        {"pre_tokenizer": {"type": "Whitespace"}},
        {"post_processor": {"type": "TemplateProcessing", "special_tokens": {}, "pair": [],
                            "single": [{"SpecialToken": {"id": "</s>", "type_id": 0}}]}},
        {"post_processor": None},
    ],
    ids=["lower case", "other words", "unknown end", "no end"],
)  # fmt: skip
def test_a_tokenizer_that_was_changed_after_it_was_saved_is_named(
    changes: dict[str, object], tmp_path: Path
) -> None:
    run = tiny_run(tmp_path, averaged=False)
    path = run / "text" / "source" / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes))
    with pytest.raises(GammaError, match=r"source/tokenizer.json was changed after it was saved"):
        TranslationText.load(run)
