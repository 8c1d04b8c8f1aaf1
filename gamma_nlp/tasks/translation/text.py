"""How text becomes token ids and back: what a prepared folder says, kept with the model."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gamma_nlp.errors import GammaError, listed, one_line, panics_are_errors
from gamma_nlp.files.read import read_bytes, read_text, text_lines
from gamma_nlp.files.write import write_json, write_text
from gamma_nlp.tasks.translation import moses, subwords
from gamma_nlp.tasks.translation.moses import detokenize, single_spaces

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
SPECIAL = (PAD, END, UNKNOWN)
"""The first ids of every vocabulary."""

FOLDER = "text"
"""Where a run's folder keeps it."""

_FACTS = ("source_language", "target_language", "lowercase", "tokenized")


@dataclass(frozen=True, kw_only=True)
class TranslationText:
    """Everything between plain text and token ids, for one direction of translation.

    Attributes:
        source_language: Two letters.
        target_language: Two letters.
        lowercase: Whether text is lower-cased.
        tokenized: Whether the input is Moses-tokenised already.
        codes: Text of the codes file of the subwords.
        source: Tokenizer of lines of subwords; it ends each with the end token.
        target: As ``source``; the same where the vocabulary is joint.
    """

    source_language: str
    target_language: str
    lowercase: bool
    tokenized: bool
    codes: str
    source: Any
    target: Any

    @property
    def joint(self) -> bool:
        """Whether both languages share their vocabulary."""
        return bool(self.source.get_vocab() == self.target.get_vocab())

    def same_as(self, other: TranslationText) -> bool:
        """Return whether both turn the same text into the same ids."""
        names = (*_FACTS, "codes")
        sides = ((self.source, other.source), (self.target, other.target))
        return all(getattr(self, name) == getattr(other, name) for name in names) and all(
            one.get_vocab() == two.get_vocab() for one, two in sides
        )

    def subwords(self, lines: Iterable[str]) -> list[str]:
        """Split plain source text into subwords, as the training text was."""
        tokenize = single_spaces if self.tokenized else moses.tokenizer(self.source_language)
        segment = subwords.segmenter(self.codes)
        tokens = (tokenize(line) for line in lines)
        return [segment(moses.lowercase(line) if self.lowercase else line) for line in tokens]

    def encode_source(self, lines: Sequence[str]) -> list[list[int]]:
        """Return token ids of lines of subwords, each ended by the end token."""
        return _encode(self.source, lines)

    def encode_target(self, lines: Sequence[str]) -> list[list[int]]:
        """Return the same as :meth:`encode_source`, for the target language."""
        return _encode(self.target, lines)

    def decode(self, ids: Iterable[Sequence[int]]) -> list[str]:
        """Return tokenised text of target ids: subwords joined, padding and end tokens left out."""
        words = self.target.convert_ids_to_tokens
        lines = ([word for word in words(row) if word not in (PAD, END)] for row in ids)
        return [subwords.join_subwords(" ".join(line)) for line in lines]

    def plain(self, tokens: Sequence[str]) -> list[str]:
        """Detokenise target text; the letters' case is as in training."""
        return detokenize(tokens, self.target_language)

    def save(self, run: str | os.PathLike[str]) -> None:
        """Write this into ``text/`` of a run's folder.

        Raises:
            GammaError: It cannot be written.
        """
        folder = Path(run) / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        try:
            self.source.save_pretrained(folder / "source")
            self.target.save_pretrained(folder / "target")
        except Exception as error:  # the tokenizers' own kind has no name
            raise GammaError(f"cannot write {folder}: {one_line(error)}") from error
        write_text(folder / "codes", self.codes)
        write_json(folder / "text.json", {name: getattr(self, name) for name in _FACTS})

    @classmethod
    def load(cls, run: str | os.PathLike[str]) -> TranslationText:
        """Read what :meth:`save` wrote.

        Raises:
            GammaError: The folder is not that of a translation run.
        """
        folder = Path(run) / FOLDER
        if not folder.is_dir():
            raise GammaError(_no_run(Path(run)))
        try:
            facts = json.loads((folder / "text.json").read_text(encoding="utf-8"))
            source, target = (_saved(folder / side) for side in ("source", "target"))
            codes = (folder / "codes").read_text(encoding="utf-8")
            found = cls(**facts, codes=codes, source=source, target=target)
            found.encode_source(found.subwords(["a"]))  # settings that do not fit fail here
            found.plain(found.decode(found.encode_target(["a"])))
            return found
        except Exception as error:  # tokenizers raises errors of no kind of its own
            raise GammaError(
                f"{run} is not the folder of a translation run: {folder} cannot be read "
                f"({one_line(error, file=True)}); give the output_dir of recipes/translation.py"
            ) from error


def _saved(folder: Path) -> Any:
    """Read a tokenizer that was saved; one that was changed since may make other ids of a text."""
    from transformers import PreTrainedTokenizerFast

    with panics_are_errors():
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    ids = tokenizer.get_vocab()
    made = word_tokenizer(sorted(ids, key=ids.__getitem__))
    if tokenizer.backend_tokenizer.to_str() != made.backend_tokenizer.to_str():
        raise ValueError(f"{folder / 'tokenizer.json'} was changed after it was saved")
    return tokenizer


def _no_run(run: Path) -> str:
    why = "it is a file" if run.exists() else "there is no such folder"
    if run.is_dir():
        inside = listed(sorted(path.name for path in run.iterdir())) or "nothing"
        why = f"it holds {inside}, and no {FOLDER}"
    return (
        f"{run} is not the folder of a translation run: {why}; give the output_dir of "
        "recipes/translation.py"
    )


def read_prepared(
    folder: str | os.PathLike[str], source_language: str, target_language: str, *, joint: bool
) -> TranslationText:
    """Read vocabularies and subwords of a folder that ``scripts/prepare_iwslt14`` wrote.

    Args:
        folder: The prepared folder.
        source_language: What to translate from.
        target_language: What to translate into.
        joint: One vocabulary for both languages, or one each.

    Raises:
        GammaError: The folder was not prepared, or holds other languages.
    """
    path = Path(folder).expanduser()
    try:
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        languages, recipe = [str(code) for code in manifest["languages"]], manifest["recipe"]
        lowercase, tokenized = bool(recipe["lowercase"]), bool(recipe["tokenized"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GammaError(
            f"data {path} is not a prepared folder (no manifest.json that says how); make one "
            "with: bash scripts/prepare_iwslt14 INPUT OUTPUT"
        ) from error
    if {source_language, target_language} != set(languages):
        raise GammaError(
            f"data {path} has {' and '.join(languages)}, not {source_language} and "
            f"{target_language}; set source_language and target_language to these"
        )
    source = vocabulary_tokenizer(path / ("vocab" if joint else f"vocab.{source_language}"))
    target = source if joint else vocabulary_tokenizer(path / f"vocab.{target_language}")
    return TranslationText(
        source_language=source_language,
        target_language=target_language,
        lowercase=lowercase,
        tokenized=tokenized,
        codes=read_text(path / "codes"),
        source=source,
        target=target,
    )


def vocabulary_tokenizer(path: Path) -> Any:
    """Make a tokenizer of lines of subwords from a file with a token and its count on each line."""
    return word_tokenizer(line.split(" ")[0] for line in text_lines(read_bytes(path), path))


def word_tokenizer(words: Iterable[str]) -> Any:
    """Make a fast tokenizer that splits at spaces and ends a line with ``</s>``."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    ids = {word: index for index, word in enumerate(dict.fromkeys((*SPECIAL, *words)))}
    core = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.post_processor = processors.TemplateProcessing(
        single=f"$A {END}", special_tokens=[(END, ids[END])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token=PAD, eos_token=END, unk_token=UNKNOWN
    )


def _encode(tokenizer: Any, lines: Sequence[str]) -> list[list[int]]:
    if not lines:
        return []
    # A word of the text that reads like a mark is unknown, not a mark: alone or inside a word.
    words = (line.split(" ") for line in lines)
    plain = [" ".join(UNKNOWN if word in SPECIAL else word for word in line) for line in words]
    found = tokenizer(plain, return_attention_mask=False, split_special_tokens=True)
    return list(found["input_ids"])


def check_text(run: Path, text: TranslationText, data: str) -> None:
    """Raise if a run would continue with other token ids than it was trained with.

    Args:
        run: The run's folder.
        text: Read from ``data``.
        data: The prepared folder.

    Raises:
        GammaError: Subwords or vocabularies differ from the run's.
    """
    if not TranslationText.load(run).same_as(text):
        raise GammaError(
            f"data {data} has other subwords or vocabularies than output_dir {run} was trained "
            "with, so it was prepared again; resume with the data of the run, or give another "
            "--output_dir"
        )
