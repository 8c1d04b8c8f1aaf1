"""Launch files of accelerate, read as its own launcher would act on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from accelerate.commands.config.config_args import ClusterConfig
from accelerate.commands.launch import launch_command_parser
from accelerate.utils import DistributedType

from gamma_nlp import GammaError
from gamma_nlp.launch import accelerate, keys
from gamma_nlp.launch.launch import Launch
from gamma_nlp.launch.reading import read_launch

Read = Callable[..., Launch]


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Read:
    monkeypatch.chdir(tmp_path)

    def reader(text: str, **options: Any) -> Launch:
        Path("a.yaml").write_text(text, encoding="utf-8")
        return read_launch(Path("a.yaml"), **options)

    return reader


MULTI = "distributed_type: MULTI_GPU\nnum_processes: 8\n"
FSDP = "distributed_type: FSDP\nnum_processes: 8\n"
ZERO = "distributed_type: DEEPSPEED\nnum_processes: 8\n"
MESH = (
    "parallelism_config: {parallelism_config_dp_replicate_size: 2, "
    "parallelism_config_dp_shard_size: 2, parallelism_config_tp_size: 2}\n"
)
OFFLOADED = "deepspeed_config: {offload_optimizer_device: nvme, offload_param_device: cpu, "

READ: dict[str, tuple[str, dict[str, Any]]] = {
    "one": ("distributed_type: 'NO'\n", {"engine": "one process", "processes": 1, "shard": 1}),
    "one of several": (
        "distributed_type: 'NO'\nnum_processes: 4\n",
        {"engine": "one process", "processes": 1},
    ),
    "CPUs": (
        "distributed_type: MULTI_CPU\nnum_processes: 4\n",
        {"engine": "one process", "processes": 1, "device": "CPU", "weights_on": "CPU"},
    ),
    "CPUs by MPI": (
        "distributed_type: MULTI_CPU\nnum_processes: 4\nmpirun_config: {mpirun_hostfile: h}\n",
        {"engine": "DDP", "processes": 4, "device": "CPU"},
    ),
    "DDP": (f"{MULTI}mixed_precision: bf16\n", {"engine": "DDP", "precision": "bf16", "shard": 1}),
    "lower case": ("distributed_type: multi_gpu\nnum_processes: 2\n", {"engine": "DDP"}),
    "DDP of one": ("distributed_type: MULTI_GPU\nnum_processes: 1\n", {"engine": "one process"}),
    "old fp16": (f"{MULTI}fp16: true\n", {"precision": "fp16"}),
    "TPU": ("distributed_type: XLA\nnum_processes: 8\n", {"engine": "TPU"}),
    "Megatron": ("distributed_type: MEGATRON_LM\nnum_processes: 8\n", {"engine": "Megatron-LM"}),
    "FSDP1 by default": (FSDP, {"engine": "FSDP1", "shard": 8, "gathered": False}),
    "FSDP1 hybrid": (
        f"{FSDP}num_machines: 2\nfsdp_config: {{fsdp_sharding_strategy: HYBRID_SHARD}}\n",
        {"engine": "FSDP1", "shard": 4},
    ),
    "FSDP1 gradients": (
        f"{FSDP}fsdp_config: {{fsdp_sharding_strategy: 2}}\n",
        {"engine": "FSDP1", "shard": 8, "gathered": True},
    ),
    "FSDP1 whole": (f"{FSDP}fsdp_config: {{fsdp_sharding_strategy: NO_SHARD}}\n", {"shard": 1}),
    "FSDP2": (f"{FSDP}fsdp_config: {{fsdp_version: 2}}\n", {"engine": "FSDP2", "shard": 8}),
    "FSDP2 in quotes": (f"{FSDP}fsdp_config: {{version: '2'}}\n", {"engine": "FSDP2"}),
    "FSDP2 kept": (
        f"{FSDP}fsdp_config: {{fsdp_version: 2, fsdp_reshard_after_forward: false}}\n",
        {"engine": "FSDP2", "gathered": True},
    ),
    "FSDP2 offloaded": (
        f"{FSDP}fsdp_config: {{fsdp_version: 2, fsdp_offload_params: true}}\n",
        {"weights_on": "CPU", "optimizer_on": "CPU", "device": "GPU"},
    ),
    "FSDP2 mesh": (
        f"{FSDP}fsdp_config: {{fsdp_version: 2}}\n{MESH}",
        {"engine": "FSDP2", "shard": 2, "tensor": 2},
    ),
    "FSDP2 on CPUs": (
        f"{FSDP}use_cpu: true\nfsdp_config: {{fsdp_version: 2}}\n",
        {"engine": "DDP", "shard": 1, "device": "CPU"},
    ),
    "ZeRO by default": (ZERO, {"engine": "DeepSpeed", "stage": 2, "shard": 8}),
    "ZeRO 3": (
        f"{ZERO}deepspeed_config: {{zero_stage: '3', offload_param_device: cpu}}\n",
        {"stage": 3, "weights_on": "CPU", "optimizer_on": "GPU"},
    ),
    "ZeRO 3 on disks": (
        f"{ZERO}{OFFLOADED}zero_stage: 3}}\n",
        {"weights_on": "CPU", "optimizer_on": "NVMe"},
    ),
    "ZeRO 1 keeps weights": (
        f"{ZERO}{OFFLOADED}zero_stage: 1}}\n",
        {"weights_on": "GPU", "optimizer_on": "CPU"},
    ),
    "ZeRO 0 moves nothing": (f"{ZERO}{OFFLOADED}zero_stage: 0}}\n", {"optimizer_on": "GPU"}),
}


@pytest.mark.parametrize(("text", "expected"), READ.values(), ids=READ)
def test_a_file_is_read_as_accelerate_acts_on_it(
    read: Read, text: str, expected: dict[str, Any]
) -> None:
    launch = read(text)
    assert {name: getattr(launch, name) for name in expected} == expected


def test_options_win_over_the_file(read: Read) -> None:
    launch = read(f"{FSDP}mixed_precision: bf16\n", processes=32, precision="no")
    assert (launch.processes, launch.shard, launch.precision) == (32, 32, "no")


REFUSED = {
    "type missing": ("num_processes: 2\n", r"a.yaml has no distributed_type"),
    "type in no quotes": ("distributed_type: NO\n", r"a.yaml:1: .* distributed_type: 'NO'"),
    "type unknown": ("distributed_type: MULTI_GPUS\n", r":1: .* did you mean 'MULTI_GPU'\?"),
    "precision": (f"{MULTI}mixed_precision: no\n", r":3: mixed_precision: YAML reads no .* 'no'"),
    "key unknown": (f"{MULTI}num_machine: 2\n", r":3: .* 'num_machine'; did you mean 'num_mach"),
    "processes unknown": ("distributed_type: FSDP\n", r"does not say how many .*--processes N"),
    "processes -1": ("distributed_type: FSDP\nnum_processes: -1\n", r":2 does not say how many"),
    "processes 0": ("distributed_type: FSDP\nnum_processes: 0\n", r":2: num_processes must be"),
    "processes without end": (f"{FSDP[:-2]}{10**30}\n", r":2: 1000.* are more than anyone has"),
    "processes as text": ("distributed_type: FSDP\nnum_processes: '8'\n", r":2: .* got '8'"),
    "machines": (f"{MULTI}num_machines: 3\n", r":2: 8 processes on 3 machines: .* 2 on each, 6 in"),
    "fewer than machines": (f"{MULTI}num_machines: 16\n", r"0 on each, 0 in all"),
    "version": (f"{FSDP}fsdp_config: {{fsdp_version: 3}}\n", r":3: fsdp_config.fsdp_version must"),
    "reshard": (
        f"{FSDP}fsdp_config:\n  fsdp_version: 2\n  fsdp_reshard_after_forward: FULL_SHARD\n",
        r":5: fsdp_config.fsdp_reshard_after_forward must be true or false",
    ),
    "strategy": (f"{FSDP}fsdp_config: {{fsdp_sharding_strategy: ALL}}\n", r"one of FULL_SHARD, "),
    "section": (f"{FSDP}fsdp_config: 2\n", r":3: fsdp_config must be a section"),
    "stage": (f"{ZERO}deepspeed_config: {{zero_stage: 4}}\n", r":3: .* 0, 1, 2 or 3, got 4"),
    "mesh": (f"{FSDP}fsdp_config: {{fsdp_version: 2}}\nnum_machines: 2\n{MESH}".replace("8", "16"),
             r":5: the sizes make 8 processes \(dp_replicate 2 x dp_shard 2 x tp 2\), .* are 16"),
    "mesh in short": (f"{MULTI}parallelism_config: {{tp_size: 8}}\n",
                      r":3: .* make 1 processes .* ignores parallelism_config.tp_size; did"),
    "mesh of FSDP1": (f"{FSDP}fsdp_config: {{fsdp_version: 1}}\n{MESH}", r":4: .* beside FSDP1; w"),
    "mesh without a cut": (
        f"{FSDP}fsdp_config: {{fsdp_version: 2}}\n"
        "parallelism_config: {parallelism_config_tp_size: 8}\n",
        r":4: dp_shard and cp are 1, .* give parallelism_config_dp_shard_size, or",
    ),
    "too few GPUs": (f"{MULTI}gpu_ids: '0,1'\n", r":3: gpu_ids names 2 for 8 processes on a mach"),
    "GPU as a number": (f"{MULTI}gpu_ids: 0\n", r":3: gpu_ids must be text such as '0,1', or all"),
    "SageMaker": (f"{MULTI}compute_environment: AMAZON_SAGEMAKER\n", r":3: configs of SageMaker"),
    "DeepSpeed as YAML": ("zero_optimization: {stage: 2}\n", r":1: .* save it as JSON"),
    "no such file": (
        f"{ZERO}deepspeed_config: {{deepspeed_config_file: ds.json}}\n",
        r":3: there is no file ds.json, seen from here",
    ),
    "both": (
        f"{ZERO}deepspeed_config:\n  deepspeed_config_file: ds.json\n  zero_stage: 2\n",
        r":5: accelerate refuses zero_stage beside deepspeed_config_file",
    ),
    "precision and file": (
        f"{ZERO}mixed_precision: bf16\ndeepspeed_config: {{deepspeed_config_file: ds.json}}\n",
        r":3: accelerate refuses mixed_precision beside deepspeed_config_file",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED)
def test_a_file_that_would_not_start_as_it_says_is_refused_with_its_line(
    read: Read, text: str, message: str
) -> None:
    with pytest.raises(GammaError, match=message) as error:
        read(text)
    assert "\n" not in str(error.value)


def test_keys_of_sections_that_accelerate_ignores_are_named(read: Read) -> None:
    launch = read(
        f"{FSDP}fsdp_config:\n  fsdp_version: 2\n  fsdp_reshard_afterforward: true\n"
        "  fsdp_sharding_strategy: FULL_SHARD\n"
    )
    assert launch.ignored == {
        "accelerate ignores fsdp_config.fsdp_reshard_afterforward; did you mean "
        "'fsdp_reshard_after_forward'?": "a.yaml:5",
        "accelerate ignores fsdp_sharding_strategy here: FSDP2 takes "
        "reshard_after_forward": "a.yaml:6",
    }
    mesh = read(f"{MULTI}parallelism_config: {{tp_size: 8, parallelism_config_tp_size: 8}}\n")
    assert mesh.tensor == 8 and "did you mean 'parallelism_config_tp_size'" in str(mesh.ignored)


def test_a_deepspeed_file_is_looked_for_from_the_folder_of_the_launch(
    read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ds.json").write_text('{"zero_optimization": {"stage": 1}}', encoding="utf-8")
    text = f"{ZERO}deepspeed_config: {{deepspeed_config_file: ds.json}}\n"
    assert read(text).stage == 1
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(GammaError, match=r"it is beside the config: write \.\./ds\.json"):
        read_launch(Path("../a.yaml"))


def test_keys_that_only_a_newer_accelerate_knows_are_taken(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"{FSDP}fsdp_config: {{fsdp_version: 2, fsdp_magic: 1}}\nmagic: 1\n"
    with pytest.raises(GammaError, match="no key 'magic'"):
        read(text)
    monkeypatch.setattr(accelerate, "installed_keys", lambda: frozenset({"magic"}))
    monkeypatch.setattr(accelerate, "installed_options", lambda: frozenset({"fsdp_magic"}))
    assert read(text).ignored == {}


def test_the_keys_are_those_of_the_installed_accelerate() -> None:
    own = {field.name for field in fields(ClusterConfig)} | {"fp16", "dynamo_backend"}
    assert own <= keys.KEYS and keys.installed_keys() <= own
    assert {kind.value for kind in DistributedType} <= set(keys.TYPES)
    options = {action.dest for action in launch_command_parser()._actions}
    for start in ("fsdp_", "parallelism_config_"):
        assert {one for one in options if one.startswith(start)} <= set().union(
            *(known for known, _ in keys.SECTIONS.values())
        )
