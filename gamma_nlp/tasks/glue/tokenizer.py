"""A tokenizer from a name, a folder, or the training texts, and what it makes of text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gamma_nlp.errors import GammaError, one_line, panics_are_errors
from gamma_nlp.files.read import read_lines
from gamma_nlp.tasks.glue.pretrained import locate

_SPECIAL = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
_FILES = ("tokenizer*", "vocab*", "*.model", "*.vocab", "*.tiktoken", "merges.txt", "*.bpe")
"""Names of files that tokenizers are kept in."""


def load_tokenizer(source: str) -> Any:
    """Load a fast tokenizer from a name, a folder, or a WordPiece ``vocab.txt``.

    Raises:
        GammaError: There is none, or only a slow one.
    """
    import transformers

    path = Path(source).expanduser()
    if path.is_file() or (path.is_dir() and _only_vocabulary(path)):
        vocabulary = path if path.is_file() else path / "vocab.txt"
        return _wordpiece(_entries(vocabulary), str(vocabulary))
    if not path.exists():
        locate(source)
    elif not any(child for kind in _FILES for child in path.glob(kind)):
        raise GammaError(_without_tokenizer(source))
    try:
        with panics_are_errors():
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                str(path) if path.exists() else source, trust_remote_code=False
            )
            tokenizer("one", "two")  # settings that do not fit fail at the first word
    except Exception as error:
        reason = one_line(error, file=True)
        raise GammaError(f"cannot load a tokenizer from {source!r}: {reason}") from error
    # Without files transformers makes a tokenizer of the model's kind, with special tokens alone.
    words = tokenizer.get_vocab().keys() - {*tokenizer.all_special_tokens}
    if not words:
        raise GammaError(_without_tokenizer(source))
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


def _without_tokenizer(source: str) -> str:
    return (
        f"{source!r} has no tokenizer: no tokenizer.json and no vocabulary, so every word would be "
        "unknown; give the one that the model was made with: --tokenizer NAME, a folder, or a "
        "vocab.txt"
    )


def _entries(vocabulary: Path) -> dict[str, int]:
    entries: dict[str, int] = {}
    for index, word in enumerate(read_lines(vocabulary)):
        if word in entries:
            raise GammaError(
                f"{vocabulary}:{index + 1}: {word!r} is there twice, first in line "
                f"{entries[word] + 1}; each line is the id of its own word"
            )
        entries[word] = index
    return entries


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
