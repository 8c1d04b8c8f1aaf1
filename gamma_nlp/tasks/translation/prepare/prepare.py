"""Parallel text made ready for training: tokenised, cleaned, lower-cased, split into subwords.

One pipeline serves IWSLT14's archive and any folder of parallel files. It follows fairseq's
``prepare-iwslt14.sh``; a :class:`~.cleaning.Preparation` says what differs between corpora. The
same input gives the same bytes on every machine.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gamma_nlp.errors import GammaError
from gamma_nlp.files import (
    MANIFEST,
    check_target,
    checksums,
    new_folder,
    read_bytes,
    write_json,
    write_lines,
)
from gamma_nlp.tasks.translation import moses, subwords
from gamma_nlp.tasks.translation.moses import single_spaces
from gamma_nlp.tasks.translation.prepare import iwslt14
from gamma_nlp.tasks.translation.prepare.cleaning import Preparation, Sentence, clean_corpus
from gamma_nlp.tasks.translation.prepare.corpus import Corpus, read_folder
from gamma_nlp.tasks.translation.prepare.hub import read_hub_corpus

log = logging.getLogger(__name__)


def read_corpus(
    source: str | os.PathLike[str], languages: tuple[str, str], *, tokenized: bool = False
) -> Corpus:
    """Read a folder of parallel files, IWSLT14's archive, or a dataset of the hub.

    Args:
        source: A folder; ``de-en.tgz``, unpacked or not, its http(s) address, or ``download`` for
            the address that fairseq uses; or ``hub:OWNER/NAME``.
        languages: Which two languages; the archive has German and English.
        tokenized: Whether the text of a folder or of the hub is Moses-tokenised already.

    Raises:
        GammaError: It is none of these, or something in it is wrong.
    """
    if len(set(languages)) != 2 or not set(languages) <= set(moses.LANGUAGES):
        raise GammaError(
            f"languages must be two of {', '.join(moses.LANGUAGES)}, not {' '.join(languages)}"
        )
    text = str(source)
    if text.startswith("hub:"):
        return read_hub_corpus(text.removeprefix("hub:"), languages, tokenized=tokenized)
    path = Path(source).expanduser()
    fetched = text == "download" or text.startswith(("http://", "https://"))
    if not fetched and not path.exists():
        raise GammaError(
            f"input {path} does not exist; give a folder with train.{languages[0]} and so on, "
            "IWSLT14's de-en.tgz, 'download', or hub:OWNER/NAME"
        )
    if not fetched and path.is_dir() and not iwslt14.is_unpacked(path):
        return read_folder(path, languages, tokenized=tokenized)
    if set(languages) != set(iwslt14.LANGUAGES) or tokenized:
        what = "is not tokenised" if tokenized else "has German and English"
        raise GammaError(f"IWSLT14's archive {what}; leave out the option that says otherwise")
    if path.is_dir() and not fetched:
        return iwslt14.read_iwslt14(iwslt14.read_unpacked(path), text)
    name = iwslt14.URL if text == "download" else text
    data = iwslt14.fetch_archive(name) if fetched else read_bytes(path)
    return iwslt14.read_iwslt14(iwslt14.unpack(data, name), name)


def prepare(
    corpus: Corpus,
    preparation: Preparation,
    output: str | os.PathLike[str],
    *,
    source: Path | None = None,
    overwrite: bool = False,
    counts: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Write a corpus ready for training.

    The folder gets ``SPLIT.LANGUAGE`` (subwords), ``tokens/`` (without subwords), ``raw/`` (the
    same lines as the source has them, for detokenised scores), ``codes``, ``vocab.LANGUAGE`` and
    ``vocab`` (token and count in the training text), ``manifest.json`` and ``SHA256SUMS``.

    Args:
        corpus: From :func:`read_corpus`.
        preparation: What to do; ``PREPARATIONS`` has those of known corpora.
        output: A new folder.
        source: The folder that the corpus was read from, which must not be inside ``output``.
        overwrite: Replace an ``output`` that an earlier call wrote.
        counts: How many pairs each split must end up with.

    Returns:
        The manifest: counts before and after each step, versions, options.

    Raises:
        GammaError: A split is missing or empty, a count is not as expected, or the folder cannot
            be written.
    """
    # Not resolved: a symbolic link is refused, not followed. Absolute, so that "." has a name.
    target = Path(os.path.abspath(Path(output).expanduser()))
    check_target(target, source, overwrite=overwrite)
    splits, report = clean_corpus(corpus, preparation)
    found = {name: len(sentences) for name, sentences in splits.items()}
    if counts is not None and found != dict(counts):
        differing = ", ".join(
            f"{name} has {found.get(name, 0):,} pairs and must have {count:,}"
            for name, count in counts.items()
            if found.get(name, 0) != count
        )
        raise GammaError(
            f"not the counts of the official corpus: {differing}. The archive or a version of "
            "sacremoses differs; to write it all the same add --any-counts"
        )
    train = [[sentence.tokens[side] for sentence in splits["train"]] for side in (0, 1)]
    codes = subwords.learn_codes(train[0] + train[1], preparation.merges)
    learned = subwords.count_merges(codes)
    if learned < preparation.merges:
        log.warning("only %d of %d merges could be learned", learned, preparation.merges)
    with new_folder(target) as draft:
        (draft / "codes").write_bytes(codes.encode("utf-8"))
        sizes = _write_splits(draft, corpus.languages, splits, codes, raw=not preparation.tokenized)
        manifest = {
            "languages": list(corpus.languages),
            "recipe": asdict(preparation),
            "sources": dict(corpus.sources),
            "official": corpus.official,
            "splits": report,
            "merges_learned": learned,
            "vocabulary": sizes,
            "versions": _versions(),
        }
        write_json(draft / MANIFEST, manifest)
        sums = checksums(draft)
        write_lines(draft / "SHA256SUMS", [f"{digest}  {name}" for name, digest in sums.items()])
    return manifest


def _write_splits(
    folder: Path,
    languages: tuple[str, str],
    splits: Mapping[str, Sequence[Sentence]],
    codes: str,
    *,
    raw: bool,
) -> dict[str, int]:
    segment = subwords.segmenter(codes)
    train: list[list[str]] = []
    for name, sentences in splits.items():
        for side, language in enumerate(languages):
            file = f"{name}.{language}"
            tokens = [sentence.tokens[side] for sentence in sentences]
            pieces = [segment(line) for line in tokens]
            write_lines(folder / file, pieces)
            write_lines(folder / "tokens" / file, tokens)
            if raw:
                lines = [single_spaces(sentence.raw[side]) for sentence in sentences]
                write_lines(folder / "raw" / file, lines)
            if name == "train":
                train.append(pieces)
    texts = {
        f"vocab.{languages[0]}": train[0],
        f"vocab.{languages[1]}": train[1],
        "vocab": train[0] + train[1],
    }
    sizes = {}
    for file, lines in texts.items():
        entries = subwords.vocabulary(lines)
        write_lines(folder / file, [f"{token} {count}" for token, count in entries])
        sizes[file] = len(entries)
    return sizes


def _versions() -> dict[str, str]:
    packages = ("gamma_nlp", "sacremoses", "subword-nmt")
    found = {package: importlib.metadata.version(package) for package in packages}
    return {"python": platform.python_version()} | found
