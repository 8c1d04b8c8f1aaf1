"""``gamma-nlp prepare``: parallel text in, a folder ready for training out."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import time
from pathlib import Path
from typing import Any

from gamma_nlp.cli.common import add_command
from gamma_nlp.errors import GammaError, need_installed
from gamma_nlp.tasks.translation.prepare.cleaning import (
    PREPARATIONS,
    Cleaning,
    Preparation,
    default_preparation,
)

EXAMPLES = """\
  gamma-nlp prepare path/to/text prepared --languages de en
  gamma-nlp prepare de-en.tgz prepared
  gamma-nlp prepare hub:OWNER/NAME prepared --merges 8000"""


def add_parser(commands: Any) -> None:
    """Add the command to the subparsers of ``gamma-nlp``."""
    parser = add_command(
        commands, "prepare", run=run, examples=EXAMPLES,
        description="Tokenises, cleans and splits parallel text into subwords, as fairseq's\n"
        "prepare-iwslt14.sh does.",
    )  # fmt: skip
    add = parser.add_argument
    add(
        "input", metavar="INPUT",
        help="a folder with train.LANG, valid.LANG (or val, dev) and test*.LANG; IWSLT14's "
        "de-en.tgz, unpacked or not, or its address; 'download'; or hub:OWNER/NAME[:CONFIG]",
    )  # fmt: skip
    add("output", metavar="OUTPUT", help="a new folder")
    add("--languages", nargs=2, default=["de", "en"], metavar="LANG", help="(de en)")
    add("--recipe", choices=PREPARATIONS, help="(multi30k for its file names, else iwslt14)")
    add("--merges", metavar="N", type=int, help="(10000 for iwslt14, 4000 for multi30k)")
    add(
        "--max-ratio", metavar="R", type=float,
        help="longest to shortest side in tokens; 0 for no limit",
    )  # fmt: skip
    add("--max-length", metavar="N", type=int, help="most tokens a side; 0 for no limit")
    add(
        "--valid-every", metavar="N", type=int,
        help="without valid.*: take every N-th line of train.*",
    )  # fmt: skip
    add("--keep-case", action="store_true", help="do not lower-case")
    add("--tokenized", action="store_true", help="the input is Moses-tokenised already")
    add("--any-counts", action="store_true", help="accept other counts than IWSLT14's")
    add("--overwrite", action="store_true", help="replace an output folder of this command")


def run(arguments: argparse.Namespace) -> int:
    """Prepare a corpus and print what was written."""
    need_installed(("sacremoses", "subword_nmt"), "translation", "gamma-nlp prepare needs")
    if arguments.input.startswith("hub:"):
        need_installed(("datasets",), "hf", "gamma-nlp prepare hub:... needs")
    check(arguments)
    from gamma_nlp.tasks.translation.prepare import iwslt14
    from gamma_nlp.tasks.translation.prepare.prepare import prepare, read_corpus

    logging.basicConfig(level="WARNING", format="%(levelname)s: %(message)s")
    started = time.perf_counter()
    languages = (arguments.languages[0], arguments.languages[1])
    corpus = read_corpus(arguments.input, languages, tokenized=arguments.tokenized)
    source = Path(arguments.input)
    manifest = prepare(
        corpus,
        _recipe(arguments, PREPARATIONS[arguments.recipe or default_preparation(corpus)]),
        arguments.output,
        source=source if source.exists() else None,
        overwrite=arguments.overwrite,
        counts=iwslt14.COUNTS if corpus.official and not arguments.any_counts else None,
    )
    _print_summary(manifest, arguments.output, time.perf_counter() - started)
    return 0


def check(arguments: argparse.Namespace) -> None:
    """Check names and numbers before anything is read.

    Raises:
        GammaError: A name is empty, or an option is out of range.
    """
    for name in ("input", "output"):
        if not getattr(arguments, name).removeprefix("hub:").strip():
            raise GammaError(f"{name.upper()} is empty; for help type: gamma-nlp prepare --help")
    try:
        _recipe(arguments, PREPARATIONS["iwslt14"])
    except GammaError as error:  # max_ratio must ...: name the option as it is typed
        field, space, rest = str(error).partition(" ")
        raise GammaError(f"--{field.replace('_', '-')}{space}{rest}") from error


def _recipe(arguments: argparse.Namespace, recipe: Preparation) -> Preparation:
    limits = {
        name: value or None  # on a command line 0 means no limit
        for name in ("max_ratio", "max_length")
        if (value := getattr(arguments, name)) is not None
    }
    changes = {
        name: value
        for name in ("merges", "valid_every")
        if (value := getattr(arguments, name)) is not None
    }
    cleaning: Cleaning = dataclasses.replace(recipe.cleaning, **limits)
    return dataclasses.replace(
        recipe,
        cleaning=cleaning,
        lowercase=not arguments.keep_case,
        tokenized=arguments.tokenized,
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
