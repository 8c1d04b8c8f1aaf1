from __future__ import annotations

import gzip
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gamma_nlp.cli import main
from gamma_nlp.tasks.translation import scores
from gamma_nlp.tasks.translation.score_files import read_log

Capture = pytest.CaptureFixture[str]

HYP = ["the cat sat on the mat .", "a small dog"]
REF = ["the cat sat on a mat .", "a small dog barks"]
LOG = """\
S-1\tein kleiner hund
T-1\ta small dog barks
H-1\t-0.5\ta small dog
D-1\t-0.5\ta small dog
P-1\t-0.1 -0.2 -0.3 -0.4
S-0\tdie katze
T-0\tthe cat sat on a mat .
H-0\t-0.25\tthe cat sat on the mat .
H-0\t-0.75\tnot the best one
"""
# 6 + 3 of 7 + 3 words match, 4 + 2 of 6 + 2 pairs, 2 + 1 of 5 + 1 triples, 1 + 0 of 4 + 0: the
# product is 27/320 and its fourth root 0.53896. 10 words for 11: exp(1 - 11/10) is 0.90484, and
# 0.53896 * 0.90484 is 0.48767.
RESULT = "BLEU4 = 48.77, 90.0/75.0/50.0/25.0 (BP=0.905, ratio=0.909, syslen=10, reflen=11)"


def write(folder: Path, name: str, lines: list[str]) -> str:
    path = folder / name
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(path)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    return [write(tmp_path, "hyp.txt", HYP), write(tmp_path, "ref.txt", REF)]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "generate.txt"
    path.write_text(f"{LOG}Generate valid with beam=4: {RESULT}\n", encoding="utf-8")
    return path


def error(words: list[str], capsys: Capture) -> str:
    assert main.main(["score", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    return captured.err


def test_two_files_get_three_scores(files: list[str], capsys: Capture) -> None:
    assert main.main(["score", *files]) == 0
    sacre, chrf, tokenised = capsys.readouterr().out.splitlines()
    assert sacre == f"sacreBLEU  {scores.sacre_bleu(HYP, REF).text}"
    assert "|tok:13a|" in sacre
    assert chrf == f"chrF       {scores.chrf(HYP, REF).text}"
    assert tokenised == f"tokenised  {RESULT}"


def test_json_has_the_same_scores(files: list[str], capsys: Capture) -> None:
    assert main.main(["score", *files, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["sentences", "sacrebleu", "chrf", "tokenised"]
    assert found["sentences"] == 2
    assert found["sacrebleu"]["score"] == scores.sacre_bleu(HYP, REF).score
    assert found["chrf"]["signature"] == scores.chrf(HYP, REF).signature
    assert found["tokenised"]["totals"] == [10, 8, 6, 4]
    assert found["tokenised"]["text"] == str(scores.token_bleu(HYP, REF))


def test_a_file_scores_100_against_itself(files: list[str], capsys: Capture) -> None:
    assert main.main(["score", files[1], files[1]]) == 0
    assert [line.split(" = ")[1][:6] for line in capsys.readouterr().out.splitlines()] == [
        "100.00"
    ] * 3


def test_lowercase_holds_for_all_three_scores(tmp_path: Path, capsys: Capture) -> None:
    upper = write(tmp_path, "upper.txt", [line.upper() for line in REF])
    lower = write(tmp_path, "lower.txt", REF)
    assert main.main(["score", upper, lower, "--lowercase", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert all(found[key]["score"] == pytest.approx(100) for key in list(found)[1:])
    assert main.main(["score", upper, lower, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert all(found[key]["score"] < 10 for key in list(found)[1:])


def test_tokenize_chooses_the_tokeniser_of_sacrebleu(files: list[str], capsys: Capture) -> None:
    assert main.main(["score", *files, "--tokenize", "char"]) == 0
    assert scores.sacre_bleu(HYP, REF, tokenize="char").text in capsys.readouterr().out


def test_detokenize_undoes_bpe_for_all_and_moses_for_plain_text(
    tmp_path: Path, capsys: Capture
) -> None:
    hyp = write(tmp_path, "hyp.bpe", ["it &apos;s a re@@ ven@@ ue , no@@ ah ."])
    ref = write(tmp_path, "ref.txt", ["it 's a revenue , noah ."])
    assert main.main(["score", hyp, ref, "--detokenize", "en", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["sacrebleu"]["score"] == pytest.approx(100)
    assert found["chrf"]["score"] == pytest.approx(100)
    # Words, escapes as they stand: it &apos;s a revenue , noah .
    assert found["tokenised"]["hyp_length"] == 7
    assert found["tokenised"]["matches"] == [6, 4, 3, 2]


def test_text_that_looks_tokenised_gets_a_hint(tmp_path: Path, capsys: Capture) -> None:
    hyp = write(tmp_path, "hyp.bpe", ["a re@@ ven@@ ue of it"])
    ref = write(tmp_path, "ref.bpe", ["a re@@ ven@@ ue of this"])
    assert main.main(["score", hyp, ref]) == 0
    assert "--detokenize LANG" in capsys.readouterr().err
    assert main.main(["score", hyp, ref, "--detokenize", "en"]) == 0
    assert capsys.readouterr().err == ""
    plain = write(tmp_path, "plain.txt", ["A revenue of it."])
    other = write(tmp_path, "other.txt", ["A revenue of this."])
    assert main.main(["score", plain, other]) == 0
    assert capsys.readouterr().err == ""


def test_only_line_feeds_end_a_line(tmp_path: Path, capsys: Capture) -> None:
    hyp = tmp_path / "hyp.txt"
    hyp.write_bytes("\ufeffone two\u2028three\rfour\r\nfive six\x85seven".encode())
    ref = write(tmp_path, "ref.txt", ["one two three four", "five six seven"])
    assert main.main(["score", str(hyp), ref, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["sentences"] == 2
    assert found["tokenised"]["matches"] == [7, 5, 3, 1]


def test_a_carriage_return_before_the_line_feed_is_not_text(
    tmp_path: Path, capsys: Capture
) -> None:
    hyp = tmp_path / "hyp.txt"
    hyp.write_bytes(b"one two three fo@@\r\n")
    ref = write(tmp_path, "ref.txt", ["one two three fo"])
    assert main.main(["score", str(hyp), ref, "--detokenize", "en", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert all(found[key]["score"] == pytest.approx(100) for key in list(found)[1:])


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


def test_files_of_different_length_are_named_with_their_lengths(
    files: list[str], tmp_path: Path, capsys: Capture
) -> None:
    long = write(tmp_path, "long.txt", ["a", "b", "c"])
    assert f"{files[0]} has 2, {long} has 3" in error([files[0], long], capsys)


@pytest.mark.parametrize("content", [b"", b"\n", b" \n\n"])
def test_a_file_without_text_is_named(
    content: bytes, files: list[str], tmp_path: Path, capsys: Capture
) -> None:
    empty = tmp_path / "empty.txt"
    empty.write_bytes(content)
    assert f"{empty}: the file holds no text" in error([files[0], str(empty)], capsys)


def test_a_missing_file_is_named(files: list[str], capsys: Capture) -> None:
    assert "cannot read no-such.txt: No such file" in error(["no-such.txt", files[1]], capsys)


def test_a_folder_is_not_a_file(files: list[str], tmp_path: Path, capsys: Capture) -> None:
    assert f"cannot read {tmp_path}: Is a directory" in error([str(tmp_path), files[1]], capsys)


def test_bytes_that_are_not_utf_8_are_named_with_their_line(
    files: list[str], tmp_path: Path, capsys: Capture
) -> None:
    latin = tmp_path / "latin.txt"
    latin.write_bytes("plain\nschön\n".encode("latin-1"))
    message = error([files[0], str(latin)], capsys)
    assert f"{latin}:2: byte 0xf6 at offset 9 is not UTF-8; convert the file" in message
    assert "iconv" in message


PACKED = gzip.compress(LOG.encode(), mtime=0)


@pytest.mark.parametrize(
    "content",
    [LOG.encode(), PACKED[:-20], PACKED[:10] + b"\xff" * 20 + PACKED[30:]],
    ids=["not packed", "cut short", "overwritten"],
)
def test_a_damaged_gz_file_is_named(content: bytes, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "log.gz"
    path.write_bytes(content)
    assert f"cannot read {path}: " in error(["--fairseq-log", str(path)], capsys)


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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "score needs HYP and REF:"),
        (["a.txt"], "score needs REF:"),
        (["a.txt", "--fairseq-log", "b"], "leave out 'a.txt' or --fairseq-log"),
        (["--fairseq-log", "b", "--lowercase"], "--lowercase goes with --detokenize LANG"),
        (["--fairseq-log", "b", "--tokenize", "intl"], "--tokenize goes with --detokenize LANG"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(
    words: list[str], message: str, capsys: Capture
) -> None:
    assert message in error(words, capsys)


def test_a_wrong_language_is_refused(files: list[str], capsys: Capture) -> None:
    assert re.search(
        "two lower-case letters.*'German'", error([*files, "--detokenize", "German"], capsys)
    )


def test_a_missing_package_names_the_extra(
    files: list[str], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    assert "pip install 'gamma_nlp[translation]'" in error(files, capsys)


@pytest.mark.parametrize(
    "mark", ["<<unk>>", "<unk>", "<UNK>", "[UNK]", "\u2047"], ids=["T", "unk", "UNK", "bert", "sp"]
)
@pytest.mark.parametrize("side", [0, 1], ids=["hypotheses", "references"])
def test_an_unknown_word_counts_as_one_word_that_matches_nothing(
    side: int, mark: str, tmp_path: Path, capsys: Capture
) -> None:
    """As many words as before, in all three scores, and a note with the line."""
    lines = [["a small dog runs home", "it is late"], ["a small dog runs home", "it is late"]]
    for count, (name, word) in enumerate((("known", "cat"), ("unknown", f"{mark},"))):
        lines[side][1] = f"it is {word}"
        files = [write(tmp_path, f"{name}{one}", lines[one]) for one in (0, 1)]
        assert main.main(["score", *files, "--json"]) == 0
        output = capsys.readouterr()
        found = json.loads(output.out)
        # a small dog runs home it is, and no more: 7 of 8 words (and the comma, where one is).
        assert f"{700 / (8 + count * (1 - side)):.1f}/" in found["sacrebleu"]["text"]
    assert "1 of 2 " + ("hypotheses", "references")[side] in output.err
    assert f"unknown{side}:2" in output.err


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


PIECES = {
    "BPE (@@)": ("a re@@ ven@@ ue of", "no@@ ah came home"),
    "SentencePiece (\u2581)": (
        "\u2581a \u2581re ven ue \u2581of",
        "\u2581no ah \u2581came \u2581home",
    ),
    "WordPiece (##)": ("a re ##ven ##ue of", "no ##ah came home"),
    "OpenNMT's tokenizer (\uffed)": ("a re\uffed ven\uffed ue of", "no \uffedah came home"),
}


@pytest.mark.parametrize("option", [[], ["--detokenize", "en"]], ids=["as it is", "detokenized"])
@pytest.mark.parametrize("notation", PIECES)
def test_pieces_are_scored_as_the_words_that_they_make_up(
    notation: str, option: list[str], tmp_path: Path, capsys: Capture
) -> None:
    hyp, ref = PIECES[notation]
    files = [write(tmp_path, "hyp", [hyp]), write(tmp_path, "ref", [ref])]
    words = [write(tmp_path, "one", ["a revenue of"]), write(tmp_path, "two", ["noah came home"])]
    found = []
    for both in (words, files):
        assert main.main(["score", *both, *option]) == 0
        output = capsys.readouterr()
        found.append(output.out)
    assert found[0] == found[1]
    assert (notation in output.err) != (notation == "BPE (@@)" and bool(option))


def test_pieces_that_a_line_cannot_undo_are_refused(
    files: list[str], tmp_path: Path, capsys: Capture
) -> None:
    hyp = write(tmp_path, "hyp.bytes", ["\u0120the \u0120c at", "\u0120a \u0120dog"])
    assert f"{hyp} is cut into pieces of byte-level BPE" in error([hyp, files[1]], capsys)


def test_a_log_of_pieces_is_scored_as_it_stands_and_says_so(
    tmp_path: Path, capsys: Capture
) -> None:
    path = tmp_path / "generate.txt"
    path.write_text(LOG.replace("small", "sm@@ all"), encoding="utf-8")
    assert main.main(["score", "--fairseq-log", str(path)]) == 0
    output = capsys.readouterr()
    assert "syslen=11, reflen=12" in output.out
    assert "this is a BLEU of pieces; --detokenize LANG undoes it" in output.err


NUMBERS = ("one", "two", "three", "four", "five", "six", "seven")
MANY = [f"Sentence {word} is here." for word in NUMBERS]


@pytest.mark.parametrize(
    ("hyp", "ref", "note"),
    [
        (MANY, MANY, "the same text"),
        (MANY, MANY[::-1], "the same lines in another order"),
        (MANY, [line.lower() for line in MANY], "references have no capital letters"),
        ([line.upper() for line in MANY], MANY, "hypotheses have no small letters"),
        (MANY, ["Ein Satz"] * 7, "no word is in both files"),
        ([*MANY[:4], "", "", " "], MANY[::-1], "3 of 7 hypotheses are empty (first: HYP:5)"),
        (MANY, [*MANY[:6][::-1], ""], "1 of 7 references are empty (first: REF:7)"),
    ],
)
def test_what_makes_a_score_doubtful_is_said(
    hyp: list[str], ref: list[str], note: str, tmp_path: Path, capsys: Capture
) -> None:
    files = [write(tmp_path, "HYP", hyp), write(tmp_path, "REF", ref)]
    assert main.main(["score", *files]) == 0
    assert note in capsys.readouterr().err.replace(f"{tmp_path}/", "")


def test_names_that_look_swapped_are_said(tmp_path: Path, capsys: Capture) -> None:
    files = [write(tmp_path, "refs.en", MANY), write(tmp_path, "hyp.en", MANY[::-1])]
    assert main.main(["score", *files]) == 0
    assert "the order is HYP REF: these look swapped" in capsys.readouterr().err


def test_sound_files_get_no_note(tmp_path: Path, capsys: Capture) -> None:
    good = [line.replace("Sentence", "Word") for line in MANY]
    assert main.main(["score", write(tmp_path, "a", MANY), write(tmp_path, "b", good)]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("code", ["xx", "qq", "EN", "eng", "", "e"])
def test_a_language_that_does_not_exist_is_refused(
    code: str, files: list[str], capsys: Capture
) -> None:
    assert "language" in error([*files, "--detokenize", code], capsys)


@pytest.mark.parametrize("code", ["de", "ro", "vi", "zh", "fi"])
def test_every_language_can_be_detokenized(code: str, files: list[str], capsys: Capture) -> None:
    assert main.main(["score", *files, "--detokenize", code]) == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\nb".encode("utf-16"), "iconv -f utf-16 -t utf-8"),
        ("a\nb".encode("utf-16-le"), "iconv -f utf-16 -t utf-8"),
        (gzip.compress(b"a\nb"), "packed with gzip"),
        (b"PK\x03\x04\xff", "a zip file"),
        (b"one\rtwo\rthree", "end in a carriage return alone"),
    ],
    ids=["utf-16", "utf-16 without a mark", "gzip", "zip", "old Mac"],
)
def test_a_file_that_is_no_text_is_told_by_its_kind(
    content: bytes, message: str, files: list[str], tmp_path: Path, capsys: Capture
) -> None:
    path = tmp_path / "other.txt"
    path.write_bytes(content)
    found = error([str(path), files[1]], capsys)
    assert str(path) in found
    assert message in found


def test_a_number_without_end_is_named_with_its_line(log: Path, capsys: Capture) -> None:
    log.write_text(f"{LOG}H-{'9' * 5000}\t-1.0\ta\n", encoding="utf-8")
    assert f"{log}:10: " in error(["--fairseq-log", str(log)], capsys)
