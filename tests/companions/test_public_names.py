"""The companions' names: lazy, complete with torch alone, and old keywords still work."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

import gamma_nlp.companions
from gamma_nlp.companions import (
    EffectiveRateCallback,
    StrongRegularizer,
    UnitNorm,
    load_compressed,
    save_compressed,
)
from gamma_nlp.errors import GammaError
from tests.support.paths import ROOT

NAMES = [
    "scale_invariant", "effective_lr", "UnitNorm", "EffectiveRateCallback", "StrongRegularizer",
    "StrongCallback", "sparsity_report", "save_compressed", "load_compressed", "bn_penalty",
    "multipliers",
]  # fmt: skip
CALLBACKS = {"EffectiveRateCallback", "StrongCallback"}

# The package's own __init__ imports torch and much else; here only the companions count.
ALONE = f"""
import sys, types
package = types.ModuleType("gamma_nlp")
package.__path__ = [{str(ROOT / "gamma_nlp")!r}]
sys.modules["gamma_nlp"] = package
"""
WITHOUT_TRANSFORMERS = """
import sys
sys.modules["transformers"] = None
"""


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_name_is_there_and_is_listed() -> None:
    assert sorted(gamma_nlp.companions.__all__) == sorted(NAMES)
    for name in NAMES:
        value = getattr(gamma_nlp.companions, name)
        assert value.__name__ == name and name in dir(gamma_nlp.companions)
    with pytest.raises(AttributeError, match="no attribute 'UnitNrom'"):
        gamma_nlp.companions.UnitNrom  # noqa: B018


def test_importing_the_companions_imports_none_of_them() -> None:
    code = """
import gamma_nlp.companions
own = [name for name in sys.modules if name.startswith("gamma_nlp.companions.")]
print(*own, "torch" in sys.modules)
"""
    assert python(ALONE + code).split() == ["False"]


def test_torch_alone_is_enough_to_look_around() -> None:
    code = """
import inspect, pydoc, rlcompleter
import gamma_nlp.companions
inspect.getmembers(gamma_nlp.companions)
pydoc.render_doc(gamma_nlp.companions)
completer = rlcompleter.Completer({"companions": gamma_nlp.companions})
assert completer.complete("companions.Unit", 0) == "companions.UnitNorm("
own = {}
exec("from gamma_nlp.companions import *", own)
print(*sorted(name for name in own if not name.startswith("_")))
assert set(dir(gamma_nlp.companions)) >= set(gamma_nlp.companions.__all__)
assert not {"StrongCallback", "EffectiveRateCallback"} & set(dir(gamma_nlp.companions))
"""
    printed = python(WITHOUT_TRANSFORMERS + ALONE + code).split()
    assert printed == sorted(set(NAMES) - CALLBACKS)


@pytest.mark.parametrize("name", sorted(CALLBACKS))
def test_a_callback_without_transformers_names_the_extra(name: str) -> None:
    code = f"""
from gamma_nlp.errors import GammaError
try:
    from gamma_nlp.companions import {name}
except ImportError as error:
    assert isinstance(error, GammaError)
    print(error)
"""
    output = python(WITHOUT_TRANSFORMERS + code)
    assert output == f"{name} needs transformers: pip install 'gamma_nlp[hf]'\n"


def test_compressed_files_without_safetensors_name_the_extra(
    monkeypatch: Any, tmp_path: Any
) -> None:
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.delitem(sys.modules, "safetensors.torch", raising=False)
    for call in (
        lambda: save_compressed(nn.Linear(2, 2), tmp_path / "model.safetensors"),
        lambda: load_compressed(tmp_path / "model.safetensors", nn.Linear(2, 2)),
    ):
        with pytest.raises(GammaError, match=r"compressed files need .*'gamma_nlp\[hf\]'"):
            call()


def test_old_keywords_for_names_work_and_say_the_new_one() -> None:
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.named_parameters(), lr=0.1)
    with pytest.warns(DeprecationWarning, match="UnitNorm: params= is called names= now"):
        held: Any = UnitNorm(optimizer, params=["weight"], force=True)
    assert list(held.norms) == ["weight"]
    with pytest.warns(DeprecationWarning, match="StrongRegularizer: params= is called names="):
        strong: Any = StrongRegularizer(optimizer, params=["weight"], l1=0.1)
    assert [row.name for row in strong.report().rows] == ["weight"]
    with pytest.warns(DeprecationWarning, match="EffectiveRateCallback: tensors= is called names"):
        callback: Any = EffectiveRateCallback(tensors=["weight"])
    assert callback.names == ["weight"]
