"""``gamma-nlp score``: BLEU and chrF of two text files, or of a log of ``fairseq-generate``."""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from gamma_nlp.cli.common import CONTRADICTED, add_command, note, print_json
from gamma_nlp.errors import GammaError, need_installed
from gamma_nlp.tasks.translation import pieces, scores
from gamma_nlp.tasks.translation.moses import check_language, detokenize
from gamma_nlp.tasks.translation.score_checks import doubts
from gamma_nlp.tasks.translation.score_files import GenerateLog, Pairs, read_log, read_pairs

TOKENISED = re.compile(r"&(apos|quot);| \.$")

EXAMPLES = """\
  gamma-nlp score hypotheses.txt references.txt
  gamma-nlp score hypotheses.bpe references.tok --detokenize en
  gamma-nlp score --fairseq-log generate-test.txt"""


def add_parser(commands: Any) -> None:
    """Add the command to the subparsers of ``gamma-nlp``."""
    parser = add_command(
        commands, "score", run=run, examples=EXAMPLES,
        description="Scores HYP against REF: sacreBLEU and chrF with their signatures, for\n"
        "detokenised text, and BLEU over whitespace tokens as fairseq computes it.",
    )  # fmt: skip
    parser.add_argument("hyp", metavar="HYP", nargs="?", help="translations, one per line")
    parser.add_argument("ref", metavar="REF", nargs="?", help="references, one per line")
    parser.add_argument(
        "--fairseq-log", metavar="LOG",
        help="in place of HYP and REF: the output of fairseq-generate. Recomputes its last "
        "line from its H- and T- lines, and exits with 1 if the log's own differs",
    )  # fmt: skip
    parser.add_argument(
        "--detokenize", metavar="LANG",
        help="first undo BPE marks (for all scores) and Moses tokenisation (for sacreBLEU, chrF)",
    )  # fmt: skip
    parser.add_argument(
        "--tokenize", choices=scores.TOKENIZERS, help="tokenizer of sacreBLEU (13a)"
    )
    parser.add_argument("--lowercase", action="store_true", help="ignore case in all scores")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print the scores; return 1 if a log's own result differs."""
    check(arguments)
    packages = ("sacrebleu", "sacremoses") if arguments.detokenize is not None else ("sacrebleu",)
    need_installed(packages, "translation", "gamma-nlp score needs")
    log = None if arguments.fairseq_log is None else read_log(Path(arguments.fairseq_log))
    pairs = log.pairs if log else read_pairs(Path(arguments.hyp), Path(arguments.ref))
    as_it_stands = log is not None and arguments.detokenize is None
    scored = pairs if as_it_stands else whole_words(pairs)
    report: dict[str, Any] = {"sentences": len(pairs.hypotheses)}
    if log:
        report["log"] = of_log(log)
    if not as_it_stands:
        report |= of_pairs(
            scored,
            language=arguments.detokenize,
            tokenize=arguments.tokenize or "13a",
            lowercase=arguments.lowercase,
        )
    if arguments.json:
        print_json(report)
    else:
        print(text(report))
    sys.stdout.flush()
    for one in [*of_pieces(pairs, arguments), *swapped(arguments)]:
        note(one)
    for one in doubts(scored, lowercase=arguments.lowercase):
        note(one)
    if arguments.detokenize is None and not log and looks_tokenised(scored):
        note(
            "these files look tokenised (&apos;, a space before the full stop), but sacreBLEU and "
            "chrF are for plain text; undo it with --detokenize LANG"
        )
    if log and report["log"]["agrees"] is False:
        note(
            f"{arguments.fairseq_log} itself says: {log.prefix}{log.result}\n"
            "Its H- and T- lines are not what was scored: they were edited, or detokenised by "
            "--bpe or --tokenizer"
        )
        return CONTRADICTED
    return 0


def check(arguments: argparse.Namespace) -> None:
    """Insist on either HYP and REF or a log, and on options that go with it.

    Raises:
        GammaError: Both, neither or half of it, an option without effect, or no language.
    """
    if arguments.detokenize is not None:
        check_language(arguments.detokenize)
    if arguments.fairseq_log is None:
        if arguments.ref is None:
            missing = "HYP and REF" if arguments.hyp is None else "REF"
            raise GammaError(
                f"score needs {missing}: gamma-nlp score HYP REF, or --fairseq-log LOG"
            )
        return
    if arguments.hyp is not None:
        raise GammaError(
            f"score takes HYP and REF or --fairseq-log, not both: leave out {arguments.hyp!r} "
            "or --fairseq-log"
        )
    if arguments.detokenize is None and (arguments.lowercase or arguments.tokenize):
        option = "--lowercase" if arguments.lowercase else "--tokenize"
        raise GammaError(
            f"{option} goes with --detokenize LANG here: without it a log is scored as it stands"
        )


def swapped(arguments: argparse.Namespace) -> list[str]:
    """Doubt the order of two files by their names."""
    if arguments.hyp is None:
        return []
    first, second = (Path(name).name.lower() for name in (arguments.hyp, arguments.ref))
    return ["the order is HYP REF: these look swapped"] * ("ref" in first and "hyp" in second)


def whole_words(pairs: Pairs) -> Pairs:
    """Put words together that are cut into pieces.

    Raises:
        GammaError: The pieces are of a notation that cannot be undone.
    """
    sides = [
        tuple(pieces.join(lines, found, name)) if (found := pieces.notation(lines)) else lines
        for name, lines in zip(pairs.names, pairs.sides, strict=True)
    ]
    return replace(pairs, hypotheses=sides[0], references=sides[1])


def of_pieces(pairs: Pairs, arguments: argparse.Namespace) -> list[str]:
    """Say which side came in pieces of words, and what was done about it."""
    plain = arguments.detokenize is not None
    done = "undone before scoring"
    if not plain:
        done += " (Moses tokenisation too with --detokenize LANG)"
        if arguments.fairseq_log is not None:
            done = "so this is a BLEU of pieces; --detokenize LANG undoes it"
    notes: dict[str, None] = {}  # one for a file that is both sides
    for name, lines in zip(pairs.names, pairs.sides, strict=True):
        found = pieces.notation(lines)
        if found is not None and not (plain and "@@" in found.name):  # the option's very purpose
            notes[f"{name} is cut into pieces of words by {found.name}, {done}"] = None
    return list(notes)


def of_log(log: GenerateLog) -> dict[str, Any]:
    """Score a log's lines as they are, and say whether the log's own result is the same."""
    found = scores.token_bleu(log.pairs.hypotheses, log.pairs.references)
    # A log that was scored by sacreBLEU ("BLEU = ...") says nothing about this score.
    comparable = log.result is not None and log.result.startswith(f"BLEU{scores.ORDER} ")
    return {
        **_token_bleu_json(found),
        "text": f"{log.prefix}{found}",
        "agrees": str(found) == log.result if comparable else None,
    }


def of_pairs(
    pairs: Pairs, *, language: str | None, tokenize: str, lowercase: bool
) -> dict[str, Any]:
    """Compute all three scores of words; with a language, sacreBLEU and chrF of plain text."""
    words, plain = pairs, pairs
    if language is not None:
        plain = words.each(lambda lines: detokenize(lines, language))
    if lowercase:
        words = words.each(lambda lines: [line.lower() for line in lines])
    hypotheses, references = plain.hypotheses, plain.references
    return {
        "sacrebleu": asdict(
            scores.sacre_bleu(hypotheses, references, tokenize=tokenize, lowercase=lowercase)
        ),
        "chrf": asdict(scores.chrf(hypotheses, references, lowercase=lowercase)),
        "tokenised": _token_bleu_json(scores.token_bleu(words.hypotheses, words.references)),
    }


def looks_tokenised(pairs: Pairs) -> bool:
    """Return whether more than one line in ten of either file shows signs of tokenisation."""
    return any(
        10 * sum(bool(TOKENISED.search(line)) for line in lines) > len(lines)
        for lines in (pairs.hypotheses, pairs.references)
    )


def text(report: dict[str, Any]) -> str:
    """Return the report as text: the log's line, and a line per score."""
    lines = [report["log"]["text"]] if "log" in report else []
    names = {"sacrebleu": "sacreBLEU", "chrf": "chrF", "tokenised": "tokenised"}
    lines += [f"{name:9}  {report[key]['text']}" for key, name in names.items() if key in report]
    return "\n".join(lines)


def _token_bleu_json(found: scores.TokenBleu) -> dict[str, Any]:
    return {
        "score": found.score,
        "precisions": [100 * p for p in found.precisions],
        "brevity_penalty": found.brevity_penalty,
        "ratio": found.ratio,
        **asdict(found),
        "text": str(found),
    }
