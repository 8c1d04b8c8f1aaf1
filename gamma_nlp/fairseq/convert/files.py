"""Turn a checkpoint of fairseq into the folder of a translation run, and back."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from gamma_nlp.errors import GammaError
from gamma_nlp.fairseq import commands
from gamma_nlp.fairseq.convert.checkpoint import read_checkpoint
from gamma_nlp.fairseq.convert.models import (
    FIRST,
    as_checkpoint,
    as_dictionary,
    as_tokenizer,
    as_transformers,
    check_convertible,
    matching_options,
)
from gamma_nlp.files.write import new_folder, write_json
from gamma_nlp.hf.models import keep_positions
from gamma_nlp.tasks.translation.average import ORIGIN
from gamma_nlp.tasks.translation.checkpoints import AVERAGED, find_model, load_saved
from gamma_nlp.tasks.translation.text import TranslationText, read_prepared

CHECKPOINT = "checkpoint.pt"
"""The name of the file that :func:`from_transformers` writes."""


def to_transformers(
    checkpoint: str | os.PathLike[str],
    data: str | os.PathLike[str],
    prepared: str | os.PathLike[str],
    output: str | os.PathLike[str],
) -> str:
    """Write a checkpoint of fairseq's ``transformer`` as a folder for ``gamma-nlp translate``.

    ``from_pretrained`` loads ``output/averaged``: a float32 Marian for post-norm, Pegasus for
    pre-norm. It gives the same logits as fairseq's model for every token, including ``<s>``, which
    stays in the vocabulary as a word. ``output/text`` turns text into its token ids.

    The file holds fairseq's positions as a table. To save a Marian model again outside this
    library, call :func:`~gamma_nlp.hf.keep_positions` first, or transformers drops the
    table.

    Embedding tables that fairseq kept apart stay apart. One sharing is lost: Pegasus cannot share
    the decoder's input and output tables without the encoder's, so it gets two equal tables, which
    further training would separate.

    Args:
        checkpoint: Written by ``fairseq-train`` or ``average_checkpoints.py``.
        data: The folder with dictionaries that ``fairseq-preprocess`` wrote.
        prepared: The folder of ``scripts/prepare_iwslt14`` that ``data`` was made from.
        output: A new folder.

    Returns:
        ``marian`` or ``pegasus``.

    Raises:
        GammaError: A file or folder is not what it should be, or the model has a part that
            transformers' models lack. Nothing is written then.
    """
    target = _check_output(output)
    with _fairseq():
        model, task = read_checkpoint(Path(checkpoint), Path(data))
        languages = (task.cfg.source_lang, task.cfg.target_lang)
        dictionaries = (task.source_dictionary, task.target_dictionary)
        text = read_prepared(prepared, *languages, joint=True)
        for language, dictionary in zip(languages, dictionaries, strict=True):
            _check_words(f"{data}/dict.{language}.txt", dictionary, text, prepared)
        source, wanted = map(as_tokenizer, dictionaries)
        text = dataclasses.replace(text, source=source, target=wanted)
        converted = as_transformers(model, text, *dictionaries)
    with new_folder(target) as draft:
        text.save(draft)
        keep_positions(converted)
        converted.save_pretrained(draft / AVERAGED)
        write_json(draft / AVERAGED / ORIGIN, {"checkpoints": [Path(checkpoint).name]})
    return str(converted.config.model_type)


def from_transformers(
    run: str | os.PathLike[str], output: str | os.PathLike[str], name: str | None = None
) -> list[str]:
    """Write a model of a translation run as ``checkpoint.pt`` and dictionaries for fairseq.

    It gives the same logits. A run's vocabulary has no ``<s>``; fairseq's gets the weights of the
    padding, another token that is never a target.

    transformers' models have other positions than fairseq computes, so they become learned ones
    (``--encoder-learned-pos``), which fairseq trains further. Only positions that came from
    fairseq, by :func:`to_transformers`, are left to fairseq to compute.

    The dictionaries give every word the count 1, since a run does not store counts.

    Args:
        run: The run's folder.
        output: A new folder.
        name: Which model, as for :func:`~gamma_nlp.tasks.translation.checkpoints.find_model`.

    Returns:
        The options of ``fairseq-train`` that build this model.

    Raises:
        GammaError: ``run`` is not such a folder, or its model has a part that fairseq lacks.
            Nothing is written then.
    """
    target = _check_output(output)
    text = TranslationText.load(run)
    folder = find_model(run, name)
    model = load_saved(folder)
    with _fairseq():
        words = matching_options(model)
        check_convertible(model, text, folder)
        dictionaries = {
            text.source_language: as_dictionary(text.source),
            text.target_language: as_dictionary(text.target),
        }
        state = as_checkpoint(model, text, dictionaries, words)
    with new_folder(target) as draft:
        torch.save(state, draft / CHECKPOINT)
        for language, dictionary in dictionaries.items():
            dictionary.save(str(draft / f"dict.{language}.txt"))
    return words


def _check_output(output: str | os.PathLike[str]) -> Path:
    target = Path(os.path.abspath(output))
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise GammaError(f"--output {output} is not a folder; give another name")
    if target.is_dir() and any(target.iterdir()):
        raise GammaError(f"--output {output} is not empty; give a new folder")
    return target


@contextmanager
def _fairseq() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fairseq's and hydra's, about their own code
        commands.prepare()
        yield


def _check_words(file: str, dictionary: Any, text: TranslationText, prepared: Any) -> None:
    """Raise if the data has other subwords: translations would be bad, without an error."""
    words = [word for word in dictionary.symbols[len(FIRST) :] if not word.startswith("madeupword")]
    known = text.source.get_vocab()
    foreign = [word for word in words if word not in known]
    if len(foreign) > len(words) / 100:
        raise GammaError(
            f"{file}: {len(foreign)} of {len(words)} words (such as {foreign[0]!r}) are not in the "
            f"vocabulary of --prepared {prepared}, so its subwords are others; give the folder "
            "that the data was made from"
        )
