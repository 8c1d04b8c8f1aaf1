"""The fairseq comparison reads its log correctly, judges by its goals, and trains both sides."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from gamma_nlp.errors import GammaError
from tests.support.fairseq_runs import need_fairseq
from tests.support.paths import ROOT

need_fairseq()


def line(kind: str, **entries: object) -> str:
    return f"2026-01-01 00:00:00 | INFO | {kind} | {json.dumps(entries)}\n"


def test_speed_is_counted_over_intervals_without_validation(benchmark: ModuleType) -> None:
    log = "".join(
        line("train_inner", epoch=epoch, wpb="100", wps=speed, num_updates=str(update))
        for epoch, speed, update in (
            (1, "0", 1), (1, "1000", 2), (1, "500", 3), (2, "10", 4), (2, "1000", 5)
        )
    )  # fmt: skip
    log += line("train", epoch=2, train_num_updates="6")
    updates, speed = benchmark.read_training(log)
    assert updates == 6
    assert speed == pytest.approx(300 / (0.1 + 0.2 + 0.1))
    with pytest.raises(GammaError, match="too few updates"):
        benchmark.read_training(line("train_inner", epoch=1, wpb="1", wps="1"))


@pytest.mark.parametrize(
    ("bleu", "speed", "met"), [(38, 11, [True, True]), (37.9, 10, [False, False])]
)
def test_goals_are_judged_by_what_was_measured(
    benchmark: ModuleType, bleu: float, speed: float, met: list[bool]
) -> None:
    ours = benchmark.Side(name="a", updates=1, tokens_per_second=speed, bleu={"test": bleu})
    theirs = benchmark.Side(name="b", updates=1, tokens_per_second=10.5, bleu={"test": 39.0})
    assert [row.passed for row in benchmark.judge(ours, theirs)] == met


@pytest.mark.slow
def test_both_sides_train_and_stand_in_one_table(
    benchmark: ModuleType,
    prepared: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    assert benchmark.main([str(prepared), str(tmp_path / "both"), "--quick"]) == 0
    rows = capsys.readouterr().out.splitlines()[-3:]
    assert [row.split()[0] for row in rows] == ["updates", "gamma_nlp", "fairseq"]
    sides = json.loads((tmp_path / "both" / "results.json").read_text())["sides"]
    assert sides[0]["updates"] == sides[1]["updates"] > 0
    assert list(sides[0]["bleu"]) == list(sides[1]["bleu"]) == ["test_2016_flickr"]
