"""``gamma-fairseq-to-transformers`` and ``gamma-fairseq-from-transformers``."""

from __future__ import annotations

import argparse
import logging
import shlex
from collections.abc import Callable, Sequence

from gamma_nlp.errors import need
from gamma_nlp.fairseq import shims
from gamma_nlp.fairseq.commands import exit_code
from gamma_nlp.tasks.run.parser import Parser


def to_transformers(argv: Sequence[str] | None = None) -> int:
    """Run ``gamma-fairseq-to-transformers``; return the exit code."""
    parser = Parser(
        prog="gamma-fairseq-to-transformers",
        description="Turn a checkpoint of fairseq's transformer into a folder for `gamma-nlp "
        "translate`.",
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT.pt", help="written by fairseq-train")
    parser.add_argument(
        "--data", required=True, metavar="DATA_BIN", help="the folder fairseq-preprocess wrote"
    )
    parser.add_argument(
        "--prepared", required=True, metavar="FOLDER",
        help="the folder scripts/prepare_iwslt14 wrote, from which DATA_BIN was made",
    )  # fmt: skip
    parser.add_argument("--output", required=True, metavar="OUT", help="a new folder")

    def convert(options: argparse.Namespace) -> None:
        from gamma_nlp.fairseq.convert.files import to_transformers

        kind = to_transformers(options.checkpoint, options.data, options.prepared, options.output)
        print(f"wrote {options.output}; translate with:")
        print(f"  gamma-nlp translate {shlex.quote(options.output)} FILE")
        if kind == "marian":
            print(
                "The folder holds fairseq's positions as a table. transformers drops that table\n"
                "when it saves a Marian model again. This library's trainers keep it; elsewhere,\n"
                "call gamma_nlp.hf.keep_positions(model) before model.save_pretrained(...)."
            )

    return _run(parser, argv, convert)


def from_transformers(argv: Sequence[str] | None = None) -> int:
    """Run ``gamma-fairseq-from-transformers``; return the exit code."""
    parser = Parser(
        prog="gamma-fairseq-from-transformers",
        description="Turn a run of recipes/translation.py into a checkpoint and dictionaries for "
        "fairseq.",
    )
    parser.add_argument("run_folder", metavar="RUN_FOLDER", help="the run's output_dir")
    parser.add_argument("--output", required=True, metavar="OUT", help="a new folder")
    parser.add_argument(
        "--checkpoint", metavar="NAME", help="averaged, best, last or checkpoint-N (averaged)"
    )

    def convert(options: argparse.Namespace) -> None:
        from gamma_nlp.fairseq.convert.files import from_transformers
        from gamma_nlp.tasks.translation.text import TranslationText

        words = from_transformers(options.run_folder, options.output, options.checkpoint)
        text = TranslationText.load(options.run_folder)
        print(_next_steps(options.output, text.source_language, text.target_language, words))

    return _run(parser, argv, convert)


def _next_steps(output: str, source: str, target: str, words: Sequence[str]) -> str:
    learned = "--encoder-learned-pos" in words
    checkpoint, *dictionaries = (
        shlex.quote(f"{output}/{name}")
        for name in ("checkpoint.pt", f"dict.{source}.txt", f"dict.{target}.txt")
    )
    lines = [
        f"wrote {output}. Binarise the data with its dictionaries, then translate or train on",
        "(PREPARED: from scripts/prepare_iwslt14, TEST: a test set in it, DATA_BIN: a new folder):",
        f"  gamma-fairseq-preprocess --source-lang {source} --target-lang {target}"
        f" --srcdict {dictionaries[0]} --tgtdict {dictionaries[1]}"
        " --trainpref PREPARED/train --validpref PREPARED/valid --testpref PREPARED/TEST"
        " --destdir DATA_BIN",
        f"  gamma-fairseq-generate DATA_BIN --path {checkpoint} --beam 5 --remove-bpe",
        f"  gamma-fairseq-train DATA_BIN --finetune-from-model {checkpoint} {' '.join(words)} ...",
    ]
    if learned:
        lines.append("Positions became learned ones, which fairseq trains further.")
    return "\n".join(lines)


def _run(
    parser: Parser, argv: Sequence[str] | None, convert: Callable[[argparse.Namespace], None]
) -> int:
    def work() -> None:
        from gamma_nlp.hf.hub import hush

        options = parser.parse_args(argv)
        need("transformers", "hf", f"{parser.prog} needs")
        shims.check_installed()
        hush()
        convert(options)

    log = logging.getLogger("fairseq")
    before = log.level
    log.setLevel(logging.WARNING)
    try:
        return exit_code(work)
    finally:
        log.setLevel(before)
