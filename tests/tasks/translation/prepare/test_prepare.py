"""The pipeline: what is written, what is counted, and that a refusal leaves nothing behind."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from gamma_nlp.errors import GammaError
from gamma_nlp.tasks.translation.prepare import iwslt14
from gamma_nlp.tasks.translation.prepare.cleaning import (
    PREPARATIONS,
    Cleaning,
    Preparation,
    default_preparation,
)
from gamma_nlp.tasks.translation.prepare.prepare import prepare, read_corpus
from gamma_nlp.tasks.translation.subwords import join_subwords
from tests.support.parallel_corpora import archive_files, lines, make_archive, make_folder, tgz
from tests.support.paths import ROOT

SMALL = Preparation(merges=30, cleaning=Cleaning(max_ratio=1.5, max_length=9), valid_every=4)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return make_archive(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path)


def run(given: Path, output: Path, recipe: Preparation = SMALL, **options: Any) -> dict[str, Any]:
    corpus = read_corpus(given, ("de", "en"), tokenized=recipe.tokenized)
    return prepare(corpus, recipe, output, **options)


def content(path: Path) -> dict[str, bytes]:
    files = (file for file in path.rglob("*") if file.is_file())
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in files}


def test_the_archive_is_split_and_cleaned_as_by_the_script(archive: Path, tmp_path: Path) -> None:
    manifest = run(archive, tmp_path / "out")
    assert manifest["splits"] == {
        "train": {
            "markup_lines": 3,
            "read": 16,
            "dropped": {"empty": 2, "long": 1, "ratio": 1},
            "moved_to_valid": 3,
            "written": 9,
        },
        "valid": {"taken_from_train": 3, "written": 3},
        "test": {"markup_lines": 0, "read": 10, "dropped": {}, "written": 10},
    }
    out = tmp_path / "out"
    assert lines(out / "tokens/train.de")[:2] == ["hund läuft titel", "hund läuft text"]
    # Every fourth of the clean pairs, counted from one.
    assert lines(out / "tokens/valid.en") == [f"dog runs nummer {n} ." for n in (1, 5, 9)]
    assert lines(out / "tokens/test.en")[:3] == [
        "dog runs in ted.dev2010 .",
        "dog runs &apos;s ende",
        "dog runs in tedx.dev2012 .",
    ]
    assert lines(out / "raw/test.en")[:2] == ["dog runs in TED.dev2010.", "dog runs\u2019s Ende"]


def test_an_unpacked_archive_gives_the_same(archive: Path, tmp_path: Path) -> None:
    unpacked = tmp_path / "de-en"
    unpacked.mkdir()
    for name, data in archive_files().items():
        (unpacked / name).write_bytes(data)
    run(archive, tmp_path / "one")
    run(unpacked, tmp_path / "two")
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_all_three_forms_of_a_line_correspond(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    manifest = run(folder, out)
    assert list(manifest["splits"]) == ["train", "valid", "test_2016_flickr"]
    for name, split in manifest["splits"].items():
        for language in ("de", "en"):
            pieces, tokens, raw = (
                lines(out / form / f"{name}.{language}") for form in ("", "tokens", "raw")
            )
            assert [join_subwords(line) for line in pieces] == tokens
            assert [line.lower().replace(".", " .") for line in raw] == tokens
            assert len(raw) == split["written"]
    assert manifest["splits"]["valid"]["dropped"] == {"empty": 1}
    assert lines(out / "raw/valid.en") == ["Der Dog.", "Die Dog."]


def test_vocabularies_count_the_training_pieces(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    manifest = run(folder, out)
    pieces = " ".join(lines(out / "train.de") + lines(out / "train.en")).split()
    entries = [line.rsplit(" ", 1) for line in lines(out / "vocab")]
    assert {token: int(count) for token, count in entries} == {
        token: pieces.count(token) for token in pieces
    }
    assert manifest["vocabulary"]["vocab"] == len(entries)
    assert {line.split()[0] for line in lines(out / "vocab.de")} == set(
        " ".join(lines(out / "train.de")).split()
    )


def test_checksums_cover_every_file_and_the_source(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    manifest = run(folder, out)
    files = content(out)
    sums = {
        name: digest for digest, name in (line.split("  ") for line in lines(out / "SHA256SUMS"))
    }
    assert sums.keys() == files.keys() - {"SHA256SUMS"}
    assert all(hashlib.sha256(files[name]).hexdigest() == digest for name, digest in sums.items())
    train = hashlib.sha256((folder / "train.de").read_bytes()).hexdigest()
    assert manifest["sources"]["train.de"] == train
    assert json.loads(files["manifest.json"]) == manifest


def test_two_runs_give_identical_bytes_under_any_hash_seed(folder: Path, tmp_path: Path) -> None:
    for seed in ("1", "2"):
        command = ["-m", "gamma_nlp.cli.main", "prepare", str(folder), str(tmp_path / seed)]
        subprocess.run(
            [sys.executable, *command],
            env=os.environ | {"PYTHONHASHSEED": seed},
            cwd=ROOT,
            check=True,
            capture_output=True,
        )
    assert content(tmp_path / "1") == content(tmp_path / "2")


def test_case_is_kept_on_request(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "out", dataclasses.replace(SMALL, lowercase=False))
    assert lines(tmp_path / "out/tokens/train.en")[0] == "Ein Dog 0 ."


def test_tokenised_text_is_not_tokenised_again(folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        path.write_text(path.read_text().replace(".", " &apos;s  ."))
    run(folder, tmp_path / "out", dataclasses.replace(SMALL, tokenized=True))
    assert lines(tmp_path / "out/tokens/train.en")[0] == "ein dog 0 &apos;s ."
    assert not (tmp_path / "out/raw").exists()


def test_counts_other_than_the_official_ones_are_refused(archive: Path, tmp_path: Path) -> None:
    message = r"train has 9 pairs and must have 160,239, valid has 3 .* --any-counts"
    with pytest.raises(GammaError, match=message):
        run(archive, tmp_path / "out", counts=iwslt14.COUNTS)
    assert not (tmp_path / "out").exists()
    run(archive, tmp_path / "out", counts={"train": 9, "valid": 3, "test": 10})


def test_a_wrong_archive_names_what_it_lacks(tmp_path: Path) -> None:
    files = archive_files()
    del files["IWSLT14.TED.tst2011.de-en.en.xml"]
    path = tmp_path / "x.tgz"
    path.write_bytes(tgz(files))
    with pytest.raises(GammaError, match=r"lacks IWSLT14\.TED\.tst2011\.de-en\.en\.xml; get"):
        run(path, tmp_path / "out")


@pytest.mark.parametrize("keep", [0, 200, -40])
def test_a_cut_archive_is_refused(archive: Path, tmp_path: Path, keep: int) -> None:
    archive.write_bytes(archive.read_bytes()[:keep])
    with pytest.raises(GammaError, match=r"is not a complete \.tgz archive"):
        run(archive, tmp_path / "out")


def test_an_archive_with_a_missing_line_names_the_file(archive: Path, tmp_path: Path) -> None:
    files = archive_files()
    name = "IWSLT14.TED.dev2010.de-en.en.xml"
    files[name] = files[name].replace(b'<seg id="2">', b"")
    archive.write_bytes(tgz(files))
    message = "IWSLT14.TED.dev2010.de-en.en.xml (text lines) has 1: "
    with pytest.raises(GammaError, match=re.escape(message)):
        run(archive, tmp_path / "out")


def test_the_archive_has_german_and_english_only(archive: Path) -> None:
    with pytest.raises(GammaError, match="has German and English"):
        read_corpus(archive, ("de", "fr"))
    with pytest.raises(GammaError, match="is not tokenised"):
        read_corpus(archive, ("de", "en"), tokenized=True)


@pytest.mark.parametrize("languages", [("de", "de"), ("de", "xx")])
def test_two_known_languages_are_needed(folder: Path, languages: tuple[str, str]) -> None:
    with pytest.raises(GammaError, match="must be two of de, en, fr"):
        read_corpus(folder, languages)


def test_an_input_that_is_not_there_says_what_may_be_given(tmp_path: Path) -> None:
    with pytest.raises(GammaError, match=r"nothing does not exist; give a folder .* 'download'"):
        read_corpus(tmp_path / "nothing", ("de", "en"))


def test_a_missing_validation_set_is_taken_from_training_only_on_request(
    folder: Path, tmp_path: Path
) -> None:
    for language in ("de", "en"):
        (folder / f"val.{language}").unlink()
    with pytest.raises(GammaError, match="--valid-every 23"):
        run(folder, tmp_path / "out", dataclasses.replace(SMALL, valid_every=None))
    with pytest.raises(GammaError, match="no pair of valid is left"):
        run(folder, tmp_path / "out", dataclasses.replace(SMALL, valid_every=9))
    assert run(folder, tmp_path / "out")["splits"]["valid"]["written"] == 2


@pytest.mark.parametrize("bad", [{"merges": 0}, {"valid_every": 1}])
def test_a_preparation_out_of_range_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(GammaError, match=f"{next(iter(bad))} must be at least"):
        dataclasses.replace(SMALL, **bad)


def test_the_preparation_follows_from_the_names_of_the_files(folder: Path, archive: Path) -> None:
    assert default_preparation(read_corpus(folder, ("de", "en"))) == "multi30k"
    assert default_preparation(read_corpus(archive, ("de", "en"))) == "iwslt14"
    assert PREPARATIONS["iwslt14"].valid_every == 23


def test_an_existing_folder_is_replaced_only_on_request_and_if_ours(
    folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(folder, out)
    (out / "stale").touch()
    with pytest.raises(GammaError, match="exists; add --overwrite"):
        run(folder, out)
    run(folder, out, overwrite=True)
    assert not (out / "stale").exists()
    (out / "manifest.json").unlink()
    with pytest.raises(GammaError, match=r"has no manifest\.json, so it was not written by"):
        run(folder, out, overwrite=True)
    (tmp_path / "file").touch()
    with pytest.raises(GammaError, match="is not a folder"):
        run(folder, tmp_path / "file", overwrite=True)


def test_an_output_that_holds_the_input_is_refused(folder: Path, tmp_path: Path) -> None:
    for output in (folder, tmp_path):
        with pytest.raises(GammaError, match="holds the input"):
            run(folder, output, source=folder, overwrite=True)


def test_an_interrupted_run_leaves_the_old_folder_and_no_draft(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(folder, tmp_path / "out")
    before = content(tmp_path)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gamma_nlp.tasks.translation.prepare.prepare.checksums", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(folder, tmp_path / "out", overwrite=True)
    assert content(tmp_path) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus", "out"]


def test_a_folder_that_cannot_take_its_place_leaves_the_old_one(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(folder, tmp_path / "out")
    before = content(tmp_path)
    rename = Path.rename

    def fail(path: Path, target: Path) -> Path:
        if path.name.startswith(".out.") and path.suffix != ".old":
            raise OSError(28, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(GammaError, match=r"cannot write .*out: No space left on device"):
        run(folder, tmp_path / "out", overwrite=True)
    assert content(tmp_path) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus", "out"]


def test_a_folder_that_cannot_be_written_is_an_error(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(GammaError, match="cannot write"):
        run(folder, tmp_path / "file" / "out")


@pytest.mark.parametrize("mode", ["gz", "bz2", "xz", ""])
def test_an_archive_is_read_in_any_packing(mode: str) -> None:
    assert iwslt14.unpack(packed(archive_files(), mode), "x") == archive_files()


@pytest.mark.parametrize("mode", ["gz", "bz2", "xz"])
def test_an_archive_that_would_fill_memory_is_refused(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gamma_nlp.files.packed.SPARE", 10_000)
    files = archive_files() | {"train.tags.de-en.de": b"\n" * 5_000_000}
    with pytest.raises(GammaError, match=r"x: its [\d,]+ bytes unpack to more than"):
        iwslt14.unpack(packed(files, mode), "x")


def test_a_member_may_not_say_that_it_is_of_any_size() -> None:
    data = bytearray(packed(archive_files(), ""))
    data[124:136] = b"77777777777\0"  # 8 GB; the checksum of the header is mended
    data[148:156] = b"        "
    data[148:156] = f"{sum(data[:512]):06o}\0 ".encode()
    with pytest.raises(GammaError, match=r"unpack to more than|not a complete \.tgz archive"):
        iwslt14.unpack(bytes(data), "x")


def test_links_in_an_archive_are_never_followed() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, target in (("a", "a"), ("b", "/etc/passwd"), ("c", "nowhere")):
            for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
                member = tarfile.TarInfo(f"{name}/train.tags.de-en.de")
                member.type, member.linkname = kind, target
                archive.addfile(member)
    assert iwslt14.unpack(out.getvalue(), "x") == {}


def packed(files: dict[str, bytes], mode: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=f"w:{mode}") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(f"de-en/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()
