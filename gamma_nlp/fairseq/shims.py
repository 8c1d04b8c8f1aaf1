"""The few repairs that fairseq needs to run on current Python, torch and sacrebleu.

Each shim names the error it prevents. Where that error cannot occur (an older Python, a fairseq
that fixed it), the shim changes nothing.
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

TESTED = ("0.12.2",)
"""Releases of fairseq that were tested."""

INSTALL = "bash scripts/install_fairseq, or pip install 'gamma_nlp[fairseq]' and then pip install "
INSTALL += f"--no-deps fairseq=={TESTED[-1]}"
"""What to type if fairseq is missing."""


@dataclass(frozen=True, kw_only=True)
class Shim:
    """One repair: the error it prevents, the releases that need it, and what puts it in place.

    ``again`` where others undo it: torch takes a name that may be loaded away after any ``with
    safe_globals`` that has it, as when transformers resumes a run.
    """

    prevents: str
    release: str
    put: Callable[[], None]
    again: bool = False


def apply(entry: str = "fairseq") -> ModuleType:
    """Put the shims in place, where they are not yet, and import a module of fairseq.

    Args:
        entry: The module of fairseq to import first. For a command, its own: it sets up logging
            before it imports the rest.

    Raises:
        GammaError: fairseq, or a package that it needs, is not installed.
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
    """Return the installed release of fairseq; warn if it was not tested.

    Raises:
        GammaError: fairseq is not installed.
    """
    if importlib.util.find_spec("fairseq") is None:
        raise GammaError(f"fairseq is not installed: {INSTALL}")
    try:
        found = importlib.metadata.version("fairseq")
    except importlib.metadata.PackageNotFoundError:
        found = "unknown"  # a checkout on the path
    if found not in TESTED:
        logger.warning(
            "fairseq %s was not tested with gamma_nlp, only %s was; if it fails: pip install "
            "--no-deps fairseq==%s", found, ", ".join(TESTED), TESTED[-1],
        )  # fmt: skip
    return found


_DONE: set[str] = set()


def _put(shims: Sequence[Shim]) -> None:
    for shim in shims:
        if shim.again or shim.prevents not in _DONE:
            shim.put()
            _DONE.add(shim.prevents)


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
    """Return whether a class is fairseq's, or a plugin's that derives from one of fairseq's."""
    homes = {base.__module__.partition(".")[0] for base in cls.__mro__}
    return bool(homes & {"fairseq", "fairseq_cli", "hydra"})


def _defaults(cls: type) -> list[Any]:
    found = [vars(cls).get(name) for name in inspect.get_annotations(cls)]
    return [one.default if isinstance(one, dataclasses.Field) else one for one in found]


def _pass_as_hashable(cls: Any) -> None:
    # Python rejects a default as mutable if its class has no hash. Give it one that raises, so
    # that hashing an instance is still an error.
    known = bool(dataclasses.is_dataclass(cls))  # a plain condition hides the rest from mypy
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
        for name in extra:  # a checkpoint of unpatched fairseq has them
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
        prevents="ValueError: mutable default <class 'fairseq.dataclass.configs.CommonConfig'> for "
        "field common is not allowed: use default_factory",
        release="0.12.2 under Python 3.11 and newer",
        put=_let_dataclasses_default_to_dataclasses,
    ),
    Shim(
        prevents="_pickle.UnpicklingError: Weights only load failed (argparse.Namespace and "
        "numpy's scalars and arrays in a checkpoint)",
        release="0.12.2 under torch 2.6 and newer",
        put=_let_torch_load_checkpoints,
        again=True,
    ),
)
"""Shims to put in place before fairseq is imported."""

AFTER = (
    Shim(
        prevents="AssertionError: Mask Type should be defined (the inference shortcut of encoder "
        "layers, for which they hold eight parameters that training never uses)",
        release="0.12.2 under torch 2 and newer",
        put=_leave_out_unused_encoder_parameters,
    ),
    Shim(
        prevents="TypeError: hyps should be a sequence of strings (fairseq-score --sacrebleu)",
        release="0.12.2 with sacrebleu 2",
        put=_let_sacrebleu_read_files,
    ),
)
"""Shims that change fairseq's modules, once imported."""
