"""The keys that accelerate's launch files have; a test compares them with the installed one."""

from __future__ import annotations

from functools import cache

TYPES = (
    "NO", "MULTI_CPU", "MULTI_GPU", "MULTI_NPU", "MULTI_MLU", "MULTI_SDAA", "MULTI_MUSA",
    "MULTI_XPU", "MULTI_HPU", "MULTI_NEURON", "DEEPSPEED", "FSDP", "XLA", "MEGATRON_LM",
)  # fmt: skip
"""The values of ``distributed_type``."""

KEYS = frozenset((
    "command_file", "commands", "compute_environment", "debug", "deepspeed_config",
    "distributed_type", "downcast_bf16", "dynamo_config", "enable_cpu_affinity", "fp8_config",
    "fsdp_config", "gpu_ids", "machine_rank", "main_process_ip", "main_process_port",
    "main_training_function", "megatron_lm_config", "mixed_precision", "mpirun_config",
    "num_machines", "num_processes", "parallelism_config", "rdzv_backend", "same_network",
    "tpu_env", "tpu_name", "tpu_use_cluster", "tpu_use_sudo", "tpu_vm", "tpu_zone", "use_cpu",
    "fp16", "dynamo_backend",  # how older files say it, which it still reads
))  # fmt: skip
"""The keys at the top of a file."""

_FSDP = (
    "version", "offload_params", "min_num_params", "sharding_strategy", "reshard_after_forward",
    "auto_wrap_policy", "transformer_layer_cls_to_wrap", "backward_prefetch", "state_dict_type",
    "forward_prefetch", "use_orig_params", "cpu_ram_efficient_loading", "sync_module_states",
    "activation_checkpointing", "activation_checkpointing_offload", "ignored_modules",
)  # fmt: skip
_PARALLELISM = (
    "dp_replicate_size", "dp_shard_size", "tp_size", "cp_size", "cp_backend", "cp_comm_strategy",
    "sp_size", "sp_backend", "sp_seq_length", "sp_seq_length_is_variable", "sp_attn_implementation",
)  # fmt: skip
_DEEPSPEED = (
    "deepspeed_config_file", "zero_stage", "offload_optimizer_device", "offload_param_device",
    "offload_optimizer_nvme_path", "offload_param_nvme_path", "gradient_accumulation_steps",
    "gradient_clipping", "zero3_init_flag", "zero3_save_16bit_model", "deepspeed_hostfile",
    "deepspeed_exclusion_filter", "deepspeed_inclusion_filter", "deepspeed_multinode_launcher",
    "deepspeed_moe_layer_cls_names",
)  # fmt: skip

SECTIONS: dict[str, tuple[frozenset[str], str]] = {
    "fsdp_config": (frozenset(f"fsdp_{key}" for key in _FSDP), "fsdp_"),
    "deepspeed_config": (frozenset(_DEEPSPEED), ""),
    "parallelism_config": (frozenset(f"parallelism_config_{key}" for key in _PARALLELISM), ""),
}
"""The keys of each section, and what they may go without."""

IGNORED_WITH_FILE = (
    "gradient_accumulation_steps", "gradient_clipping", "zero_stage", "offload_optimizer_device",
    "offload_param_device", "offload_param_nvme_path", "offload_optimizer_nvme_path",
    "zero3_save_16bit_model",
)  # fmt: skip
"""What accelerate refuses in ``deepspeed_config`` beside ``deepspeed_config_file``."""


@cache
def installed_keys() -> frozenset[str]:
    """Return the keys that the installed accelerate knows, which may be newer; else none."""
    try:
        from accelerate.commands.config.config_args import ClusterConfig
    except ImportError:
        return frozenset()
    return frozenset(ClusterConfig.__dataclass_fields__)


@cache
def installed_options() -> frozenset[str]:
    """Return what the installed ``accelerate launch`` reads of sections; else nothing."""
    try:
        from accelerate.commands.launch import launch_command_parser
    except ImportError:
        return frozenset()
    return frozenset(action.dest for action in launch_command_parser()._actions)
