"""DeepSpeed's settings, from its own JSON file or from a section of accelerate's.

Read for this: accelerate 1.15 (``DeepSpeedPlugin``), and ``runtime/engine.py`` and
``runtime/zero/config.py`` of DeepSpeed 0.17.5 and 0.19.8.
"""

from __future__ import annotations

from typing import Any

from gamma_nlp.errors import GammaError, close_to
from gamma_nlp.launch.document import AUTO, Document
from gamma_nlp.launch.launch import Place, Precision

_DEVICES: dict[str, Place] = {"none": "GPU", "cpu": "CPU", "nvme": "NVMe"}
_CUTS = ("zero_hpz_partition_size", "mics_shard_size")
_PLAIN = (
    "allgather_bucket_size", "allgather_partitions", "compute_grad_norm",
    "contiguous_gradients", "cpu_offload", "cpu_offload_param", "cpu_offload_use_pin_memory",
    "elastic_checkpoint", "enable_sanity_checks", "ignore_unused_parameters", "leaf_module",
    "legacy_stage1", "load_from_fp32_weights", "log_trace_cache_warnings",
    "memory_efficient_linear", "mics_hierarchical_params_gather", "mics_shard_size",
    "offload_optimizer", "offload_param", "overlap_comm", "override_module_apply",
    "parameter_alignment", "pipeline_loading_checkpoint", "reduce_bucket_size",
    "reduce_scatter", "round_robin_gradients", "save_muon_momentum_buffer_in_memory", "stage",
    "stage3_gather_fp16_weights_on_model_save", "sub_group_size",
    "use_multi_rank_bucket_allreduce", "zenflow", "zero_hpz_partition_size",
    "zero_quantized_gradients", "zero_quantized_nontrainable_weights", "zero_quantized_weights",
    "zeropp_loco_param",
)  # fmt: skip
_STAGE_3 = (
    "allgather_sequential", "gather_16bit_weights_on_model_save", "max_live_parameters",
    "max_reuse_distance", "model_persistence_threshold", "module_granularity_threshold",
    "param_persistence_threshold", "prefetch_bucket_size", "use_all_reduce_for_fetch_params",
)  # fmt: skip
_ZERO = frozenset((*_PLAIN, *_STAGE_3, *(f"stage3_{key}" for key in _STAGE_3)))
"""The keys of ``zero_optimization``, of which DeepSpeed refuses all others."""

_OLD = {
    ("bfloat16",): '"bf16": {"enabled": true}',
    ("zero_optimization", "cpu_offload"): '"offload_optimizer": {"device": "cpu"}',
    ("zero_optimization", "cpu_offload_param"): '"offload_param": {"device": "cpu"}',
}
"""Names that DeepSpeed still takes and that accelerate and the Trainer look past."""

_STAGES = "0, 1, 2 or 3"
_DEFAULT_STAGE = 2
"""What accelerate takes where the stage is missing from its own file, or ``auto``."""


def from_section(file: Document) -> dict[str, Any]:
    """Return what ``deepspeed_config`` of an accelerate file says, as fields of a launch."""
    key = "deepspeed_config"
    stage = _stage(file, key, "zero_stage", default=_DEFAULT_STAGE)
    fields = _offload(
        stage,
        _device(file, key, "offload_optimizer_device"),
        _device(file, key, "offload_param_device"),
    )
    features = {"ZeRO": file.at(key, "zero_stage")}
    if fields["optimizer_on"] != "GPU":
        features["replaced optimizer"] = file.at(key, "offload_optimizer_device")
    return {**fields, "stage": stage, "features": features}


def from_json(file: Document, precision: Precision | None) -> dict[str, Any]:
    """Return what a DeepSpeed file says, as fields of a launch.

    Args:
        file: The file.
        precision: What ``auto`` stands for, if the user said.

    Raises:
        GammaError: A value is none that DeepSpeed takes.
    """
    zero = "zero_optimization"
    if not file.has(zero):
        raise GammaError(
            f'{file.path} has no "{zero}", which accelerate insists on; write for example '
            f'"{zero}": {{"stage": 2}}'
        )
    _check_old(file)
    default = _DEFAULT_STAGE if file.get(zero, "stage") == AUTO else 0
    stage = _stage(file, zero, "stage", default=default)
    fields = _offload(
        stage,
        _device(file, zero, "offload_optimizer", "device"),
        _device(file, zero, "offload_param", "device"),
    )
    features = {"ZeRO": file.at(zero, "stage")}
    for name in ("optimizer", "scheduler"):
        if file.has(name):
            features[f"{name} section"] = file.at(name)
    forced = file.flag("zero_force_ds_cpu_optimizer", default=True)
    if fields["optimizer_on"] != "GPU" and forced:
        features["replaced optimizer"] = file.at(zero, "offload_optimizer")
    for name in _CUTS:
        if file.whole(zero, name, default=1, least=-1) > 1:
            features[f"{name} cuts otherwise"] = file.at(zero, name)
    if file.whole("tensor_parallel", "autotp_size", default=1, least=0) > 1:
        features["autotp_size cuts otherwise"] = file.at("tensor_parallel", "autotp_size")
    own, open_at = _precision(file, precision)
    if open_at:
        features["auto precision"] = open_at
    dtype = file.word(
        "data_types", "grad_accum_dtype", valid=("fp32", "fp16", "bf16"), default="none"
    )
    if own != "no":
        features["precision"] = file.at(own, "enabled")
    return {
        **fields,
        "stage": stage,
        "precision": own,
        "gradient_dtype": None if dtype == "none" else dtype,
        "features": features,
        "ignored": _unknown(file),
    }


def _check_old(file: Document) -> None:
    """Refuse names that change the run, and that accelerate does not see."""
    for key, instead in _OLD.items():
        if key == ("bfloat16",) and file.has("bf16"):
            continue  # DeepSpeed itself looks past the old one then
        if file.has(*key) and file.get(*key) is not False:
            raise GammaError(
                f"{file.at(*key)}: {key[-1]} is an old name, which accelerate and the Trainer do "
                f"not read; write {instead}"
            )


def _unknown(file: Document) -> dict[str, str]:
    """Return what to say of keys that may be newer than this list, and where they are.

    Raises:
        GammaError: A key is a known one, misspelt.
    """
    found = {}
    for key in file.section("zero_optimization"):
        if key in _ZERO:
            continue
        where = file.at("zero_optimization", key)
        says = f"DeepSpeed 0.19 refuses the key {key!r} in zero_optimization"
        if hint := close_to(key, _ZERO):
            raise GammaError(f"{where}: {says}{hint}")
        found[says] = where
    return found


def _stage(file: Document, *key: str, default: int) -> int:
    stage = file.whole(*key, default=default, least=0, as_text=True)
    if stage > 3:
        raise file.wrong(_STAGES, *key)
    return stage


def _device(file: Document, *key: str) -> Place:
    if file.get(*key) == AUTO:
        return "GPU"
    return _DEVICES[file.word(*key, valid=_DEVICES, default="none")]


def _offload(stage: int, optimizer: Place, weights: Place) -> dict[str, Any]:
    """Return where things rest: weights move in stage 3 only, and nothing in stage 0."""
    if stage < 3:
        weights = "GPU"
        optimizer = "GPU" if stage == 0 or optimizer == "GPU" else "CPU"
    return {"optimizer_on": optimizer, "weights_on": weights}


def _precision(file: Document, told: Precision | None) -> tuple[Precision, str]:
    """Return the mixed precision, and where the file leaves it to the script, if it does."""
    known: tuple[Precision, ...] = ("bf16", "fp16")
    on = [name for name in known if file.flag(name, "enabled")]
    if len(on) > 1:
        raise GammaError(
            f"{file.at('fp16', 'enabled')}: bf16 and fp16 are both enabled; leave one of them out"
        )
    left = [name for name in known if file.get(name, "enabled") == AUTO]
    if on:
        if told is not None and told != on[0]:
            raise GammaError(
                f"{file.at(on[0], 'enabled')}: {on[0]} is enabled, which contradicts "
                f'--mixed-precision {told}; leave the option out, or write "auto" here'
            )
        return on[0], ""
    if told is not None:
        return told, ""
    return "no", file.at(left[0], "enabled") if left else ""
