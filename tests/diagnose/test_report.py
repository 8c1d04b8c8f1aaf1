"""What a person reads, what a program reads, and the picture."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

import pytest
import torch

from gamma_nlp.diagnose.data import to_csv, to_json
from gamma_nlp.diagnose.diagnosis import Diagnosis, State
from gamma_nlp.diagnose.measures import measure
from gamma_nlp.diagnose.plot import _names, check_picture, plot
from gamma_nlp.diagnose.report import report
from gamma_nlp.errors import GammaError
from gamma_nlp.gains.category import Category
from gamma_nlp.gains.table import Gain

LAYERS = 6
ODD = "h.3.ln_2.weight"
GOLDEN = Path(__file__).parent / "report.txt"


def gain(name: str, category: Category | None, kind: str = "layer_norm") -> Gain:
    return Gain(
        name=name, category=category, kind=kind, offset=0.0, source="table", reason="",
        dtype="float32", numel=4,
    )  # fmt: skip


GAINS = (
    *(
        gain(f"h.{i}.{ln}.weight", Category.BRANCH_INNER)
        for i in range(LAYERS)
        for ln in ("ln_1", "ln_2")
    ),
    gain("ln_f.weight", Category.HEAD),
    gain("spare.weight", None),
)


def value(name: str, step: int) -> torch.Tensor:
    """Gains that shrink with the steps, the deeper the more; one has a large channel."""
    layer = int(name.split(".")[1]) if name.startswith("h.") else 0
    values = torch.tensor([1.0, 0.9, 1.1, 0.04]) * (1 - 0.001 * step * (1 + 0.01 * layer))
    if name == ODD and step:
        values[2] = 9.0
    return torch.ones(4) if name == "spare.weight" else values


def diagnosis(steps: tuple[int | None, ...] = (0, 100), broken: bool = False) -> Diagnosis:
    states = []
    for step in steps:
        measures = {g.name: measure([value(g.name, step or 0)], g.offset) for g in GAINS}
        if broken:
            measures["ln_f.weight"] = measure([torch.tensor([math.nan] * 4)], 0.0)
        label = "model" if step is None else f"step {step}"
        states.append(State(label=label, path=Path("run", label), step=step, measures=measures))
    return Diagnosis(
        model="Toy", placed_by=Path("run/config.json"), gains=GAINS, states=tuple(states), near=0.05
    )


def test_the_text_is_the_golden_one() -> None:
    assert report(diagnosis()) + "\n" == GOLDEN.read_text(encoding="utf-8")


def test_one_checkpoint_has_no_growth_and_says_how_to_get_one() -> None:
    text = report(diagnosis((None,)))
    assert "growth: give several checkpoints" in text
    assert "moved most" not in text and "-10" not in text
    assert "rms at" not in text


def test_layers_share_a_row_and_full_has_one_for_each() -> None:
    short, full = report(diagnosis()), report(diagnosis(), full=True)
    assert "h.{0-5}.ln_1.weight" in short and "h.{0-2,4-5}.ln_2.weight" in short
    assert f"{ODD} *" in short
    rows = [line for line in full.splitlines() if line.startswith("h.")]
    assert {row.split()[0] for row in rows} >= {g.name for g in GAINS if g.name.startswith("h.")}
    assert "{" not in full


def test_many_checkpoints_have_a_column_for_some_and_full_for_all() -> None:
    steps = tuple(range(0, 1000, 100))
    short, full = report(diagnosis(steps)), report(diagnosis(steps), full=True)
    assert "5 of 10 checkpoints have a column; --full has all" in short
    assert [f"rms at step {step}" in full for step in steps] == [True] * 10
    for step in (0, 900):
        assert f"rms at step {step}" in short


def test_gains_that_stand_still_did_not_move() -> None:
    assert "moved from step 0 to step 0: none" not in report(diagnosis((0, 100)))
    states = diagnosis((0, 0))
    assert "moved from step 0 to step 0: none" in report(states)


def test_unused_gains_say_what_is_not_known_of_them() -> None:
    assert "an offset of 1 was not seen either" in report(diagnosis())


def test_json_is_valid_though_a_gain_is_not_finite() -> None:
    text = json.dumps(to_json(diagnosis(broken=True)), allow_nan=False)
    data = json.loads(text)
    assert [one["name"] for one in data["not_finite"]] == ["ln_f.weight"] * 2
    head = data["categories"]["head"]
    assert head["growth"] is None and head["checkpoints"][0]["rms"] is None
    assert {one["name"] for one in data["outliers"]} == {ODD}
    assert [one["step"] for one in data["checkpoints"]] == [0, 100]
    assert {row["layer"] for row in data["gains"]} == {*"012345", ""}


def test_csv_has_a_row_per_gain_and_checkpoint() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(diagnosis()))))
    assert len(rows) == 2 * len(GAINS)
    odd = next(row for row in rows if row["gain"] == ODD and row["step"] == "100")
    assert float(odd["largest"]) == 9.0 and odd["channel"] == "2" and odd["layer"] == "3"
    assert {row["category"] for row in rows} == {"branch_inner", "head", "unused"}


@pytest.mark.parametrize("end", [".png", ".svg"])
@pytest.mark.parametrize("steps", [(None,), (0, 100), (None, 5)])
def test_the_same_numbers_give_the_same_picture(
    tmp_path: Path, end: str, steps: tuple[int | None, ...]
) -> None:
    for name in ("a", "b"):
        plot(diagnosis(steps), tmp_path / "new" / f"{name}{end}")
    one, two = ((tmp_path / "new" / f"{name}{end}").read_bytes() for name in ("a", "b"))
    assert one == two and len(one) > 5000
    if end == ".svg":
        text = one.decode()
        assert all(word in text for word in ("branch_inner", "ln_2", "outliers", "Toy"[0:3])) or (
            steps == (None,)
        )
        assert ("Per category over the checkpoints" in text) == (len(steps) > 1)


def test_a_picture_of_gains_that_are_not_finite_is_drawn(tmp_path: Path) -> None:
    plot(diagnosis(broken=True), tmp_path / "x.png")
    assert (tmp_path / "x.png").exists()


def test_a_picture_that_cannot_be_written_is_refused_first(tmp_path: Path) -> None:
    for path in (tmp_path / "x.pdf", tmp_path / "x", tmp_path):
        with pytest.raises(GammaError, match=f"^-o {path}"):
            check_picture(path)
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(GammaError, match="is a folder; give the name of a file"):
        check_picture(tmp_path / "folder.png")


def test_the_legend_tells_gains_of_one_name_apart() -> None:
    names = [("head", "enc.#.norm.weight"), ("head", "dec.#.norm.weight"), ("head", "ln.weight")]
    assert [*_names(names).values()] == ["enc.#.norm (head)", "dec.#.norm (head)", "ln (head)"]
