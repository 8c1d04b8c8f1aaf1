"""Prepare parallel text for training; ``scripts/prepare_iwslt14`` runs it."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gamma_nlp.errors import GammaError
from gamma_nlp.tasks.translation.prepare import iwslt14
from gamma_nlp.tasks.translation.prepare.cleaning import (
    PREPARATIONS,
    Cleaning,
    Preparation,
    default_preparation,
)
from gamma_nlp.tasks.translation.prepare.prepare import prepare, read_corpus


def main(argv: Sequence[str] | None = None) -> int:
    """Prepare a corpus and print what was written; 0, or 2 after an error message."""
    logging.basicConfig(level="WARNING", format="%(levelname)s: %(message)s")
    args = _parser().parse_args(argv)
    started = time.perf_counter()
    try:
        languages = (args.languages[0], args.languages[1])
        corpus = read_corpus(args.input, languages, tokenized=args.tokenized)
        recipe = _recipe(args, PREPARATIONS[args.recipe or default_preparation(corpus)])
        manifest = prepare(
            corpus,
            recipe,
            args.output,
            source=Path(args.input) if Path(args.input).exists() else None,
            overwrite=args.overwrite,
            counts=iwslt14.COUNTS if corpus.official and not args.any_counts else None,
        )
    except GammaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    _print_summary(manifest, args.output, time.perf_counter() - started)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="prepare_iwslt14",
        description="Tokenise, clean and split parallel text into subwords, as fairseq's "
        "prepare-iwslt14.sh does.",
    )
    add = parser.add_argument
    add(
        "input",
        help="a folder with train.LANG, valid.LANG (or val, dev) and test*.LANG; IWSLT14's "
        "de-en.tgz, unpacked or not, or its address; 'download'; or hub:OWNER/NAME[:CONFIG]",
    )
    add("output", help="a new folder")
    add("--languages", nargs=2, default=["de", "en"], metavar="LANG", help="default: de en")
    add("--recipe", choices=PREPARATIONS, help="default: multi30k for its file names, else iwslt14")
    add("--merges", type=int, help="default: 10000 (iwslt14), 4000 (multi30k)")
    add("--max-ratio", type=float, help="longest to shortest side in tokens; 0 for no limit")
    add("--max-length", type=int, help="most tokens a side; 0 for no limit")
    add("--valid-every", type=int, help="without valid.*: take every N-th line of train.*")
    add("--keep-case", action="store_true", help="do not lower-case")
    add("--tokenized", action="store_true", help="the input is Moses-tokenised already")
    add("--any-counts", action="store_true", help="accept other counts than IWSLT14's")
    add("--overwrite", action="store_true", help="replace an output folder of this command")
    return parser


def _recipe(args: argparse.Namespace, recipe: Preparation) -> Preparation:
    limits = {
        name: value or None  # 0 is how one says "no limit" on a command line
        for name in ("max_ratio", "max_length")
        if (value := getattr(args, name)) is not None
    }
    changes = {
        name: value
        for name in ("merges", "valid_every")
        if (value := getattr(args, name)) is not None
    }
    cleaning: Cleaning = dataclasses.replace(recipe.cleaning, **limits)
    return dataclasses.replace(
        recipe,
        cleaning=cleaning,
        lowercase=not args.keep_case,
        tokenized=args.tokenized,
        **changes,
    )


def _print_summary(manifest: dict[str, Any], output: str, seconds: float) -> None:
    for name, split in manifest["splits"].items():
        reasons = split.get("dropped", {}).items()
        dropped = ", ".join(f"{count} {reason}" for reason, count in reasons)
        note = f"  (dropped: {dropped})" if dropped else ""
        print(f"{name:20} {split['written']:>9,} pairs{note}")
    sizes = ", ".join(f"{name} {size:,}" for name, size in manifest["vocabulary"].items())
    print(f"{manifest['merges_learned']:,} merges; {sizes}; {seconds:.1f} s; written: {output}")


if __name__ == "__main__":
    sys.exit(main())
