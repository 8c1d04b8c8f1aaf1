"""What fairseq needs to run under today's Python, torch and sacrebleu, and nothing else.

Each shim names the error it answers. It first looks whether that error can occur, and leaves
everything as it is where it cannot: under an older Python, or with a fairseq that mended it.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import importlib
import importlib.metadata
import importlib.util
import inspect
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import nn

from gamma_nlp.errors import GammaError

logger = logging.getLogger("gamma_nlp")

TRIED = ("0.12.2",)
"""Releases of fairseq that were tried."""

INSTALL = "bash scripts/install_fairseq, or pip install 'gamma_nlp[fairseq]' and then pip install "
INSTALL += f"--no-deps fairseq=={TRIED[-1]}"
"""What to type where fairseq is missing."""


@dataclass(frozen=True, kw_only=True)
class Shim:
    """One repair: what happens without it, for which release, and what puts it in place."""

    answers: str
    release: str
    put: Callable[[], None]


def apply(entry: str = "fairseq") -> ModuleType:
    """Put the shims in place and import a module of fairseq; a second call only imports.

    Args:
        entry: The module to import first. A command sets up the log before it imports the rest,
            so it must come first.

    Raises:
        GammaError: fairseq, or something that it needs, is not installed.
    """
    check_installed()
    _put(BEFORE)
    try:
        module = importlib.import_module(entry)
    except ModuleNotFoundError as error:
        raise GammaError(f"fairseq needs {error.name}, which is missing: {INSTALL}") from error
    _put(AFTER)
    return module


@functools.cache
def check_installed() -> str:
    """Return the release of fairseq; warn of one that was not tried.

    Raises:
        GammaError: fairseq is not installed.
    """
    if importlib.util.find_spec("fairseq") is None:
        raise GammaError(f"fairseq is not installed: {INSTALL}")
    try:
        found = importlib.metadata.version("fairseq")
    except importlib.metadata.PackageNotFoundError:
        found = "unknown"  # a checkout on the path
    if found not in TRIED:
        logger.warning(
            "fairseq %s was not tried with gamma_nlp, only %s; to be on the safe side: pip "
            "install --no-deps fairseq==%s", found, ", ".join(TRIED), TRIED[-1],
        )  # fmt: skip
    return found


_DONE: set[str] = set()


def _put(shims: Sequence[Shim]) -> None:
    for shim in shims:
        if shim.answers not in _DONE:
            shim.put()
            _DONE.add(shim.answers)


def _let_dataclasses_default_to_dataclasses() -> None:
    python: tuple[int, ...] = sys.version_info[:2]
    if python < (3, 11):
        return
    stock = dataclasses.dataclass

    @functools.wraps(stock)
    def dataclass(cls: type | None = None, /, **options: Any) -> Any:
        def make(cls: type) -> type:
            if _is_fairseqs(cls):
                for default in _defaults(cls):
                    _pass_as_hashable(type(default))
            return stock(cls, **options)

        return make if cls is None else make(cls)

    dataclasses.dataclass = dataclass


def _is_fairseqs(cls: type) -> bool:
    """Whether a class is one of fairseq, or of a plugin that derives its settings from it."""
    homes = {base.__module__.partition(".")[0] for base in cls.__mro__}
    return bool(homes & {"fairseq", "fairseq_cli", "hydra"})


def _defaults(cls: type) -> list[Any]:
    found = [vars(cls).get(name) for name in inspect.get_annotations(cls)]
    return [one.default if isinstance(one, dataclasses.Field) else one for one in found]


def _pass_as_hashable(cls: Any) -> None:
    # Python takes "has no hash" for "is mutable". Hashing stays the error that it was.
    known = bool(dataclasses.is_dataclass(cls))
    if known and cls.__hash__ is None:
        cls.__hash__ = _no_hash


def _no_hash(self: Any) -> int:
    raise TypeError(f"unhashable type: {type(self).__name__!r}")


def _let_torch_load_checkpoints() -> None:
    import _codecs

    import numpy as np

    core = importlib.import_module("numpy._core" if hasattr(np, "_core") else "numpy.core")
    kinds = [type(np.dtype(kind)) for kind in ("float32", "float64", "int32", "int64", "bool")]
    arrays = [np.dtype, np.ndarray, core.multiarray.scalar, core.multiarray._reconstruct, *kinds]
    torch.serialization.add_safe_globals([argparse.Namespace, _codecs.encode, *arrays])


def _leave_out_unused_encoder_parameters() -> None:
    from fairseq.modules.transformer_layer import TransformerEncoderLayerBase as Layer

    if "_load_from_state_dict" not in vars(Layer):
        return
    stock = Layer.__init__
    extra = [f"{a}_{b}" for a in ("in_proj", "out_proj", "fc1", "fc2") for b in ("weight", "bias")]

    @functools.wraps(stock)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        stock(self, *args, **kwargs)
        self.can_use_fastpath = False
        for name in extra:
            self._parameters.pop(name, None)

    def load(self: Any, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name in extra:  # a checkpoint of plain fairseq has them
            state_dict.pop(prefix + name, None)
        nn.Module._load_from_state_dict(self, state_dict, prefix, *rest)

    Layer.__init__ = init
    Layer._load_from_state_dict = load


def _let_sacrebleu_read_files() -> None:
    try:
        import sacrebleu
    except ImportError:
        return
    if int(sacrebleu.__version__.partition(".")[0]) < 2:
        return
    stock = sacrebleu.corpus_bleu

    @functools.wraps(stock)
    def corpus_bleu(hypotheses: Any, references: Any, *args: Any, **kwargs: Any) -> Any:
        return stock(_lines(hypotheses), [_lines(one) for one in references], *args, **kwargs)

    sacrebleu.corpus_bleu = corpus_bleu


def _lines(text: Any) -> Any:
    return [line.rstrip("\n") for line in text] if hasattr(text, "readline") else text


BEFORE = (
    Shim(
        answers="ValueError: mutable default <class 'fairseq.dataclass.configs.CommonConfig'> for "
        "field common is not allowed: use default_factory",
        release="0.12.2 under Python 3.11 and newer",
        put=_let_dataclasses_default_to_dataclasses,
    ),
    Shim(
        answers="_pickle.UnpicklingError: Weights only load failed (argparse.Namespace and "
        "numpy's scalars and arrays in a checkpoint)",
        release="0.12.2 under torch 2.6 and newer",
        put=_let_torch_load_checkpoints,
    ),
)
"""Shims that must be there before fairseq is imported."""

AFTER = (
    Shim(
        answers="AssertionError: Mask Type should be defined (the inference shortcut of encoder "
        "layers, for which they hold eight parameters that training never uses)",
        release="0.12.2 under torch 2 and newer",
        put=_leave_out_unused_encoder_parameters,
    ),
    Shim(
        answers="TypeError: hyps should be a sequence of strings (fairseq-score --sacrebleu)",
        release="0.12.2 with sacrebleu 2",
        put=_let_sacrebleu_read_files,
    ),
)
"""Shims that change fairseq's own modules."""
