"""The end of a translation run: its final model, and its translations of every test set."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from gamma_nlp.errors import GammaError, one_line
from gamma_nlp.files.manifest import need_whole
from gamma_nlp.files.write import new_folder, write_json, write_lines
from gamma_nlp.tasks.run.items import Items
from gamma_nlp.tasks.translation import scores
from gamma_nlp.tasks.translation.average import ORIGIN, average_checkpoints, last_checkpoints
from gamma_nlp.tasks.translation.checkpoints import AVERAGED
from gamma_nlp.tasks.translation.data import References
from gamma_nlp.tasks.translation.decode import Search
from gamma_nlp.tasks.translation.outcomes import sentence_items
from gamma_nlp.tasks.translation.text import TranslationText
from gamma_nlp.tasks.translation.trainer import TranslationTrainer

_AVERAGE_WITHOUT = (
    "delete {name} and add --resume to average the others (another score follows), or delete the "
    "later checkpoints as well to train them again"
)


def final_model(trainer: TranslationTrainer, output: Path, count: int) -> Any:
    """Write and load the mean of the last checkpoints, or the current model if there are none."""
    folder = output / AVERAGED
    if trainer.args.process_index == 0:
        if last := last_checkpoints(output, count):
            for path in last:
                need_whole(path, "average", _AVERAGE_WITHOUT.format(name=path.name))
            average_checkpoints(last, folder)
        else:
            with new_folder(folder) as draft:
                try:
                    trainer.accelerator.unwrap_model(trainer.model).save_pretrained(draft)
                except SafetensorError as error:  # a full disk
                    raise GammaError(f"cannot write {folder}: {one_line(error)}") from error
                write_json(draft / ORIGIN, {"checkpoints": []})
    trainer.accelerator.wait_for_everyone()
    kind = type(trainer.accelerator.unwrap_model(trainer.model, keep_torch_compile=False))
    return kind.from_pretrained(folder).to(trainer.args.device)


def translate_splits(
    trainer: TranslationTrainer, model: Any, splits: Any, search: Search, output: Path
) -> tuple[dict[str, Any], dict[str, Items]]:
    """Translate, score and write every split but the training text.

    Returns:
        ``scores`` of each split and ``decoded_sentences_per_second``; the sentences of each split.
    """
    items: dict[str, Items] = {}
    found, start = {}, time.perf_counter()
    for name, data in splits.items():
        if name == "train":
            continue
        tokens = trainer.translate(data, search, model=model)
        found[name] = score_translations(tokens, data.references, trainer.text)
        if trainer.args.process_index == 0:
            items[name] = sentence_items(tokens, data.references, trainer.text)
            write_translations(output / "translations", name, tokens, trainer.text)
    sentences = sum(len(data) for name, data in splits.items() if name != "train")
    seconds = time.perf_counter() - start
    speed = round(sentences / seconds, 1)
    return {"scores": found, "decoded_sentences_per_second": speed}, items


def score_translations(
    tokens: Sequence[str], references: References, text: TranslationText
) -> dict[str, Any]:
    """Return BLEU over tokens, and sacreBLEU and chrF of plain text with their signatures.

    Where training text was lower-cased, the scores of plain text ignore case.

    Args:
        tokens: Tokenised translations without subwords.
        references: As many references.
        text: How the target language is written.
    """
    plain = text.plain(tokens)
    intended = text.plain(references.tokens) if references.plain is None else references.plain
    over_tokens = scores.token_bleu(tokens, references.tokens)
    sacre = scores.sacre_bleu(plain, intended, lowercase=text.lowercase)
    chrf = scores.chrf(plain, intended, lowercase=text.lowercase)
    return {
        "sentences": len(tokens),
        "bleu": round(over_tokens.score, 2),
        "bleu_line": str(over_tokens),
        "sacrebleu": round(sacre.score, 2),
        "sacrebleu_signature": sacre.signature,
        "chrf": round(chrf.score, 2),
        "chrf_signature": chrf.signature,
    }


def write_translations(
    folder: Path, name: str, tokens: Sequence[str], text: TranslationText
) -> None:
    """Write ``NAME.LANGUAGE`` (plain text) and ``NAME.tok.LANGUAGE`` (tokens) into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    language = text.target_language
    write_lines(folder / f"{name}.{language}", text.plain(tokens))
    write_lines(folder / f"{name}.tok.{language}", list(tokens))
