"""What each engine does with a policy, compared with the code that does it."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from gamma_nlp import GammaError
from gamma_nlp.hf.optimizer import refuse_deepspeed
from gamma_nlp.launch.engines import ROWS, Finding, findings
from gamma_nlp.launch.launch import Launch
from gamma_nlp.launch.needs import Needs, Reason

HOOK = (Reason(what="decay of 1 + w toward gain 0", count=3, change="give `target: stored`"),)
FLOATS = frozenset({torch.float32})


def said(launch: Launch, **needs: Any) -> list[Finding]:
    return findings(launch, Needs(**{"dtypes": FLOATS, **needs}))


def refusals(launch: Launch, **needs: Any) -> list[str]:
    return [str(one) for one in said(launch, **needs) if one.verdict == "refused"]


def deepspeed(stage: int, *features: str, **changes: Any) -> Launch:
    places = {"ZeRO": "ds.json:3"} | dict.fromkeys(features, "ds.json:7")
    return Launch(engine="DeepSpeed", processes=4, shard=4, stage=stage, features=places, **changes)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize("section", [False, True])
def test_deepspeed_is_refused_where_the_trainer_refuses_it(stage: int, section: bool) -> None:
    config: dict[str, Any] = {"optimizer": {"type": "AdamW"}} if section else {}
    parsed = SimpleNamespace(config=config)
    state = SimpleNamespace(deepspeed_plugin=SimpleNamespace(hf_ds_config=parsed))
    trainer = SimpleNamespace(is_deepspeed_enabled=True, accelerator=SimpleNamespace(state=state))
    try:
        refuse_deepspeed(trainer)
        refused = False
    except GammaError:
        refused = True
    features = ["optimizer section"] if section else []
    assert bool(refusals(deepspeed(stage, *features))) == refused


def test_a_hook_is_refused_where_deepspeed_brings_an_optimizer_and_nowhere_else() -> None:
    (line,) = refusals(deepspeed(2, "replaced optimizer"), hook=HOOK, optimizer="AdamW")
    assert line.startswith("refused: ds.json:7: GammaTrainer refuses the step hook")
    assert "decay of 1 + w toward gain 0 (3 tensors)" in line
    assert "; give `target: stored`; or keep the optimizer's state on the GPU; or use FSDP2" in line
    assert not any(refusals(deepspeed(stage), hook=HOOK) for stage in range(4))
    for engine in ("one process", "DDP", "FSDP1", "FSDP2"):
        assert refusals(Launch(engine=engine), hook=HOOK) == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("launch", "needs", "words"),
    [
        (Launch(engine="FSDP1", features={"flat parameters": "a.yaml:5"}), {},
         "refused: a.yaml:5: FSDP1 joins .* write fsdp_use_orig_params: true"),
        (Launch(engine="FSDP1", features={"FSDP1 on CPU": "a.yaml:2"}), {}, "raises an error on"),
        (Launch(engine="FSDP2", features={"FSDP": "a.yaml:2"}), {"scalars": ("scale",)},
         "without a dimension: 'scale'"),
        (Launch(engine="Megatron-LM", features={"Megatron-LM": "a.yaml:1"}), {}, "Megatron-LM"),
        (Launch(precision="fp16", features={"precision": "a.yaml:4"}),
         {"dtypes": frozenset({torch.float16})}, "a.yaml:4: torch's gradient scaler refuses"),
        (deepspeed(2, "replaced optimizer"), {"optimizer": "SGD"}, "by DeepSpeedCPUAdam with L2"),
        (Launch(engine="DDP", tensor=2, features={"tensor parallel": "a.yaml:4"}), {"cut": False},
         "no tp_plan"),
    ],
)  # fmt: skip
def test_refusals_name_the_place_and_what_to_change(
    launch: Launch, needs: dict[str, Any], words: str
) -> None:
    lines = [str(one) for one in said(launch, **needs)]
    assert any(re.search(words, line) for line in lines), lines
    assert lines[0].startswith("refused: ")


@pytest.mark.parametrize(
    ("launch", "needs"),
    [
        (Launch(precision="fp16", features={"precision": "a:4"}), {}),
        (Launch(engine="FSDP1", features={"FSDP": "a:2"}), {"dtypes": frozenset({torch.bfloat16})}),
        (deepspeed(2, "replaced optimizer"), {"optimizer": "AdamW"}),
        (Launch(engine="DDP", tensor=2, features={"tensor parallel": "a:4"}), {}),
        (deepspeed(1, precision="fp16"), {"dtypes": frozenset({torch.float16})}),
    ],
)
def test_what_works_is_not_refused(launch: Launch, needs: dict[str, Any]) -> None:
    assert refusals(launch, **needs) == []


def test_gathered_decay_is_explained_where_the_engine_keeps_float32() -> None:
    hook = (Reason(what="gathered", count=1, change=""),)
    launch = Launch(engine="FSDP2", precision="bf16", features={"FSDP": "a.yaml:4"})
    assert not any("stays gathered" in one.says for one in said(launch, hook=hook))
    assert any("stays gathered" in one.says for one in said(launch, hook=hook, deferred=True))


def test_ignored_keys_are_warnings_and_refusals_come_first() -> None:
    launch = deepspeed(3)
    found = said(Launch(**{**vars(launch), "ignored": {"accelerate ignores x": "a.yaml:9"}}))
    assert "warning: a.yaml:9: accelerate ignores x" in map(str, found)
    order = [one.verdict for one in found]
    assert order == sorted(order, key=["refused", "warning", "note"].index)


def test_every_row_says_what_happens_in_one_line() -> None:
    for row in ROWS:
        assert row.says and "\n" not in row.says + row.change
        assert row.verdict != "refused" or row.change, row.says
