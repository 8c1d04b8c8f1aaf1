from __future__ import annotations

import json

import pytest

from gamma_nlp.gains.category import Category, Role
from gamma_nlp.gains.table import Action, Gain, GainTable, dose_text, gain_table, gain_table_json


def gain(name: str, category: Category | None, reason: str = "why", **changes: object) -> Gain:
    fields: dict[str, object] = {
        "name": name,
        "category": category,
        "kind": "layer_norm",
        "offset": 0.0,
        "source": "table",
        "reason": reason,
        "dtype": "float32",
        "numel": 8,
    }
    return Gain(**{**fields, **changes})  # type: ignore[arg-type]


def toy() -> GainTable:
    layers = [
        gain(f"layer.{i}.norm.weight", Category.BRANCH_INNER, f"feeds layer.{i}.ffn")
        for i in range(3)
    ]
    last = gain("norm.weight", Category.HEAD, "the last")
    return GainTable(gains=(*layers, last), roles={"w": Role.WEIGHT}, model="Toy")


def lines(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_layers_that_agree_share_a_row() -> None:
    text = lines(gain_table(toy()))
    assert text[0] == ["Toy:", "4", "gains"]
    assert text[2][:3] == ["layer.{0-2}.norm.weight", "3", "branch_inner"]
    assert text[3][:3] == ["norm.weight", "1", "head"]


def test_full_gives_every_gain_a_row() -> None:
    text = gain_table(toy(), full=True)
    assert all(f"layer.{i}.norm.weight" in text for i in range(3))


def test_reason_names_the_layers_it_stands_for() -> None:
    assert "feeds layer.{0-2}.ffn" in gain_table(toy())


def test_a_layer_that_differs_keeps_its_own_row() -> None:
    odd = [gain(f"l.{i}.w", Category.HEAD if i == 2 else Category.SHORTCUT) for i in range(4)]
    rows = lines(gain_table(GainTable(gains=tuple(odd))))[1:3]
    assert [row[:3] for row in rows] == [
        ["l.{0-1,3}.w", "3", "shortcut"],
        ["l.2.w", "1", "head"],
    ]


def test_rows_with_different_doses_do_not_merge() -> None:
    table = toy()
    doses: dict[str, float | None] = {g.name: 0.1 for g in table}
    doses["layer.1.norm.weight"] = 0.2
    text = gain_table(table, {g.name: 1.0 for g in table}, doses)
    assert "layer.{0,2}.norm.weight" in text
    assert "layer.1.norm.weight" in text


def test_summary_counts_gains_and_elements_per_category() -> None:
    text = lines(gain_table(toy()))
    assert ["branch_inner", "3", "24"] in [row[:3] for row in text]
    assert ["head", "1", "8"] in [row[:3] for row in text]


def test_dose_says_when_rounding_or_mode_takes_it() -> None:
    assert dose_text(0.1234, 0.1, "float32") == "12.3 %"
    assert dose_text(0.0, 0.1, "bfloat16") == "0 (bf16 rounding)"
    assert dose_text(0.0, 1e-6, "float32") == "0 (fp32 rounding)"
    assert dose_text(0.0, 0.0, "bfloat16") == "0 %"
    assert dose_text(None, 0.1, "float32") == "no closed form"


def test_unused_gain_is_listed_as_unused() -> None:
    text = gain_table(GainTable(gains=(gain("z", None, "never reached"),)))
    assert lines(text)[1][:3] == ["z", "1", "unused"]


def test_a_name_that_is_no_gain_is_told_what_it_is_or_what_is_close() -> None:
    with pytest.raises(KeyError, match="'w' is not a gain; its role is 'weight'"):
        toy()["w"]
    with pytest.raises(KeyError, match=r"this table; did you mean 'layer\.0\.norm\.weight'\?"):
        toy()["layer.0.nrm.weight"]


def test_table_without_gains_says_so() -> None:
    assert gain_table(GainTable(gains=(), model="Toy")) == "Toy: no gains"


def test_no_line_ends_in_blanks() -> None:
    text = gain_table(toy())
    assert all(line == line.rstrip() for line in text.splitlines())


def test_json_holds_every_gain_and_role() -> None:
    table = toy()
    data = gain_table_json(table, {g.name: 0.5 for g in table}, {g.name: None for g in table})
    assert json.loads(json.dumps(data)) == data
    assert data["model"] == "Toy"
    assert data["roles"] == {"w": "weight"}
    assert len(data["gains"]) == 4
    assert data["gains"][0] == {
        "name": "layer.0.norm.weight",
        "category": "branch_inner",
        "kind": "layer_norm",
        "offset": 0.0,
        "source": "table",
        "reason": "feeds layer.0.ffn",
        "dtype": "float32",
        "numel": 8,
        "coefficient": 0.5,
        "dose": None,
    }


def test_what_is_deferred_says_so_and_a_target_has_a_column_where_one_differs() -> None:
    table = toy()
    names = [g.name for g in table]
    coefficients, doses = dict.fromkeys(names, 0.1), dict.fromkeys(names, 0.095)
    first = {names[0]: Action(deferred=True, exact=0.1)}
    text = gain_table(table, coefficients, doses, first)
    assert "9.5 % (deferred)" in text and "toward" not in text
    text = gain_table(table, coefficients, doses, {**first, names[1]: Action(target="start")})
    assert "toward" in lines(text)[1] and "start" in text
    one, two = gain_table_json(table, coefficients, doses, first)["gains"][:2]
    assert (one["target"], one["deferred"]) == ("zero", True)
    assert one["dose_without_rounding"] == 0.1 and "target" not in two
