"""``gamma-fairseq-to-transformers`` and ``gamma-fairseq-from-transformers``."""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
from collections.abc import Callable, Sequence

from gamma_nlp.errors import GammaError, need_installed


def to_transformers(argv: Sequence[str] | None = None) -> int:
    """``gamma-fairseq-to-transformers``: 0, or 2 after an error message."""
    parser = argparse.ArgumentParser(
        prog="gamma-fairseq-to-transformers",
        description="Make a folder for `gamma-nlp translate` of a checkpoint of fairseq's "
        "transformer.",
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT.pt", help="from fairseq-train")
    parser.add_argument(
        "--data", required=True, metavar="DATA_BIN", help="what fairseq-preprocess wrote"
    )
    parser.add_argument(
        "--prepared", required=True, metavar="FOLDER",
        help="what scripts/prepare_iwslt14 wrote, of which DATA_BIN was made",
    )  # fmt: skip
    parser.add_argument("--output", required=True, metavar="OUT", help="a new folder")
    given = parser.parse_args(argv)

    def convert() -> None:
        from gamma_nlp.fairseq.convert.files import to_transformers

        kind = to_transformers(given.checkpoint, given.data, given.prepared, given.output)
        print(f"wrote {given.output}; translate with:")
        print(f"  gamma-nlp translate {shlex.quote(given.output)} FILE")
        if kind == "marian":
            print(
                "Its positions are fairseq's, a table in the file. transformers leaves the table\n"
                "out when Marian is saved anew: unless this library's trainers do it, call\n"
                "gamma_nlp.hf.models.keep_positions(model) before model.save_pretrained(...)."
            )

    return _reported(convert)


def from_transformers(argv: Sequence[str] | None = None) -> int:
    """``gamma-fairseq-from-transformers``: 0, or 2 after an error message."""
    parser = argparse.ArgumentParser(
        prog="gamma-fairseq-from-transformers",
        description="Make a checkpoint and dictionaries for fairseq of a run of "
        "recipes/translation.py.",
    )
    parser.add_argument("run_folder", metavar="RUN_FOLDER", help="the run's output_dir")
    parser.add_argument("--output", required=True, metavar="OUT", help="a new folder")
    parser.add_argument(
        "--checkpoint", metavar="NAME", help="averaged, best, last or checkpoint-N (averaged)"
    )
    given = parser.parse_args(argv)

    def convert() -> None:
        from gamma_nlp.fairseq.convert.files import from_transformers
        from gamma_nlp.tasks.translation.text import TranslationText

        words = from_transformers(given.run_folder, given.output, given.checkpoint)
        text = TranslationText.load(given.run_folder)
        print(_next(given.output, text.source_language, text.target_language, words))

    return _reported(convert)


def _next(output: str, source: str, target: str, words: Sequence[str]) -> str:
    learned = "--encoder-learned-pos" in words
    checkpoint, *dictionaries = (
        shlex.quote(f"{output}/{name}")
        for name in ("checkpoint.pt", f"dict.{source}.txt", f"dict.{target}.txt")
    )
    lines = [
        f"wrote {output}. Make the data anew with its dictionaries, then translate or train on",
        "(PREPARED: what scripts/prepare_iwslt14 wrote, TEST: a test set of it, DATA_BIN: new):",
        f"  gamma-fairseq-preprocess --source-lang {source} --target-lang {target}"
        f" --srcdict {dictionaries[0]} --tgtdict {dictionaries[1]}"
        " --trainpref PREPARED/train --validpref PREPARED/valid --testpref PREPARED/TEST"
        " --destdir DATA_BIN",
        f"  gamma-fairseq-generate DATA_BIN --path {checkpoint} --beam 5 --remove-bpe",
        f"  gamma-fairseq-train DATA_BIN --finetune-from-model {checkpoint} {' '.join(words)} ...",
    ]
    if learned:
        lines.append("Positions became learned ones, which fairseq goes on to train.")
    return "\n".join(lines)


def _reported(convert: Callable[[], None]) -> int:
    from gamma_nlp.hf.hub import hush

    hush()
    chatter = logging.getLogger("fairseq")
    before = chatter.level
    chatter.setLevel(logging.WARNING)
    try:
        need_installed(("transformers", "accelerate"), "hf", "the conversion needs")
        convert()
    except GammaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        chatter.setLevel(before)
    return 0
