"""DeepSpeed's own JSON files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gamma_nlp import GammaError
from gamma_nlp.launch.launch import Launch
from gamma_nlp.launch.reading import read_launch


def read(folder: Path, content: dict[str, Any], **options: Any) -> Launch:
    path = folder / "ds.json"
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
    return read_launch(path, **{"processes": 4, **options})


def zero(stage: Any, **more: Any) -> dict[str, Any]:
    return {"zero_optimization": {"stage": stage, **more}}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (zero(1), {"stage": 1, "precision": "no", "shard": 4, "optimizer_on": "GPU"}),
        (zero("auto"), {"stage": 2}),
        ({"zero_optimization": {}}, {"stage": 0}),
        ({**zero(2), "bf16": {"enabled": True}}, {"precision": "bf16"}),
        ({**zero(2), "fp16": {"enabled": "auto"}}, {"precision": "no"}),
        (zero(3, offload_param={"device": "cpu"}), {"weights_on": "CPU", "optimizer_on": "GPU"}),
        (zero(3, offload_optimizer={"device": "nvme"}), {"optimizer_on": "NVMe"}),
        (zero(2, offload_optimizer={"device": "auto"}), {"optimizer_on": "GPU"}),
        ({**zero(1), "data_types": {"grad_accum_dtype": "fp32"}}, {"gradient_dtype": "fp32"}),
    ],
)
def test_settings_are_read(
    tmp_path: Path, content: dict[str, Any], expected: dict[str, Any]
) -> None:
    launch = read(tmp_path, content)
    assert {name: getattr(launch, name) for name in expected} == expected


def test_auto_follows_the_option_and_is_said_without_one(tmp_path: Path) -> None:
    content = {**zero(2), "bf16": {"enabled": "auto"}}
    assert read(tmp_path, content, precision="bf16").precision == "bf16"
    assert read(tmp_path, content).features["auto precision"].endswith("ds.json:6")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"train_batch_size": 8}, r'has no "zero_optimization", .*write for example'),
        (zero(5), r"ds.json:3: zero_optimization.stage must be 0, 1, 2 or 3, got 5"),
        (zero(True), r"ds.json:3: zero_optimization.stage must be a whole number"),
        ({"zero_optimization": True}, r"ds.json:2: zero_optimization must be a section"),
        (zero(2, offload_optimizer={"device": "tpu"}), r":5: .*device must be one of none, cpu"),
        (
            {**zero(2), "bf16": {"enabled": True}, "fp16": {"enabled": True}},
            r"ds.json:9: bf16 and fp16 are both enabled",
        ),
        ({**zero(2), "fp16": {"enabled": "maybe"}}, r"fp16.enabled must be true or false"),
        ({**zero(2), "data_types": {"grad_accum_dtype": "int8"}}, r"one of fp32, fp16, bf16"),
        ({"zero_optimization": {"stge": 3}}, r"ds.json:3: .* 'stge' .*did you mean 'stage'"),
        (zero(2, cpu_offload=True), r'ds.json:4: cpu_offload is an old name.*"offload_optimizer"'),
        ({**zero(1), "bfloat16": {"enabled": True}}, r'bfloat16 is an old name.*write "bf16"'),
    ],
)
def test_what_deepspeed_does_not_take_is_refused(
    tmp_path: Path, content: dict[str, Any], message: str
) -> None:
    with pytest.raises(GammaError, match=message):
        read(tmp_path, content)


def test_a_key_that_may_be_newer_is_told_and_old_ones_that_are_off_are_left(tmp_path: Path) -> None:
    launch = read(tmp_path, zero(2, brand_new=1, cpu_offload=False, overlap_comm=True))
    (says,) = launch.ignored
    assert "'brand_new'" in says and launch.ignored[says].endswith("ds.json:4")


def test_an_option_that_contradicts_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GammaError, match="bf16 is enabled, which contradicts --mixed-precision no"):
        read(tmp_path, {**zero(2), "bf16": {"enabled": True}}, precision="no")


def test_the_number_of_processes_must_be_said(tmp_path: Path) -> None:
    with pytest.raises(GammaError, match=r"does not say how many processes .* --processes N"):
        read(tmp_path, zero(2), processes=None)
