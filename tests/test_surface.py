"""The public names: which there are, that they are lazy, and that whatever lists them works."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import pydoc
import rlcompleter
import subprocess
import sys
from pathlib import Path

import pytest

import gamma_nlp
from gamma_nlp.errors import GammaError, MissingExtra, MissingName
from gamma_nlp.names import MOVED

CORE = [
    *("Category", "Role", "Gain", "GainTable", "DecayPolicy", "GammaError", "categorize"),
    *("param_groups", "make_optimizer", "decay_dose", "gains_to_fp32"),
    *("probe", "ProbeReport", "audit"),
]
TRAINERS = ["GammaTrainer", "GammaSeq2SeqTrainer", "GammaTrainerMixin"]
NAMES = [*CORE, *TRAINERS]

WITHOUT_HF = """
import sys
for name in ("transformers", "accelerate", "datasets", "evaluate", "matplotlib", "yaml"):
    sys.modules[name] = None
import gamma_nlp
"""


def python(code: str, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", *options, "-c", code],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_top_has_seventeen_names() -> None:
    assert len(NAMES) == 17
    assert sorted(gamma_nlp.__all__) == sorted(NAMES)
    for name in NAMES:
        assert getattr(gamma_nlp, name).__doc__, name


def test_type_checkers_see_the_same_names_at_the_same_places() -> None:
    tree = ast.parse(Path(gamma_nlp.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    assert ast.unparse(block.test) == "TYPE_CHECKING"
    seen = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            assert alias.asname == alias.name  # which hands the name on
            seen[alias.name] = node.module
    assert seen == gamma_nlp._PLACES
    assert sorted(seen) == sorted(NAMES)


def test_importing_the_package_imports_no_torch() -> None:
    loaded = python("import sys, gamma_nlp; print(*sys.modules)").split()
    assert not {"torch", "numpy", "transformers"} & set(loaded)
    assert sum(name.startswith("gamma_nlp.") for name in loaded) == 2  # errors, deprecated


def test_categorize_imports_neither_companions_nor_transformers() -> None:
    loaded = python("import sys, gamma_nlp; gamma_nlp.categorize; print(*sys.modules)").split()
    assert "torch" in loaded
    assert not [name for name in loaded if name.startswith("gamma_nlp.companions")]
    assert not {"transformers", "accelerate"} & set(loaded)


def test_a_name_is_the_definition_and_stays_it() -> None:
    from gamma_nlp.gains.placement import categorize

    assert gamma_nlp.categorize is categorize
    assert vars(gamma_nlp)["categorize"] is categorize


LISTINGS = """
import inspect, pydoc, re, rlcompleter
print(*dir(gamma_nlp))
print(*re.findall("[A-Za-z0-9_]+", pydoc.plain(pydoc.render_doc(gamma_nlp))))
print(*(name for name, _ in inspect.getmembers(gamma_nlp)))
complete = rlcompleter.Completer({"gamma_nlp": gamma_nlp}).complete
found = iter(lambda number=iter(range(99)): complete("gamma_nlp.", next(number)), None)
print(*(name.removeprefix("gamma_nlp.").rstrip("()") for name in found))
namespace = {}
exec("from gamma_nlp import *", namespace)
print(*namespace)
"""


def test_names_can_be_listed_with_torch_alone() -> None:
    listings = [line.split() for line in python(WITHOUT_HF + LISTINGS).splitlines()]
    by_dir, by_help, by_members, by_tab, by_star = map(set, listings)
    for listed in (by_dir, by_help, by_members, by_tab, by_star):
        assert set(CORE) <= listed
    for listed in (by_dir, by_members, by_tab, by_star):  # the text of help names the trainers
        assert not {*TRAINERS, *MOVED} & listed
    assert by_star - {"__builtins__"} == set(CORE)


def test_names_can_be_listed_with_all_extras(recwarn: pytest.WarningsRecorder) -> None:
    assert {*NAMES, "__version__", "companions", "hf"} <= set(dir(gamma_nlp))
    assert not set(MOVED) & set(dir(gamma_nlp))
    assert set(NAMES) <= {name for name, _ in inspect.getmembers(gamma_nlp)}
    assert "GammaTrainer" in pydoc.plain(pydoc.render_doc(gamma_nlp))
    completer = rlcompleter.Completer({"gamma_nlp": gamma_nlp})
    assert completer.complete("gamma_nlp.GammaSeq", 0) == "gamma_nlp.GammaSeq2SeqTrainer("
    namespace: dict[str, object] = {}
    exec("from gamma_nlp import *", namespace)
    assert sorted(namespace.keys() - {"__builtins__"}) == sorted(NAMES)
    assert not [warning for warning in recwarn if "gamma_nlp" in str(warning.message)]


def test_a_name_without_its_extra_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.startswith("gamma_nlp.hf.trainer")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.delitem(vars(gamma_nlp), "GammaTrainer", raising=False)
    monkeypatch.setitem(sys.modules, "transformers", None)
    text = r"^GammaTrainer needs transformers: pip install 'gamma_nlp\[hf\]'$"
    with pytest.raises(MissingExtra, match=text) as stop:
        from gamma_nlp import GammaTrainer  # noqa: F401
    assert isinstance(stop.value, ImportError) and isinstance(stop.value, GammaError)
    with pytest.raises(MissingName, match=text) as absent:
        gamma_nlp.GammaTrainer  # noqa: B018
    assert isinstance(absent.value, AttributeError) and isinstance(absent.value, GammaError)
    assert not hasattr(gamma_nlp, "GammaTrainer")


def test_an_old_name_without_its_extra_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "gamma_nlp.companions.strong.callback", raising=False)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingName, match=r"StrongCallback needs transformers: pip install"):
        gamma_nlp.StrongCallback  # noqa: B018


def test_a_misspelt_name_is_an_attribute_error_with_a_proposal() -> None:
    with pytest.raises(AttributeError, match="no attribute 'GamaTrainer'; did you mean 'GammaTr"):
        gamma_nlp.GamaTrainer  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'categorise'"):
        from gamma_nlp import categorise  # noqa: F401
    assert not hasattr(gamma_nlp, "__wrapped__")


def test_companions_and_hf_are_reached_without_an_import_of_their_own() -> None:
    python("import gamma_nlp; gamma_nlp.companions; gamma_nlp.hf")


def test_fifteen_old_names_are_known() -> None:
    assert len(MOVED) == 15
    assert not set(MOVED) & set(NAMES)


@pytest.mark.parametrize("name", MOVED)
def test_an_old_name_works_and_says_where_it_is_now(name: str) -> None:
    home, module = MOVED[name]
    text = f"^gamma_nlp.{name} is called {home}.{name} now$"
    with pytest.warns(DeprecationWarning, match=text) as by_attribute:
        found = getattr(gamma_nlp, name)
    assert found is getattr(importlib.import_module(module), name)
    with pytest.warns(DeprecationWarning, match=text) as by_import:
        exec(compile(f"from gamma_nlp import {name}", "user.py", "exec"), {})
    assert [w.filename for w in by_attribute] == [__file__]
    assert [w.filename for w in by_import] == ["user.py"]


def test_no_module_is_hidden_by_something_else_of_its_name() -> None:
    packages, modules = [gamma_nlp], 0
    for package in packages:
        for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            name = info.name.rpartition(".")[2]
            modules += 1
            assert name not in getattr(package, "__all__", ()), info.name
            found = getattr(package, name, None)
            assert found is None or found is sys.modules.get(info.name), info.name
            if info.ispkg:
                packages.append(importlib.import_module(info.name))
                assert getattr(package, name) is packages[-1], info.name
    assert len(packages) > 15 and modules > 100
