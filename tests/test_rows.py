from __future__ import annotations

from gamma_nlp.rows import Row, align, collapse, merge_layers, ranges, with_ranges


def row(name: str, key: str = "", reason: str = "") -> Row:
    return Row(name=name, key=(key,), reason=reason)


def test_nested_numbers_merge_only_as_a_full_product() -> None:
    names = [f"l.{i}.e.{j}.w" for i in range(2) for j in range(3)]
    assert collapse(names) == ["l.{0-1}.e.{0-2}.w x6"]
    assert collapse([*names, "l.2.e.0.w"]) == ["l.{0-1}.e.{0-2}.w x6", "l.2.e.0.w"]


def test_collapse_loses_no_name() -> None:
    names = ["0.weight", "1.weight", "a.1.b", "a.b.1", "7"]
    assert collapse(names) == ["{0-1}.weight x2", "a.1.b", "a.b.1", "7"]


def test_rows_merge_only_where_their_keys_agree() -> None:
    rows = merge_layers([row("a.0.w", "x"), row("a.1.w", "y"), row("a.2.w", "x")])
    assert [(r.name, r.count) for r in rows] == [("a.{0,2}.w", 2), ("a.1.w", 1)]


def test_a_reason_names_every_layer_that_it_stands_for() -> None:
    (merged,) = merge_layers([row(f"a.{i}.w", reason=f"ends a.{i} of 7") for i in range(3)])
    assert merged.reason == "ends a.{0-2} of 7"


def test_reasons_that_differ_in_words_keep_rows_apart() -> None:
    assert len(merge_layers([row("a.0.w", reason="one"), row("a.1.w", reason="two")])) == 2


def test_names_merge_where_they_differ_in_one_number() -> None:
    assert [r.count for r in merge_layers([row("a.0.w"), row("a.1.w")])] == [2]
    assert [r.count for r in merge_layers([row("a.w"), row("b.w")])] == [1, 1]


def test_ranges_are_runs_or_have_a_step() -> None:
    assert ranges([3, 1, 2, 7]) == "{1-3,7}"
    assert ranges([0, 2, 4, 6]) == "{0-6:2}"
    assert ranges([5, 5]) == "{5}"
    assert ranges([0, 2]) == "{0,2}"


def test_one_text_for_all_has_ranges_where_numbers_differ_only() -> None:
    assert with_ranges(["h.0 of 12", "h.1 of 12"]) == "h.{0-1} of 12"
    assert with_ranges(["alone"]) == "alone"


def test_columns_are_aligned_and_no_line_ends_in_blanks() -> None:
    text = align(["name", "n"], [["a", "10"], ["long one", "2"], ["b", ""]], right={"n"})
    assert text.splitlines() == ["name       n", "a         10", "long one   2", "b"]
