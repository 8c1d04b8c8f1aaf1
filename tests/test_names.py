"""Names are imported on demand and name their extra; old ones say what they are called now."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from gamma_nlp import categorize, make_optimizer, param_groups
from gamma_nlp.companions.strong.regularizer import StrongRegularizer
from gamma_nlp.errors import GammaError, MissingExtra, MissingName
from gamma_nlp.names import TRAINER, lazy_names

X = torch.randn(3, 4)


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2))


def test_inputs_by_their_old_name_warn_at_the_line_of_the_caller() -> None:
    with pytest.warns(DeprecationWarning, match=r"categorize: example_inputs= is called") as seen:
        table = categorize(net(), example_inputs=X)
    assert seen[0].filename == __file__
    assert [gain.name for gain in table] == [gain.name for gain in categorize(net(), inputs=X)]


def test_every_function_that_took_example_inputs_still_does() -> None:
    decay = {"weight_decay": 0.1, "policy": "all"}
    with pytest.warns(DeprecationWarning, match="param_groups"):
        param_groups(net(), **decay, example_inputs=X)
    with pytest.warns(DeprecationWarning, match="make_optimizer"):
        made = make_optimizer(torch.optim.AdamW, net(), **decay, lr=0.1, example_inputs=X)
    assert "example_inputs" not in made.defaults
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.warns(DeprecationWarning, match="StrongRegularizer"):
        StrongRegularizer(optimizer, model=model, l1=0.1, example_inputs=X)


def test_both_names_at_once_are_one_argument_too_many() -> None:
    with pytest.raises(TypeError, match="inputs= twice: example_inputs= is its old name"):
        categorize(net(), inputs=X, example_inputs=X)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package with lazy names: one that works, one behind an extra, one that moved."""
    folder = tmp_path / "lazy_package"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "from gamma_nlp.names import Needs, lazy_names\n"
        "__getattr__, __dir__, __all__ = lazy_names(\n"
        "    __name__,\n"
        "    {'sqrt': 'math', 'dumps': 'json', 'Plot': 'lazy_package.plots'},\n"
        "    needs={'Plot': Needs('plot', ('no_such',))},\n"
        "    folders=('plots', 'inner'),\n"
        "    moved={'old': ('new_home', 'lazy_package.inner')},\n"
        ")\n"
    )
    (folder / "plots.py").write_text("import no_such\nPlot = 1")
    (folder / "inner.py").write_text("old = 5")
    monkeypatch.syspath_prepend(tmp_path)
    yield "lazy_package"
    for name in [name for name in sys.modules if name.startswith("lazy_package")]:
        del sys.modules[name]


def test_lazy_names_list_what_works(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__all__ == ["dumps", "sqrt"]
    assert {"dumps", "sqrt", "plots", "inner"} <= set(dir(module))
    assert not {"Plot", "old"} & set(dir(module))
    assert "sqrt" not in vars(module)
    assert module.sqrt(4) == 2 and "sqrt" in vars(module)
    assert module.inner.old == 5


def test_a_lazy_name_behind_an_extra_is_an_error_of_the_right_kind(package: str) -> None:
    module = importlib.import_module(package)
    assert not hasattr(module, "Plot")
    with pytest.raises(MissingName, match=r"^Plot needs no_such: pip install 'gamma_nlp\[plot"):
        module.Plot  # noqa: B018
    with pytest.raises(MissingExtra, match=r"^Plot needs no_such: pip install 'gamma_nlp\[plot"):
        exec(f"from {package} import Plot")


def test_a_module_that_names_its_extra_itself_is_taken_at_its_word(
    package: str, tmp_path: Path
) -> None:
    text = "from gamma_nlp.errors import need\nneed('no_such', 'plot', 'curves need')"
    (tmp_path / package / "plots.py").write_text(text)
    with pytest.raises(MissingName, match=r"^curves need no_such: pip install 'gamma_nlp\[plot"):
        importlib.import_module(package).Plot  # noqa: B018


def test_a_lazy_name_that_moved_warns_once_an_import(package: str) -> None:
    with pytest.warns(DeprecationWarning, match="lazy_package.old is called new_home.old") as seen:
        exec(f"from {package} import old")
    assert len(seen) == 1


def test_a_mistake_inside_the_package_is_not_taken_for_a_missing_extra() -> None:
    places = {"Plot": "gamma_nlp.no_such_module"}
    get, _, _ = lazy_names("gamma_nlp", places, needs={"Plot": TRAINER})
    with pytest.raises(ModuleNotFoundError, match="no_such_module") as stop:
        get("Plot")
    assert not isinstance(stop.value, GammaError)
