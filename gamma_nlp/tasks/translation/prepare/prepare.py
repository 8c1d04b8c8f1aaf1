"""Parallel text made ready for training: tokenised, cleaned, lower-cased, split into subwords.

One pipeline serves IWSLT14's archive and any folder of parallel files. It follows fairseq's
``prepare-iwslt14.sh``; a :class:`~.cleaning.Preparation` says what differs between corpora. The
same input gives the same bytes on every machine.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import itertools
import logging
import os
import platform
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from gamma_nlp.errors import GammaError
from gamma_nlp.files.output import MANIFEST, check_target, checksums
from gamma_nlp.files.read import read_bytes
from gamma_nlp.files.write import new_folder, write_json, write_lines
from gamma_nlp.tasks.translation import moses, subwords
from gamma_nlp.tasks.translation.moses import single_spaces
from gamma_nlp.tasks.translation.prepare import iwslt14
from gamma_nlp.tasks.translation.prepare.cleaning import Preparation, clean_corpus
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
    report: dict[str, dict[str, Any]] = {}
    with new_folder(target) as draft:
        _write_tokens(draft, corpus, preparation, report)
        found = {name: split["written"] for name, split in report.items()}
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
        train = [draft / "tokens" / f"train.{language}" for language in corpus.languages]
        codes = subwords.learn_codes(_lines(*train), preparation.merges)
        learned = subwords.count_merges(codes)
        if learned < preparation.merges:
            log.warning("only %d of %d merges could be learned", learned, preparation.merges)
        (draft / "codes").write_bytes(codes.encode("utf-8"))
        sizes = _write_pieces(draft, corpus.languages, report, codes)
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


def _write_tokens(
    folder: Path, corpus: Corpus, preparation: Preparation, report: dict[str, dict[str, Any]]
) -> None:
    """Write ``tokens/`` and ``raw/``, sentence by sentence."""
    with contextlib.ExitStack() as files:

        def opened(place: str, split: str) -> list[BinaryIO]:
            (folder / place).mkdir(exist_ok=True)
            paths = [folder / place / f"{split}.{language}" for language in corpus.languages]
            return [files.enter_context(path.open("wb")) for path in paths]

        tokens: dict[str, list[BinaryIO]] = {}
        raw: dict[str, list[BinaryIO]] = {}
        for name, sentence in clean_corpus(corpus, preparation, report):
            if name not in tokens:
                tokens[name] = opened("tokens", name)
                raw[name] = [] if preparation.tokenized else opened("raw", name)
            for file, line in zip(tokens[name], sentence.tokens, strict=True):
                file.write(f"{line}\n".encode())
            for file, line in zip(raw[name], sentence.raw, strict=False):
                file.write(f"{single_spaces(line)}\n".encode())


def _write_pieces(
    folder: Path, languages: tuple[str, str], splits: Iterable[str], codes: str
) -> dict[str, int]:
    """Write every split in subwords, and the vocabularies; return the sizes of these."""
    segment = subwords.segmenter(codes)
    for name, language in itertools.product(splits, languages):
        file = f"{name}.{language}"
        with (folder / file).open("wb") as pieces:
            for line in _lines(folder / "tokens" / file):
                pieces.write(f"{segment(line)}\n".encode())
    train = [folder / f"train.{language}" for language in languages]
    texts = {
        f"vocab.{languages[0]}": train[:1],
        f"vocab.{languages[1]}": train[1:],
        "vocab": train,
    }
    sizes = {}
    for file, paths in texts.items():
        entries = subwords.vocabulary(_lines(*paths))
        write_lines(folder / file, [f"{token} {count}" for token, count in entries])
        sizes[file] = len(entries)
    return sizes


def _lines(*paths: Path) -> Iterator[str]:
    """Yield the lines of files that this module wrote, one at a time."""
    for path in paths:
        with path.open("rb") as file:
            for line in file:
                yield line.decode("utf-8").removesuffix("\n")


def _versions() -> dict[str, str]:
    packages = ("gamma_nlp", "sacremoses", "subword-nmt")
    found = {package: importlib.metadata.version(package) for package in packages}
    return {"python": platform.python_version()} | found
