from __future__ import annotations

import math
import random
import sys

import hypothesis
import pytest
import sacrebleu

from gamma_nlp import GammaError
from gamma_nlp.tasks.translation import scores
from gamma_nlp.tasks.translation.moses import detokenize

strategies = hypothesis.strategies

LINES = strategies.lists(
    strategies.tuples(
        *[strategies.lists(strategies.sampled_from("abc"), min_size=1, max_size=9)] * 2
    ).map(lambda pair: tuple(" ".join(side) for side in pair)),
    min_size=1,
    max_size=5,
)
"""Pairs of lines over three words, so that n-grams repeat and match often."""


def test_score_of_one_line_is_that_of_the_arithmetic() -> None:
    found = scores.token_bleu(["a b c d e f"], ["a b c d x f g"])
    # Matches: a b c d f; ab bc cd; abc bcd; abcd. Totals of a line of 6: 6, 5, 4, 3.
    assert found.matches == (5, 3, 2, 1)
    assert found.totals == (6, 5, 4, 3)
    # 5/6 * 3/5 * 2/4 * 1/3 = 1/12; the line is one word shorter than the 7 of the reference.
    assert found.brevity_penalty == pytest.approx(math.exp(1 - 7 / 6))
    assert found.score == pytest.approx(100 * math.exp(-1 / 6) * (1 / 12) ** 0.25)
    assert str(found) == (
        "BLEU4 = 45.48, 83.3/60.0/50.0/33.3 (BP=0.846, ratio=0.857, syslen=6, reflen=7)"
    )


def test_counts_of_a_corpus_are_summed_over_lines_before_the_division() -> None:
    found = scores.token_bleu(["a b c d", "x y"], ["a b c d", "y x z"])
    # The second line adds two single words (order aside), no pair, and one pair to the total.
    assert found.matches == (4 + 2, 3 + 0, 2, 1)
    assert found.totals == (4 + 2, 3 + 1, 2, 1)
    assert (found.hyp_length, found.ref_length) == (6, 7)
    # (1 * 3/4 * 1 * 1) ** 1/4 = 0.9306; exp(1 - 7/6) = 0.8465
    assert str(found).startswith("BLEU4 = 78.77, 100.0/75.0/100.0/100.0 (BP=0.846,")


def test_a_repeated_word_matches_as_often_as_the_reference_has_it() -> None:
    found = scores.token_bleu(["the the the cat sat"], ["the cat sat down on"])
    assert found.matches == (3, 2, 1, 0)  # the cat sat; the-cat cat-sat; the-cat-sat
    assert found.totals == (5, 4, 3, 2)


def test_one_precision_of_zero_makes_the_score_zero() -> None:
    found = scores.token_bleu(["a b c x"], ["a b c d"])
    assert found.matches == (3, 2, 1, 0)
    assert str(found).startswith("BLEU4 = 0.00, 75.0/66.7/50.0/0.0 (BP=1.000")


def test_a_corpus_too_short_for_an_order_scores_zero_even_against_itself() -> None:
    found = scores.token_bleu(["a b c"], ["a b c"])
    assert found.totals == (3, 2, 1, 0)
    assert str(found).startswith("BLEU4 = 0.00, 100.0/100.0/100.0/0.0 (BP=1.000")


def test_a_longer_hypothesis_has_no_brevity_penalty_and_its_ratio_is_above_one() -> None:
    found = scores.token_bleu(["a b c d e f"], ["a b c d"])
    assert found.brevity_penalty == 1
    assert "(BP=1.000, ratio=1.500, syslen=6, reflen=4)" in str(found)


def test_an_unknown_word_in_the_reference_matches_nothing_but_counts_as_length() -> None:
    found = scores.token_bleu(["a <unk> c"], ["a <unk> c"])
    assert found.matches == (2, 0, 0, 0)
    assert (found.hyp_length, found.ref_length) == (3, 3)


def test_an_unknown_word_as_logs_write_it_matches_nothing_either() -> None:
    assert scores.token_bleu(["a <unk> c"], ["a <<unk>> c"]).matches == (2, 0, 0, 0)


@pytest.mark.parametrize("line", ["", " ", "<pad>", "</s> </s>"])
def test_a_line_without_words_counts_as_one_end_mark(line: str) -> None:
    found = scores.token_bleu([line, "a"], ["", "b"])
    assert (found.hyp_length, found.matches) == (2, (1, 0, 0, 0))


def test_empty_lines_match_each_other_alone() -> None:
    found = scores.token_bleu(["", "", "a b"], ["", "a b", ""])
    # end/end matches; the other two pairs have nothing in common: lengths 1, 1, 2 and 1, 2, 1.
    assert found.matches == (1, 0, 0, 0)
    assert (found.hyp_length, found.ref_length) == (4, 4)


@pytest.mark.parametrize("line", ["<pad> <pad> a b", "a b </s>", "<pad> a b </s> <pad> </s>"])
def test_marks_at_the_ends_of_a_line_do_not_count(line: str) -> None:
    found = scores.token_bleu([line], ["a b"])
    assert (found.hyp_length, found.matches) == (2, (2, 1, 0, 0))


def test_marks_within_a_line_are_words() -> None:
    assert scores.token_bleu(["a </s> b"], ["a b"]).hyp_length == 3


def test_digits_are_rounded_as_fairseq_rounds_them() -> None:
    one = scores.TokenBleu(
        matches=(23, 1, 1, 1), totals=(80, 1, 1, 1), hyp_length=80, ref_length=80
    )
    # 23/80 is 28.75 %: 23 / 80 * 100 falls just below in floating point, 100 * 23 / 80 does not.
    assert ", 28.7/" in str(one)
    theirs = sacrebleu.BLEU.compute_bleu([23, 1, 1, 1], [80, 1, 1, 1], 80, 80)
    assert " 28.8/" in theirs.format()


@hypothesis.given(LINES)
def test_score_is_that_of_sacrebleu_without_smoothing(pairs: list[tuple[str, str]]) -> None:
    hyp, ref = [h for h, _ in pairs], [r for _, r in pairs]
    theirs = sacrebleu.corpus_bleu(
        hyp, [ref], tokenize="none", smooth_method="none", force=True, use_effective_order=False
    )
    ours = scores.token_bleu(hyp, ref)
    assert ours.score == pytest.approx(theirs.score, rel=1e-12, abs=1e-12)
    assert [100 * p for p in ours.precisions] == pytest.approx(theirs.precisions)
    assert ours.brevity_penalty == pytest.approx(theirs.bp)
    assert ours.ratio == theirs.ratio


@hypothesis.given(LINES)
def test_a_corpus_scores_100_against_itself(pairs: list[tuple[str, str]]) -> None:
    lines = [*(line for pair in pairs for line in pair), "at least four words"]
    assert f"{scores.token_bleu(lines, lines).score:.2f}" == "100.00"
    assert f"{scores.sacre_bleu(lines, lines).score:.2f}" == "100.00"
    assert f"{scores.chrf(lines, lines).score:.2f}" == "100.00"


@hypothesis.given(LINES, strategies.randoms(use_true_random=False))
def test_the_order_of_the_pairs_changes_nothing(
    pairs: list[tuple[str, str]], random: random.Random
) -> None:
    mixed = random.sample(pairs, len(pairs))
    first, second = ([[p[i] for p in order] for i in (0, 1)] for order in (pairs, mixed))
    assert scores.token_bleu(*first) == scores.token_bleu(*second)
    assert scores.sacre_bleu(*first) == scores.sacre_bleu(*second)
    assert scores.chrf(*first) == scores.chrf(*second)


def test_sacrebleu_tokenises_punctuation_and_its_signature_says_how() -> None:
    hyp, ref = ["Hello world, again and again."], ["hello world , again and again ."]
    found = scores.sacre_bleu(hyp, ref, lowercase=True)
    assert found.score == pytest.approx(100)
    assert "case:lc" in found.signature
    assert "tok:13a" in found.signature
    assert found.text.startswith(f"BLEU|{found.signature} = 100.00 100.0/")
    assert scores.sacre_bleu(hyp, ref).score < 100
    assert "tok:char" in scores.sacre_bleu(hyp, ref, tokenize="char").signature


@pytest.mark.parametrize("tokenizer", scores.TOKENIZERS)
def test_every_tokeniser_on_offer_works_as_installed(tokenizer: str) -> None:
    line = ["one two three four five"]
    assert scores.sacre_bleu(line, line, tokenize=tokenizer).score == pytest.approx(100)


def test_chrf_of_one_word_is_that_of_the_arithmetic() -> None:
    found = scores.chrf(["abcd"], ["abce"])
    # n = 1..4 have n-grams, on both sides alike: precision = recall = 3/4, 2/3, 1/2, 0.
    assert found.score == pytest.approx(100 * (3 / 4 + 2 / 3 + 1 / 2 + 0) / 4)
    assert found.text == f"chrF2|{found.signature} = {found.score:.2f}"


def test_chrf_ignores_case_when_told() -> None:
    assert scores.chrf(["ABCD"], ["abcd"]).score == 0
    lower = scores.chrf(["ABCD"], ["abcd"], lowercase=True)
    assert lower.score == pytest.approx(100)
    assert "case:lc" in lower.signature


def test_detokenise_joins_punctuation_and_undoes_escapes() -> None:
    lines = ["it &apos;s true , isn &apos;t it ?", "", "he said &quot; no &quot; ."]
    assert detokenize(lines, "en") == ["it's true, isn't it?", "", 'he said "no".']


@pytest.mark.parametrize("language", ["German", "DE", "", "d"])
def test_a_language_that_is_not_a_code_is_refused(language: str) -> None:
    with pytest.raises(GammaError, match="two lower-case letters"):
        detokenize(["a"], language)


@pytest.mark.parametrize("score", [scores.token_bleu, scores.sacre_bleu, scores.chrf])
def test_lists_of_different_length_and_empty_ones_are_refused(score: object) -> None:
    assert callable(score)
    with pytest.raises(GammaError, match="2 hypotheses and 1 references"):
        score(["a", "b"], ["a"])
    with pytest.raises(GammaError, match="nothing to score"):
        score([], [])


def test_an_unknown_tokeniser_is_refused_with_the_known_ones() -> None:
    with pytest.raises(GammaError, match=r"no tokenizer 'moses'; there are 13a, intl"):
        scores.sacre_bleu(["a"], ["a"], tokenize="moses")


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    monkeypatch.setitem(sys.modules, "sacremoses", None)
    install = r"pip install 'gamma_nlp\[translation\]'"
    with pytest.raises(GammaError, match=f"sacrebleu: {install}"):
        scores.token_bleu(["a"], ["a"])
    with pytest.raises(GammaError, match=f"sacremoses: {install}"):
        detokenize(["a"], "en")
