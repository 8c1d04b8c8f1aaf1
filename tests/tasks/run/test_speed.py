"""What makes a run faster is decided from its plan, and said."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from gamma_nlp.errors import GammaError
from gamma_nlp.tasks.glue.arguments import read_arguments
from gamma_nlp.tasks.run.speed import CompileTime, load_ahead, settle_compile
from tests.support.glue_runs import experiment


def decided(*, device: str = "cuda", **changes: Any) -> tuple[str | None, bool]:
    settings = {"compile": "auto", "graphs": "off", "shapes": 2, "steps": 10_000, **changes}
    plan = {key: settings.pop(key) for key in ("shapes", "steps")}
    args = SimpleNamespace(
        device=torch.device(device),
        torch_compile=False,
        torch_compile_backend=None,
        fp16=False,
        deepspeed=None,
        fsdp=[],
        world_size=1,
        n_gpu=1,
        gradient_accumulation_steps=1,
        gradient_checkpointing=False,
        torch_empty_cache_steps=None,
    )
    line = settle_compile(SimpleNamespace(**settings), args, nn.Linear(1, 1), **plan)
    return line, args.torch_compile


@pytest.mark.parametrize(
    ("changes", "line", "on"),
    [
        ({}, "on, for 2 shapes of batches and 10000 steps", True),
        ({"steps": 9_999}, "off, since 2 shapes of batches would need 10000 steps", False),
        ({"shapes": None}, "off, since batches have no fixed shapes", False),
        ({"graphs": "auto"}, "off, since steps are replayed as graphs", False),
    ],
)
def test_compile_auto_is_off_unless_it_is_earned_back(
    changes: dict[str, Any], line: str, on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "no")
    found, compiled = decided(**changes)
    assert found is not None and line in found and compiled is on


@pytest.mark.parametrize("changes", [{"compile": "off"}, {"compile": "on"}, {"device": "cpu"}])
def test_where_nothing_is_to_decide_nothing_is_said(changes: dict[str, Any]) -> None:
    assert decided(**changes) == (None, False)


def test_the_time_of_compiling_is_that_of_first_steps() -> None:
    class Steps:
        args = SimpleNamespace(torch_compile=True)

        def training_step(self, model: Any, inputs: Any) -> torch.Tensor:
            return torch.tensor(1.0)

    class Timed(CompileTime, Steps):  # type: ignore[misc]
        pass

    trainer: Any = Timed()
    assert trainer.compile_line() is None
    for width in (2, 3, 2):
        trainer.training_step(None, {"input_ids": torch.zeros(1, width)})
    assert "first steps of 2 shape(s) took 0 s" in trainer.compile_line()


def test_batches_travel_ahead_where_they_are_pinned() -> None:
    for device, pinned, ahead in (
        ("cuda", True, True),
        ("cuda", False, False),
        ("cpu", True, False),
    ):
        args = SimpleNamespace(
            device=torch.device(device),
            dataloader_pin_memory=pinned,
            accelerator_config=SimpleNamespace(non_blocking=False),
        )
        load_ahead(args)
        assert args.accelerator_config.non_blocking is ahead


def test_graphs_on_a_cpu_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    argv = experiment(tmp_path, tmp_path)
    assert read_arguments(argv)[0].graphs == "auto"
    with pytest.raises(GammaError, match=r"graphs on needs a CUDA device.*leave it out"):
        read_arguments([*argv, "--graphs", "on"])


@pytest.mark.parametrize(("cuda", "workers"), [(True, 2), (False, 0)])
def test_workers_load_ahead_on_cuda_where_nobody_said_how_many(
    cuda: bool, workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    argv = experiment(tmp_path, tmp_path, use_cpu=None, precision="fp32")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    values: list[Any] = []
    monkeypatch.setattr("gamma_nlp.tasks.glue.arguments.complete_best", _stop(values))
    for given, expected in (([], workers), (["--dataloader_num_workers", "0"], 0)):
        with pytest.raises(GammaError, match="stop here"):
            read_arguments([*argv, *given])
        assert values[-1]["dataloader_num_workers"] == expected


def _stop(values: list[Any]) -> Any:
    def stop(found: dict[str, Any], known: Any) -> None:
        values.append(dict(found))
        raise GammaError("stop here")  # a Trainer's arguments would look for the device

    return stop
