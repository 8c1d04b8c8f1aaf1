"""What every message is made with."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gamma_nlp.errors import (
    GammaError,
    MissingExtra,
    MissingName,
    close_to,
    is_installed,
    lazy_names,
    listed,
    need,
    need_installed,
    one_line,
)


def test_an_exception_becomes_one_line_that_is_never_empty() -> None:
    assert one_line(ValueError("two\n  lines")) == "two lines"
    assert one_line(ValueError("x" * 500), most=20) == "x" * 20
    assert one_line(KeyError()) == "KeyError"
    assert one_line(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "f")) == (
        "No space left on device"
    )


def test_names_are_cut_after_the_fourth() -> None:
    assert listed("ab") == "'a', 'b'"
    assert listed("abcdef") == "'a', 'b', 'c', 'd' and 2 more"


def test_close_names_are_asked_for() -> None:
    assert close_to("guideline", ["guidelines", "none"]) == "; did you mean 'guidelines'?"
    assert close_to("h.0.ln", ["h.0.ln_1", "h.1.ln_1"], most=2) == (
        "; did you mean 'h.0.ln_1' or 'h.1.ln_1'?"
    )
    assert close_to("xyz", ["guidelines"]) == ""


def test_a_missing_package_names_its_extra() -> None:
    with pytest.raises(GammaError, match=r"^scores need no_such: pip install 'gamma_nlp\[hf\]'"):
        need("no_such.part", "hf", "scores need")


def test_a_package_that_does_not_import_is_told_from_one_that_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half_there.py").write_text("import no_such_part")
    (tmp_path / "broken.py").write_text("raise ImportError('no\\nlibfoo.so')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(GammaError, match="plots need no_such_part: pip install"):
        need("half_there", "plot", "plots need")
    with pytest.raises(GammaError, match=r"need broken, which cannot be imported \(no libfoo.so"):
        need("broken", "plot", "plots need")
    assert need("json", "plot", "plots need") is sys.modules["json"]


def test_packages_are_looked_for_without_importing_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_but_there.py").write_text("raise SystemExit")
    monkeypatch.syspath_prepend(tmp_path)
    assert is_installed("broken_but_there") and not is_installed("no_such")
    need_installed(["json", "broken_but_there"], "hf", "it needs")
    with pytest.raises(MissingExtra, match=r"^it needs no_such: pip install 'gamma_nlp\[hf\]'$"):
        need_installed(["json", "no_such", "nor_this"], "hf", "it needs")


def test_a_missing_extra_is_an_import_error_too() -> None:
    with pytest.raises(ImportError, match=r"scores need no_such: pip install"):
        need("no_such", "translation", "scores need")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package with lazy names: one that works, one behind an extra, one that moved."""
    folder = tmp_path / "lazy_package"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "from gamma_nlp.errors import lazy_names\n"
        "__getattr__, __dir__, __all__ = lazy_names(\n"
        "    __name__,\n"
        "    {'sqrt': 'math', 'dumps': 'json', 'Plot': 'lazy_package.plots'},\n"
        "    extras={'Plot': 'plot'},\n"
        "    folders=('plots', 'inner'),\n"
        "    moved={'old': ('new_home', 'lazy_package.inner')},\n"
        ")\n"
    )
    (folder / "plots.py").write_text("import no_such\nPlot = 1")
    (folder / "inner.py").write_text("old = 5")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("gamma_nlp.errors._NEEDED", {"plot": ("no_such",)})
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
    get, _, _ = lazy_names("gamma_nlp", places, extras={"Plot": "hf"})
    with pytest.raises(ModuleNotFoundError, match="no_such_module") as stop:
        get("Plot")
    assert not isinstance(stop.value, GammaError)


def test_a_hidden_package_counts_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match=r"this needs matplotlib: pip install 'gamma_nlp\[x\]'"):
        need_installed(("json", "matplotlib", "nothing_at_all"), "x", "this needs")
