"""Tokenizer and classifier, from a name, a folder, or a config and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gamma_nlp.decay.groups import decays_for
from gamma_nlp.decay.policy import DecayPolicy
from gamma_nlp.errors import GammaError, one_line
from gamma_nlp.files import read_lines
from gamma_nlp.gains.placement import categorize
from gamma_nlp.hf import hub
from gamma_nlp.tasks.glue.labels import class_order, reorder_classes
from gamma_nlp.tasks.glue.pretrained import check_architecture, check_weights, has_new_head
from gamma_nlp.tasks.glue.tasks import GlueTask
from gamma_nlp.tasks.run.finite import check_finite
from gamma_nlp.tasks.run.model_config import build_config, build_model
from gamma_nlp.tasks.run.vocabulary import check_vocabulary

_SPECIAL = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}


def locate(source: str) -> str:
    """Return where to load a model from, within seconds; the hub's client alone can take minutes.

    That is the folder itself, or the cached copy of a model on the hub, which needs no network.

    Raises:
        GammaError: There is no such model; the message says what was tried.
    """
    path = Path(source).expanduser()
    if not source.strip():
        raise GammaError("model is empty; give a hub name or a folder")
    if path.is_file():
        raise GammaError(f"model {source!r} is a file; give the folder that save_pretrained wrote")
    folder = hub.find_config(source).parent
    weights = any(folder.glob("*.safetensors")) or any(folder.glob("pytorch_model*.bin"))
    return str(folder) if path.exists() or weights else source


def load_tokenizer(source: str) -> Any:
    """Load a fast tokenizer from a name, a folder, or a WordPiece ``vocab.txt``.

    Raises:
        GammaError: There is none, or only a slow one.
    """
    import transformers

    path = Path(source).expanduser()
    if path.is_file() or (path.is_dir() and _only_vocabulary(path)):
        vocabulary = path if path.is_file() else path / "vocab.txt"
        words = read_lines(vocabulary)
        return _wordpiece({word: index for index, word in enumerate(words)}, str(vocabulary))
    if not path.exists():
        locate(source)
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            str(path) if path.exists() else source
        )
    except Exception as error:
        reason = one_line(error, file=True)
        raise GammaError(f"cannot load a tokenizer from {source!r}: {reason}") from error
    # Without files transformers makes a tokenizer of the model's kind, with special tokens alone.
    words = tokenizer.get_vocab().keys() - {*tokenizer.all_special_tokens}
    if not words:
        raise GammaError(
            f"{source!r} has no tokenizer: no tokenizer.json and no vocabulary, so every word "
            "would be unknown; give the one that the model was made with: --tokenizer NAME, "
            "a folder, or a vocab.txt"
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token is None:
        raise GammaError(f"the tokenizer of {source!r} has neither a padding nor an end token")
    return tokenizer


def check_own_tokenizer(source: str, tokenizer: Any, model: str) -> None:
    """Refuse a tokenizer that gives other ids than the one that comes with a pretrained model.

    Args:
        source: Where the tokenizer is from.
        tokenizer: The tokenizer.
        model: The pretrained model, which need not bring one.

    Raises:
        GammaError: It would read other words than the model was trained on.
    """
    try:
        own = load_tokenizer(model)
    except GammaError:  # it brings none
        return
    if own.get_vocab() != tokenizer.get_vocab():
        raise GammaError(
            f"the tokenizer of {source!r} gives other ids than the one that comes with {model!r}, "
            "so the model would read other words than it was trained on; leave tokenizer out"
        )


def _only_vocabulary(folder: Path) -> bool:
    return (folder / "vocab.txt").is_file() and not any(
        (folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json")
    )


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Any:
    """Make a lower-casing WordPiece tokenizer from the texts' letters and most frequent words.

    The trainers of the tokenizers package break ties at random, so the same run would get another
    vocabulary each time; this one depends on the texts alone.

    Raises:
        GammaError: The vocabulary is too small for the characters of the texts.
    """
    import tokenizers

    normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    splitter = tokenizers.pre_tokenizers.BertPreTokenizer()
    counts = Counter(
        word
        for text, times in Counter(texts).items()
        for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))
        for _ in range(times)
    )
    letters = sorted({letter for word in counts for letter in word})
    entries = dict.fromkeys([*_SPECIAL.values(), *letters, *(f"##{x}" for x in letters)])
    if len(entries) > vocab_size:
        raise GammaError(f"vocab_size {vocab_size} is below the {len(entries)} entries for letters")
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    for word in ranked:
        if len(entries) == vocab_size:
            break
        entries.setdefault(word)
    return _wordpiece({entry: i for i, entry in enumerate(entries)}, "the training texts")


def _wordpiece(vocabulary: Mapping[str, int], origin: str) -> Any:
    import tokenizers
    import transformers

    missing = [token for token in _SPECIAL.values() if token not in vocabulary]
    if missing:
        raise GammaError(f"the vocabulary from {origin} lacks {', '.join(missing)}")
    model = tokenizers.Tokenizer(
        tokenizers.models.WordPiece(vocab=dict(vocabulary), unk_token="[UNK]")
    )
    model.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    model.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    model.decoder = tokenizers.decoders.WordPiece()
    cls, sep = vocabulary["[CLS]"], vocabulary["[SEP]"]
    model.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", cls), ("[SEP]", sep)],
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=model,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **_SPECIAL,
    )


def encode(tokenizer: Any, texts: Sequence[Sequence[str]], max_length: int) -> dict[str, Any]:
    """Return token ids of every example, unpadded; for pairs also which text each token is from."""
    batch = tokenizer(
        *[list(column) for column in texts],
        truncation=True,
        max_length=max_length,
        return_attention_mask=False,
        return_token_type_ids=len(texts) > 1 and "token_type_ids" in tokenizer.model_input_names,
    )
    return {name: batch[name] for name in ("input_ids", "token_type_ids") if name in batch}


def load_classifier(source: str, task: GlueTask, tokenizer: Any) -> Any:
    """Load a pretrained model with a classification head for the task, in fp32.

    A head that comes with the model is put in the order of the task's labels, by their names.

    Raises:
        GammaError: It does not exist, cannot have such a head or has that of another task, its
            weights are not numbers or do not fit, or the tokenizer is not its own.
    """
    import transformers

    where = locate(source)
    name = f"model {source!r}"
    try:
        config = transformers.AutoConfig.from_pretrained(where)
        check_architecture(config, name)
        model, found = transformers.AutoModelForSequenceClassification.from_pretrained(
            where,
            dtype="float32",
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # refused below, by name
            **_head(task),
        )
    except GammaError:
        raise
    except Exception as error:
        reason = one_line(error, file=True)
        raise GammaError(f"cannot load {source!r} as a classifier: {reason}") from error
    check_weights(model, found, config, name, task)
    if not task.regression and not has_new_head(model, found, task):
        order = class_order(config.id2label, task, name)
        if order is not None:
            reorder_classes(model, order, name)
    check_finite(model, name)
    check_vocabulary(tokenizer.get_vocab().values(), model, f"{source!r}", "the model")
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id
    return model


def check_decays(source: str, task: GlueTask, policy: DecayPolicy) -> None:
    """Refuse a policy that decays a gain of a model by 0, before its weights are loaded.

    Raises:
        GammaError: It would.
    """
    import torch
    import transformers

    where = locate(source)
    try:
        config = transformers.AutoConfig.from_pretrained(where, **_head(task))
        with torch.device("meta"):
            model = transformers.AutoModelForSequenceClassification.from_config(config)
    except Exception:  # loading it will say what is wrong
        return
    decays_for(model, weight_decay=0.0, policy=policy, table=categorize(model))


def build_classifier(settings: Mapping[str, Any], task: GlueTask, tokenizer: Any) -> Any:
    """Build a randomly initialised model from config fields; ``model_type`` is the architecture.

    Raises:
        GammaError: There is no such architecture, or the fields do not fit it.
    """
    import transformers

    if isinstance(settings.get("vocab_size"), int) and settings["vocab_size"] < len(tokenizer):
        raise GammaError(
            f"model_config: vocab_size {settings['vocab_size']} is below the tokenizer's "
            f"{len(tokenizer)}; leave it out to take the tokenizer's"
        )
    defaults = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.cls_token_id,
        "cls_token_id": tokenizer.cls_token_id,
        "eos_token_id": tokenizer.sep_token_id,
        "sep_token_id": tokenizer.sep_token_id,
    }
    config = build_config(
        settings,
        fixed={"num_labels": task.num_labels, **_head(task)},
        defaults=defaults,
        why="the task",
        example="bert",
    )
    if getattr(config, "is_encoder_decoder", False):
        raise GammaError(
            f"model_config: {config.model_type} is an encoder-decoder, which classifies at an end "
            "token that this vocabulary does not have; take bert or modernbert"
        )
    model = build_model(
        transformers.AutoModelForSequenceClassification,
        config,
        what="classifier of text",
        instead="bert (post-norm) or modernbert (pre-norm)",
    )
    check_finite(model, "the model that model_config makes")
    check_vocabulary(tokenizer.get_vocab().values(), model, "this run", "model_config")
    return model


def _head(task: GlueTask) -> dict[str, Any]:
    if task.regression:
        return {"num_labels": 1, "problem_type": "regression"}
    return {
        "id2label": dict(enumerate(task.labels)),
        "label2id": {label: i for i, label in enumerate(task.labels)},
        "problem_type": "single_label_classification",
    }
