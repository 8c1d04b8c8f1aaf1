"""``gamma-nlp table`` shows each gain's category, coefficient and dose."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gamma_nlp.cli import main, planned
from tests.support.command_line import Capture


def test_table_shows_category_coefficient_and_dose(model: str, capsys: Capture) -> None:
    options = ["--policy", "all", "--weight-decay", "1", "--lr", "1e-3", "--steps", "200"]
    assert main.main(["table", model, *options]) == 0
    text = capsys.readouterr().out
    row = next(line for line in text.splitlines() if "{0-2}.attention.output" in line)
    assert "shortcut" in row
    assert "9.56 %" in row  # 1 - exp(-0.1005), the sum of a linear schedule from 1e-3
    assert "policy all, weight decay 1" in text


def test_table_without_a_plan_has_no_dose_and_says_how_to_get_one(
    model: str, capsys: Capture
) -> None:
    assert main.main(["table", model]) == 0
    assert "add --lr and --steps" in capsys.readouterr().out


def test_table_says_where_a_policy_does_nothing(
    model: str, tmp_path: Path, capsys: Capture
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("base: all\nkinds: {qk_norm: 2}\n", encoding="utf-8")
    for options in ([], ["--policy", "input_only", "--json"]):
        assert main.main(["table", model, *options]) == 0
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("note: policy ")
        assert "decays no gain of this model: it trains 6 shortcut, 2 head" in line
        assert line.endswith("here it equals the policy 'none'")
    assert main.main(["table", model, "--policy", str(file)]) == 0
    assert "sets 'qk_norm' under kinds, which has no effect" in capsys.readouterr().err
    for policy in ("all", "none"):
        assert main.main(["table", model, "--policy", policy]) == 0
        assert capsys.readouterr().err == ""


@pytest.mark.parametrize("policy", ["timm", "hugging_face", "iwd", "qwen3_next"])
def test_table_takes_every_sort_of_preset(model: str, policy: str, capsys: Capture) -> None:
    assert main.main(["table", model, "--policy", policy, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["policy"] == policy
    coefficients = {gain["coefficient"] for gain in printed["gains"]}
    assert coefficients == ({0.01} if policy == "qwen3_next" else {0.0})


def test_table_takes_a_schedule_for_weights_that_a_norm_follows(
    model: str, tmp_path: Path, capsys: Capture
) -> None:
    """A name table knows the model, so nothing else would ask for a forward pass."""
    path = tmp_path / "adamc.json"
    path.write_text('{"schedules": {"normalized": "lr_squared"}}', encoding="utf-8")
    assert main.main(["table", model, "--policy", str(path)]) == 0
    assert "policy adamc" in capsys.readouterr().out


def test_full_table_has_one_row_per_gain(model: str, capsys: Capture) -> None:
    assert main.main(["table", model, "--full"]) == 0
    assert "bert.encoder.layer.1.output.LayerNorm.weight" in capsys.readouterr().out


def test_table_json_is_pure_and_complete(model: str, capsys: Capture) -> None:
    assert main.main(["table", model, "--json", "--lr", "1e-3", "--steps", "10"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["policy"] == "guidelines"
    assert len(data["gains"]) == 8
    assert {"name", "category", "reason", "coefficient", "dose"} <= set(data["gains"][0])


def test_dtype_changes_the_dose(model: str, tmp_path: Path, capsys: Capture) -> None:
    options = ["--policy", "all", "--lr", "1e-5", "--steps", "300", "--weight-decay", "3"]
    assert main.main(["table", model, "--dtype", "bfloat16", *options]) == 0
    printed = capsys.readouterr().out
    assert " % (deferred)" in printed and "from a gain of 1" in printed
    policy = tmp_path / "keep.yaml"
    policy.write_text("base: all\nrounding: keep\ntarget: start\n", encoding="utf-8")
    options[1] = str(policy)
    assert main.main(["table", model, "--dtype", "bfloat16", *options]) == 0
    printed = capsys.readouterr().out
    assert "0 (bf16 rounding)" in printed and "toward" in printed and "start" in printed
    assert main.main(["table", model, "--dtype", "bfloat16", "--json", *options]) == 0
    (decay,) = {(g["target"], g["deferred"]) for g in json.loads(capsys.readouterr().out)["gains"]}
    assert decay == ("start", False)


def rates(schedule: str, warmup: int = 2) -> list[float] | None:
    words = f"table m --lr 1 --steps 6 --warmup {warmup} --schedule {schedule}".split()
    return planned.learning_rates(main.parser().parse_args(words))


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [
        ("linear", 2, [0.0, 0.5, 1.0, 0.75, 0.5, 0.25]),
        ("constant", 0, [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ("constant_with_warmup", 2, [0.0, 0.5, 1.0, 1.0, 1.0, 1.0]),
        ("cosine", 2, [0.0, 0.5, 1.0, 0.8535534, 0.5, 0.1464466]),
    ],
)
def test_schedules_are_those_of_transformers(
    schedule: str, warmup: int, expected: list[float]
) -> None:
    import torch
    from transformers import get_scheduler

    lrs = rates(schedule, warmup)
    assert lrs == pytest.approx(expected)

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = get_scheduler(schedule, optimizer, num_warmup_steps=warmup, num_training_steps=6)
    theirs = []
    for _ in range(6):
        theirs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert lrs == pytest.approx(theirs)


def test_every_schedule_that_lr_steps_and_warmup_determine_is_offered() -> None:
    import torch
    from torch.optim.lr_scheduler import LambdaLR
    from transformers import SchedulerType, get_scheduler

    made = []
    for kind in SchedulerType:
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        try:
            scheduler = get_scheduler(kind, optimizer, num_warmup_steps=2, num_training_steps=6)
        except (TypeError, ValueError):  # wants more, such as a smallest learning rate
            continue
        if isinstance(scheduler, LambdaLR):  # the others follow the score
            made.append(kind.value)
    assert sorted(planned.SCHEDULES) == sorted(made)
    assert all(len(rates(name, 0 if name == "constant" else 2) or []) == 6 for name in made)
