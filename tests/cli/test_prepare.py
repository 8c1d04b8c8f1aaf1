"""The command: fetching the archive, what is printed, and the real Multi30k."""

from __future__ import annotations

import http.server
import json
import re
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gamma_nlp.cli.main import main
from gamma_nlp.errors import GammaError
from gamma_nlp.tasks.translation.prepare import iwslt14
from gamma_nlp.tasks.translation.prepare.cleaning import PREPARATIONS, default_preparation
from gamma_nlp.tasks.translation.prepare.prepare import prepare, read_corpus
from gamma_nlp.tasks.translation.subwords import join_subwords
from tests.support.parallel_corpora import lines, make_archive, make_folder


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return make_archive(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path)


@pytest.fixture
def server(archive: Path) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/slow":
                stop.wait(10)
                return
            self.send_response(200 if self.path == "/de-en.tgz" else 404)
            self.end_headers()
            if self.path == "/de-en.tgz":
                self.wfile.write(archive.read_bytes())

        def log_message(self, *_: object) -> None:
            pass

    stop = threading.Event()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        stop.set()
        httpd.shutdown()
        thread.join()


def test_an_address_is_fetched(server: str) -> None:
    assert read_corpus(f"{server}/de-en.tgz", ("de", "en")).official


def test_a_failed_download_says_how_to_get_the_file(server: str) -> None:
    message = r"cannot fetch .*/gone: HTTP Error 404: Not Found\. .*curl -LO http.*/gone; about"
    with pytest.raises(GammaError, match=message):
        read_corpus(f"{server}/gone", ("de", "en"))
    with pytest.raises(GammaError, match=r"/slow: no answer within 0\.2 s\..*by hand"):
        iwslt14.fetch_archive(f"{server}/slow", seconds=0.2)


def test_the_command_prints_counts_and_errors(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["prepare", str(folder), str(out), "--languages", "en", "fr", "--merges", "7"]
    command += ["--max-length"]
    assert main([*command, "3"]) == 2
    assert "error: no pair of train is left" in capsys.readouterr().err
    assert main([*command, "0"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^train +8 pairs$", printed, re.MULTILINE)
    assert re.search(r"^valid +2 pairs  \(dropped: 1 empty\)$", printed, re.MULTILINE)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["recipe"]["merges"] == manifest["merges_learned"] == 7
    assert manifest["recipe"]["cleaning"] == {"max_ratio": None, "max_length": None}
    assert manifest["languages"] == ["en", "fr"]
    assert main([*command, "0"]) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_the_command_holds_the_archive_to_its_counts(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "prepare",
        str(archive),
        str(tmp_path / "out"),
        "--merges",
        "5",
        "--valid-every",
        "4",
    ]
    assert main(command) == 2
    assert "must have 160,239" in capsys.readouterr().err
    assert main([*command, "--any-counts"]) == 0


@pytest.mark.slow
def test_multi30k_keeps_every_pair(real_data: Callable[[str], Path], tmp_path: Path) -> None:
    corpus = read_corpus(real_data("multi30k"), ("de", "en"))
    manifest = prepare(corpus, PREPARATIONS[default_preparation(corpus)], tmp_path / "out")
    written = {name: split["written"] for name, split in manifest["splits"].items()}
    assert written == {
        "train": 29_000,
        "valid": 1_014,
        "test_2016_flickr": 1_000,
        "test_2017_flickr": 1_000,
        "test_2017_mscoco": 461,
        "test_2018_flickr": 1_071,
    }
    for language in ("de", "en"):
        pieces = lines(tmp_path / f"out/train.{language}")
        assert [join_subwords(line) for line in pieces] == lines(
            tmp_path / f"out/tokens/train.{language}"
        )
    assert manifest["merges_learned"] == 4_000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["", "out"], "INPUT is empty"),
        (["hub:", "out"], "INPUT is empty"),
        (["in", ""], "OUTPUT is empty"),
        (["in", "out", "--merges", "0"], "--merges must be at least 1, not 0"),
        (["in", "out", "--max-ratio", "nan"], "--max-ratio must be at least 1, not nan"),
        (["in", "out", "--max-ratio", "0.5"], "--max-ratio must be at least 1, not 0.5"),
        (["in", "out", "--max-length", "-1"], "--max-length must be at least 1, not -1"),
        (["in", "out", "--valid-every", "1"], "--valid-every must be at least 2, not 1"),
    ],
)
def test_names_and_numbers_are_checked_before_anything_is_read(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prepare", *words]) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")


@pytest.mark.parametrize("target", ["missing", "train.tags.de-en.de", "."])
@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE], ids=["hard", "symbolic"])
def test_a_link_in_an_archive_is_no_file(
    kind: bytes, target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also one that leads to itself."""
    path = tmp_path / "links.tgz"
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo("train.tags.de-en.de")
        member.type, member.linkname = kind, target
        archive.addfile(member)
    assert main(["prepare", str(path), str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert (
        f"{path} is not the IWSLT14 German-English archive: it lacks train.tags.de-en.de" in error
    )
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
