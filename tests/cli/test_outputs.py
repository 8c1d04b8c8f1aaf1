"""Output that nothing takes, a hub that does not answer and a full device are one line."""

from __future__ import annotations

import io
import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from gamma_nlp.cli import main
from tests.support.command_line import Capture, run


class NotFound(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_response(404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub_without_models() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), NotFound)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_unknown_hub_name_is_one_line_of_error(hub_without_models: str, tmp_path: Path) -> None:
    environment = {"HF_ENDPOINT": hub_without_models, "HF_HOME": str(tmp_path)}
    done = run("table", "owner/none", HF_HUB_OFFLINE="0", TRANSFORMERS_OFFLINE="0", **environment)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert hub_without_models in done.stderr
    assert "404" in done.stderr


def shell(command: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command with what a shell can do to its output."""
    whole = shlex.join([sys.executable, "-m", "gamma_nlp.cli.main", *words])
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {whole} {command}"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("words", [("--help",), ("score", "MODEL", "MODEL")])
def test_a_full_device_is_one_line(words: tuple[str, ...], model: str) -> None:
    done = shell("> /dev/full", *(model if word == "MODEL" else word for word in words))
    assert done.returncode == 2
    assert done.stderr == "error: the output cannot be written: No space left on device\n"


def test_a_closed_output_is_one_line(model: str) -> None:
    done = shell(">&-", "table", model)
    assert done.returncode == 2
    assert done.stderr.startswith("error: standard output is closed")
    assert done.stderr.count("\n") == 1


def test_an_error_counts_even_where_it_cannot_be_told() -> None:
    assert shell("2> /dev/full", "tabel").returncode == 2


def test_an_output_that_cannot_show_a_letter_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    log = tmp_path / "log"
    log.write_text("T-0\ta\nH-0\t-1\ta\nGenerate t\u00e9st with beam=5: BLEU4 = 1\n", "utf-8")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
        assert main.main(["score", "--fairseq-log", str(log)]) == 2
    expected = "error: standard output, which is ascii, cannot show '\u00e9'; set PYTHONIOENCODING"
    assert capsys.readouterr().err.startswith(expected)


def test_closed_pipe_is_not_an_error(model: str) -> None:
    done = shell("| true", "score", model, model)  # a command that imports no torch
    assert (done.returncode, done.stderr) == (0, "")
