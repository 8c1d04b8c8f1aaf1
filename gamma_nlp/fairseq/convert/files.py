"""A checkpoint of fairseq as the folder of a translation run, and the other way round."""

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
from gamma_nlp.files import new_folder, write_json
from gamma_nlp.hf.models import keep_positions
from gamma_nlp.tasks.translation.average import ORIGIN
from gamma_nlp.tasks.translation.checkpoints import AVERAGED, find_model, load_saved
from gamma_nlp.tasks.translation.text import TranslationText, read_prepared

CHECKPOINT = "checkpoint.pt"
"""What :func:`from_transformers` calls its checkpoint."""


def to_transformers(
    checkpoint: str | os.PathLike[str],
    data: str | os.PathLike[str],
    prepared: str | os.PathLike[str],
    output: str | os.PathLike[str],
) -> str:
    """Write a checkpoint of fairseq's ``transformer`` as a folder for ``gamma-nlp translate``.

    ``output/averaged`` is for ``from_pretrained``: Marian for post-norm, Pegasus for pre-norm, in
    float32. It gives the logits of fairseq's model for every token, ``<s>`` included, which stays
    in the vocabulary as a word. ``output/text`` turns text into its ids.

    The positions are those of fairseq, in a table that is part of the file. Where a model of
    Marian is saved anew by other code than this library's,
    :func:`~gamma_nlp.hf.keep_positions` must be called first, or its table is lost.

    Tables that fairseq kept apart stay apart, with one exception: Pegasus cannot share output and
    decoder input alone, so they are two equal tables there, which further training would part.

    Args:
        checkpoint: As ``fairseq-train`` or ``average_checkpoints.py`` wrote it.
        data: What ``fairseq-preprocess`` wrote; its dictionaries are needed.
        prepared: The folder of ``scripts/prepare_iwslt14`` that ``data`` was made from.
        output: A new folder.

    Returns:
        ``marian`` or ``pegasus``.

    Raises:
        GammaError: A file or folder is not what it should be, or the model has something that
            transformers' models lack. Nothing is written then.
    """
    target = _new(output)
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

    It gives the same logits. fairseq's ``<s>``, which the vocabulary of a run does not have, gets
    the weights of the padding: another token that is never a target.

    Positions of transformers' models differ from those that fairseq computes, so they become its
    learned positions (``--encoder-learned-pos``), which fairseq goes on to train. Only tables that
    came from fairseq, by :func:`to_transformers`, are left to fairseq to compute.

    The dictionaries count each word once: a run does not know how often it occurred.

    Args:
        run: The run's folder.
        output: A new folder.
        name: Which model, as for :func:`~gamma_nlp.tasks.translation.checkpoints.find_model`.

    Returns:
        The options of ``fairseq-train`` that build this model.

    Raises:
        GammaError: ``run`` is not such a folder, or its model has something that fairseq lacks.
            Nothing is written then.
    """
    target = _new(output)
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


def _new(output: str | os.PathLike[str]) -> Path:
    target = Path(os.path.abspath(output))
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise GammaError(f"--output {output} is not a folder; give another name")
    if target.is_dir() and any(target.iterdir()):
        raise GammaError(f"--output {output} is there and not empty; give a new folder")
    return target


@contextmanager
def _fairseq() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # hydra's and fairseq's, of what nobody here can change
        commands.prepare()
        yield


def _check_words(file: str, dictionary: Any, text: TranslationText, prepared: Any) -> None:
    """Refuse subwords that are not those of the data: translations would be bad, silently."""
    words = [word for word in dictionary.symbols[len(FIRST) :] if not word.startswith("madeupword")]
    known = text.source.get_vocab()
    foreign = [word for word in words if word not in known]
    if len(foreign) > len(words) / 100:
        raise GammaError(
            f"{len(foreign)} of {len(words)} words of {file} (such as {foreign[0]!r}) are not in "
            f"the vocabulary of --prepared {prepared}: its subwords are others; give the folder "
            "that the data was made from"
        )
