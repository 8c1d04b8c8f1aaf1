"""The golden files against the small models and the source they cite; no categoriser involved."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from torch import nn

from tests.support.families import FAMILIES
from tests.support.golden_files import (
    GOLDEN,
    expected,
    golden_path,
    read_citations,
    read_golden,
    read_header,
)

each_family = pytest.mark.parametrize("key", FAMILIES)


def _norm_weights(model: nn.Module) -> set[str]:
    """Vectors called ``weight`` or ``scale`` in a module whose class is called a norm."""
    return {
        name
        for name, parameter in model.named_parameters()
        if parameter.ndim == 1
        and not name.endswith("bias")
        and "Norm" in type(model.get_submodule(name.rpartition(".")[0])).__name__
    }


def test_every_family_has_a_file_and_every_file_a_family() -> None:
    files = {path.stem for path in GOLDEN.glob("*.txt")} - {
        "audit_all",
        "coverage",
        "coverage_other",
    }
    assert files == set(FAMILIES)


@each_family
def test_header_names_the_family_and_its_class(key: str) -> None:
    header = read_header(golden_path(key))
    assert header["family"] == key
    assert header["class"] == FAMILIES[key].model


@each_family
def test_model_builds_and_runs(key: str) -> None:
    family = FAMILIES[key]
    model, inputs = family.build(), family.inputs()
    assert inputs["input_ids"].shape == (1, 8)
    with torch.no_grad():
        output = model(**inputs)
    assert torch.isfinite(output[0]).all()


@each_family
def test_the_gains_of_a_file_are_the_norm_weights_of_its_model(key: str) -> None:
    model = FAMILIES[key].build()
    assert set(expected(model, read_golden(golden_path(key)))) == _norm_weights(model)


@each_family
def test_every_row_decides_at_least_one_parameter(key: str) -> None:
    names = [name for name, _ in FAMILIES[key].build().named_parameters()]
    rows = read_golden(golden_path(key))
    deciding = {next((row for row in rows if row.matches(name)), None) for name in names}
    assert [row.where for row in rows if row not in deciding] == []


@each_family
def test_every_row_has_a_citation_right_above_it(key: str) -> None:
    path = golden_path(key)
    lines = path.read_text(encoding="utf-8").splitlines()
    for row in read_golden(path):
        number = int(row.where.rpartition(":")[2])
        start = max(i for i in range(number) if not lines[i].strip())
        assert any(".py:" in line for line in lines[start : number - 1]), row.where


@each_family
def test_citations_quote_the_source(key: str) -> None:
    path = golden_path(key)
    version = read_header(path)["transformers"]
    if transformers.__version__ != version:
        pytest.skip(f"line numbers are those of transformers {version}")
    root = Path(transformers.__file__).parent
    for citation in read_citations(path):
        folder = citation.file.removeprefix("modeling_").removesuffix(".py")
        source = root / "models" / folder / citation.file
        source = source if source.is_file() else root / citation.file
        line = source.read_text(encoding="utf-8").splitlines()[citation.line - 1]
        assert line.strip().startswith(citation.code), citation.where


@each_family
def test_an_offset_is_one_exactly_where_the_fresh_weight_is_zero(key: str) -> None:
    model = FAMILIES[key].build()
    weights = dict(model.named_parameters())
    for name, (_, _, offset) in expected(model, read_golden(golden_path(key))).items():
        assert torch.equal(weights[name] + offset, torch.ones_like(weights[name])), name


@each_family
def test_kinds_fit_the_classes(key: str) -> None:
    model = FAMILIES[key].build()
    for name, (_, kind, _) in expected(model, read_golden(golden_path(key))).items():
        owner = name.rpartition(".")[0]
        if owner.endswith(("q_norm", "k_norm")):
            assert kind == "qk_norm", name
        else:
            centred = isinstance(model.get_submodule(owner), nn.LayerNorm)
            assert kind == ("layer_norm" if centred else "rms_norm"), name


def test_a_star_stands_for_one_component_and_the_first_row_wins(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("a.1.weight head layer_norm 0\na.*.weight shortcut layer_norm 0  # last\n")
    rows = read_golden(path)
    assert [row.matches("a.b.1.weight") for row in rows] == [False, False]
    model = nn.ModuleDict({"a": nn.Sequential(nn.LayerNorm(2), nn.LayerNorm(2))})
    assert expected(model, rows) == {
        "a.0.weight": ("shortcut", "layer_norm", 0),
        "a.1.weight": ("head", "layer_norm", 0),
    }


@pytest.mark.parametrize("line", ["a.weight head layer_norm", "a.weight tail layer_norm 0"])
def test_a_bad_row_is_an_error_with_file_and_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "x.txt"
    path.write_text(f"# comment\n{line}\n")
    with pytest.raises(ValueError, match=r"x\.txt:2"):
        read_golden(path)
