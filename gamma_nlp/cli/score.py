"""``gamma-nlp score``: BLEU and chrF of two text files, or of a log of ``fairseq-generate``."""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gamma_nlp.errors import GammaError
from gamma_nlp.tasks.translation import scores
from gamma_nlp.tasks.translation.moses import detokenize
from gamma_nlp.tasks.translation.score_files import GenerateLog, Pairs, read_log, read_pairs
from gamma_nlp.tasks.translation.subwords import join_subwords

EXIT_CONTRADICTED = 1
TOKENISED = re.compile(r"@@( |$)|&(apos|quot);| \.$")


def add_parser(commands: Any) -> None:
    """Add the command to the subparsers of ``gamma-nlp``."""
    parser = commands.add_parser(
        "score",
        help="BLEU and chrF of a translation, or the BLEU of a fairseq-generate log",
        description="Scores HYP against REF: sacreBLEU and chrF, with their signatures, for "
        "detokenised text, and BLEU over whitespace tokens as fairseq computes it.",
    )
    parser.add_argument("hyp", metavar="HYP", nargs="?", help="translations, one a line")
    parser.add_argument("ref", metavar="REF", nargs="?", help="references, as many lines")
    parser.add_argument(
        "--fairseq-log", metavar="LOG",
        help="in place of HYP and REF: the output of fairseq-generate; prints its last line anew "
        "from its H- and T- lines, and exits with 1 if the log says something else",
    )  # fmt: skip
    parser.add_argument(
        "--detokenize", metavar="LANG",
        help="first undo BPE marks (all scores) and Moses tokenisation (sacreBLEU and chrF)",
    )  # fmt: skip
    parser.add_argument(
        "--tokenize", choices=scores.TOKENIZERS, help="tokeniser of sacreBLEU (13a)"
    )
    parser.add_argument("--lowercase", action="store_true", help="ignore case in all scores")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """``gamma-nlp score``; exits with 1 if a log's own result is another."""
    check(arguments)
    log = None if arguments.fairseq_log is None else read_log(Path(arguments.fairseq_log))
    pairs = log.pairs if log else read_pairs(Path(arguments.hyp), Path(arguments.ref))
    report: dict[str, Any] = {"sentences": len(pairs.hypotheses)}
    if log:
        report["log"] = of_log(log)
    if not log or arguments.detokenize:
        report |= of_pairs(
            pairs,
            language=arguments.detokenize,
            tokenize=arguments.tokenize or "13a",
            lowercase=arguments.lowercase,
        )
    print(json.dumps(report, indent=2) if arguments.json else text(report))
    if not arguments.detokenize and not log and looks_tokenised(pairs):
        print(
            "gamma-nlp: these files look tokenised (BPE marks, &apos;, a space before the full "
            "stop), and sacreBLEU and chrF are for plain text; undo it with --detokenize LANG",
            file=sys.stderr,
        )
    if log and report["log"]["agrees"] is False:
        sys.stdout.flush()
        print(
            f"gamma-nlp: {arguments.fairseq_log} itself says: {log.prefix}{log.result}\n"
            "Its H- and T- lines are not what was scored: edited, or detokenised by --bpe or "
            "--tokenizer",
            file=sys.stderr,
        )
        sys.exit(EXIT_CONTRADICTED)


def check(arguments: argparse.Namespace) -> None:
    """Insist on either HYP and REF or a log, and on options that go with it.

    Raises:
        GammaError: Both, neither or half of it, or an option without effect.
    """
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


def of_log(log: GenerateLog) -> dict[str, Any]:
    """The score of a log's lines as they stand, and whether the log itself says the same."""
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
    """All three scores; with a language, of words without BPE marks and of detokenised text."""
    words, plain = pairs, pairs
    if language:
        words = pairs.each(lambda lines: [join_subwords(line) for line in lines])
        plain = words.each(lambda lines: detokenize(lines, language))
    if lowercase:
        words = words.each(lambda lines: [line.lower() for line in lines])
    hyp, ref = plain.hypotheses, plain.references
    return {
        "sacrebleu": asdict(scores.sacre_bleu(hyp, ref, tokenize=tokenize, lowercase=lowercase)),
        "chrf": asdict(scores.chrf(hyp, ref, lowercase=lowercase)),
        "tokenised": _token_bleu_json(scores.token_bleu(words.hypotheses, words.references)),
    }


def looks_tokenised(pairs: Pairs) -> bool:
    """Whether more than one line in ten of either file bears the marks of tokenisers."""
    return any(
        10 * sum(bool(TOKENISED.search(line)) for line in lines) > len(lines)
        for lines in (pairs.hypotheses, pairs.references)
    )


def text(report: dict[str, Any]) -> str:
    """The report in words: the log's line, and a line per score."""
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
