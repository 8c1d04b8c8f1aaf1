"""``gamma-nlp score`` scores text as sacreBLEU does, and notes what makes a score doubtful."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gamma_nlp.cli import main
from gamma_nlp.tasks.translation import scores
from tests.support.scored_files import HYP, REF, RESULT, Capture, error, write


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


@pytest.mark.parametrize("code", ["de", "ro", "vi", "zh", "fi"])
def test_every_language_can_be_detokenized(code: str, files: list[str], capsys: Capture) -> None:
    assert main.main(["score", *files, "--detokenize", code]) == 0
