"""``gamma-nlp score --fairseq-log`` recomputes the last line of a log."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gamma_nlp.cli import main
from gamma_nlp.tasks.translation import scores
from gamma_nlp.tasks.translation.score_files import read_log
from tests.support.scored_files import HYP, LOG, REF, RESULT, Capture, error


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "generate.txt"
    path.write_text(f"{LOG}Generate valid with beam=4: {RESULT}\n", encoding="utf-8")
    return path


def test_pairs_of_a_log_come_in_the_order_of_their_ids(log: Path) -> None:
    pairs = read_log(log).pairs
    assert pairs.hypotheses == tuple(HYP)
    assert pairs.references == tuple(REF)


def test_the_last_line_of_a_log_is_recomputed(log: Path, capsys: Capture) -> None:
    assert main.main(["score", "--fairseq-log", str(log)]) == 0
    captured = capsys.readouterr()
    assert captured.out == log.read_text(encoding="utf-8").splitlines()[-1] + "\n"
    assert captured.err == ""


def test_a_log_that_ends_before_its_result_gets_the_score_alone(
    tmp_path: Path, capsys: Capture
) -> None:
    path = tmp_path / "generate.txt"
    path.write_text(LOG, encoding="utf-8")
    assert main.main(["score", "--fairseq-log", str(path)]) == 0
    assert capsys.readouterr().out == f"{RESULT}\n"


def test_a_log_scored_by_sacrebleu_is_not_compared(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "generate.txt"
    path.write_text(f"{LOG}Generate test with beam=5: BLEU = 50.00 x\n", encoding="utf-8")
    assert main.main(["score", "--fairseq-log", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["log"]["agrees"] is None


def test_a_log_that_says_something_else_is_shown_and_exits_with_1(
    log: Path, capsys: Capture
) -> None:
    edited = log.read_text(encoding="utf-8").replace("a small dog\n", "a big dog\n")
    log.write_text(edited, encoding="utf-8")
    assert main.main(["score", "--fairseq-log", str(log)]) == 1
    captured = capsys.readouterr()
    assert captured.out.startswith("Generate valid with beam=4: BLEU4 = ")
    assert f"itself says: Generate valid with beam=4: {RESULT}" in captured.err


def test_a_log_can_be_detokenised_too(log: Path, capsys: Capture) -> None:
    assert main.main(["score", "--fairseq-log", str(log), "--detokenize", "en", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["sentences", "log", "sacrebleu", "chrf", "tokenised"]
    assert found["log"]["agrees"] is True
    plain = [["the cat sat on the mat.", HYP[1]], ["the cat sat on a mat.", REF[1]]]
    assert found["chrf"]["score"] == scores.chrf(*plain).score


@pytest.mark.parametrize("name", ["17-2generate-test", "17-5generate-test", "generate-test"])
def test_the_last_line_of_a_real_log_is_reproduced_digit_for_digit(
    real_data: Callable[[str], Path], name: str, capsys: Capture
) -> None:
    path = real_data("bleu_logs") / f"{name}.txt.gz"
    assert main.main(["score", "--fairseq-log", str(path)]) == 0
    with gzip.open(path, "rt", encoding="utf-8") as file:
        last = file.read().splitlines()[-1]
    assert last.startswith("Generate test with beam=5: BLEU4 = ")
    assert capsys.readouterr().out == f"{last}\n"


@pytest.mark.parametrize(("letter", "what"), [("H", "hypotheses"), ("T", "references")])
def test_a_log_without_one_kind_of_line_is_refused(
    letter: str, what: str, log: Path, capsys: Capture
) -> None:
    lines = [x for x in log.read_text(encoding="utf-8").splitlines() if x[0] != letter]
    log.write_text("\n".join(lines), encoding="utf-8")
    message = error(["--fairseq-log", str(log)], capsys)
    assert f"no {letter}- lines, so no {what}" in message


def test_sentences_without_a_partner_are_named(log: Path, capsys: Capture) -> None:
    more = [f"T-{i}\ta" for i in range(20, 27)] + ["H-30\t-1.0\ta"]
    log.write_text(LOG + "\n".join(more), encoding="utf-8")
    message = error(["--fairseq-log", str(log)], capsys)
    assert "no H- line for 'T-20', 'T-21', 'T-22', 'T-23', 'T-24' and 2 more" in message
    assert "; no T- line for 'H-30';" in message


@pytest.mark.parametrize("line", ["H-7\t-0.5", "H-7", "T-7"])
def test_a_line_cut_short_is_named(line: str, log: Path, capsys: Capture) -> None:
    log.write_text(f"{LOG}{line}", encoding="utf-8")
    message = error(["--fairseq-log", str(log)], capsys)
    assert f"{log}:10: expected {line[0]}-ID<tab>" in message


def test_two_logs_in_one_file_are_refused(log: Path, capsys: Capture) -> None:
    log.write_text(LOG + LOG, encoding="utf-8")
    assert f"{log}:11: a second T-1;" in error(["--fairseq-log", str(log)], capsys)


def test_an_unknown_word_of_a_log_does_not_shorten_the_hypotheses(
    tmp_path: Path, capsys: Capture
) -> None:
    log = LOG.replace("T-0\tthe cat", "T-0\tthe <<unk>>")
    path = tmp_path / "generate.txt"
    path.write_text(log, encoding="utf-8")
    assert main.main(["score", "--fairseq-log", str(path), "--detokenize", "en", "--json"]) == 0
    output = capsys.readouterr()
    found = json.loads(output.out)
    # Plain: the cat sat on the mat. / a small dog: 7 + 3, with <<unk>> for cat 7 + 4.
    assert "hyp_len = 10 ref_len = 11" in found["sacrebleu"]["text"]
    assert "hold an unknown word (first: T-0)" in output.err


def test_a_log_of_pieces_is_scored_as_it_stands_and_says_so(
    tmp_path: Path, capsys: Capture
) -> None:
    path = tmp_path / "generate.txt"
    path.write_text(LOG.replace("small", "sm@@ all"), encoding="utf-8")
    assert main.main(["score", "--fairseq-log", str(path)]) == 0
    output = capsys.readouterr()
    assert "syslen=11, reflen=12" in output.out
    assert "this is a BLEU of pieces; --detokenize LANG undoes it" in output.err


def test_a_number_without_end_is_named_with_its_line(log: Path, capsys: Capture) -> None:
    log.write_text(f"{LOG}H-{'9' * 5000}\t-1.0\ta\n", encoding="utf-8")
    assert f"{log}:10: " in error(["--fairseq-log", str(log)], capsys)
