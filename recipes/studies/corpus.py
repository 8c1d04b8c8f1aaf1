"""Real text on every machine: Python's own sources, split by file, in pieces of byte-level BPE.

The standard library's files are read in sorted order, without tests and tables, so a Python version
has one corpus. What was made of it is kept in one file whose name says what it was made from.
"""

from __future__ import annotations

import hashlib
import json
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gamma_nlp.errors import GammaError, need
from gamma_nlp.files.read import read_bytes
from gamma_nlp.tasks.run.versions import versions
from recipes.studies.kept import kept

LEFT_OUT = ("site-packages", "dist-packages", "test", "tests", "idle_test", "encodings")
"""Folders that are not read: other packages, tests, and tables of characters."""
_TABLES = "_sysconfigdata"  # of one machine, and with its paths
_END = "<|file|>"
_VALIDATION = 10  # every tenth file, by the hash of its path
_FORM = 1  # change it when the same sources would make other rows


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Windows of a corpus: rows of token ids, all of one length.

    Attributes:
        train: (windows, length), in the order of the files.
        validation: (windows, length); of other files.
        ids: The file and the number of the window in it, for each row of ``validation``.
        bytes_of: How many bytes of text each token stands for.
    """

    train: np.ndarray
    validation: np.ndarray
    ids: np.ndarray
    bytes_of: np.ndarray

    @property
    def vocabulary(self) -> int:
        """The number of tokens."""
        return len(self.bytes_of)

    def digests(self) -> dict[str, str]:
        """Return a short text for each set that differs where its rows do."""
        rows = {"train": self.train, "validation": self.validation}
        return {
            name: hashlib.sha256(f"{ids.shape}".encode() + ids.tobytes()).hexdigest()[:16]
            for name, ids in rows.items()
        }


def standard_library() -> Path:
    """Return the folder of the running Python's own sources."""
    return Path(sysconfig.get_paths()["stdlib"])


def load_corpus(
    folder: Path, *, keep_in: Path, vocabulary: int, length: int, windows: int
) -> Corpus:
    """Return the corpus of a folder of Python sources; make and keep it unless it was kept.

    Args:
        folder: The sources.
        keep_in: The folder to keep the result in; made if absent.
        vocabulary: Tokens of the byte-level BPE, which is learned from the training files.
        length: Tokens of a window.
        windows: Windows of the validation set, chosen by the hash of their names.

    Raises:
        GammaError: There is too little text in ``folder``, or a kept file is damaged.
    """
    texts = dict(sources(folder))
    settings = [_FORM, vocabulary, length, windows, versions().get("tokenizers")]
    told = hashlib.sha256(json.dumps(settings).encode())
    for name, text in texts.items():
        told.update(f"{name}\0{text}\0".encode())
    path = keep_in / f"corpus-{told.hexdigest()[:16]}.npz"
    return Corpus(**kept(path, lambda: _make(texts, folder, vocabulary, length, windows)))


def sources(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield path and text of every source file of a folder that is text in UTF-8, sorted.

    Raises:
        GammaError: There is no such folder.
    """
    if not folder.is_dir():
        raise GammaError(f"{folder} is no folder; give one that holds Python sources")
    names = [path.relative_to(folder) for path in folder.rglob("*.py")]
    for name in sorted(names, key=lambda name: name.as_posix()):
        if any(part in LEFT_OUT for part in name.parts) or name.name.startswith(_TABLES):
            continue
        try:
            yield name.as_posix(), read_bytes(folder / name).decode("utf-8").replace("\r\n", "\n")
        except UnicodeDecodeError:
            continue


def is_validation(name: str) -> bool:
    """Return whether a file belongs to the validation set; its path alone decides."""
    return _hash(name) % _VALIDATION == 0


def _make(
    texts: Mapping[str, str], folder: Path, vocabulary: int, length: int, windows: int
) -> dict[str, np.ndarray]:
    train = [text for name, text in texts.items() if not is_validation(name)]
    tokenizer = _learn(train, vocabulary)
    end = tokenizer.token_to_id(_END)
    stream = [token for text in train for token in [*tokenizer.encode(text).ids, end]]
    rows: dict[str, list[int]] = {}
    for name in filter(is_validation, texts):
        ids = tokenizer.encode(texts[name]).ids
        for start in range(0, len(ids) - length + 1, length):
            rows[f"{name}:{start // length}"] = ids[start : start + length]
    chosen = sorted(rows, key=_hash)[:windows]
    if len(stream) < length or not chosen:
        raise GammaError(
            f"{folder} holds {len(texts)} Python files, too little text for windows of {length} "
            "tokens in both sets; give a folder with more"
        )
    whole = len(stream) // length
    sizes = [len(tokenizer.id_to_token(token)) for token in range(tokenizer.get_vocab_size())]
    sizes[end] = 0  # each other character stands for a byte
    return {
        "train": np.array(stream[: whole * length], dtype=np.uint16).reshape(whole, length),
        "validation": np.array([rows[name] for name in chosen], dtype=np.uint16),
        "ids": np.array(chosen),
        "bytes_of": np.array(sizes, dtype=np.int64),
    }


def _learn(texts: list[str], vocabulary: int) -> Any:
    tokenizers = need("tokenizers", "hf", "byte-level BPE needs")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocabulary,
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=[_END],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
