"""Launch files of accelerate: which engine, how many processes, cut in which way.

Read for this: accelerate 1.15, ``commands/launch.py`` and ``utils/dataclasses.py``. Its own loader
refuses unknown keys at the top of a file, and ignores those in a section without a word.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gamma_nlp.errors import GammaError, close_to
from gamma_nlp.launch import deepspeed
from gamma_nlp.launch.document import Document, read_document
from gamma_nlp.launch.keys import (
    IGNORED_WITH_FILE,
    KEYS,
    SECTIONS,
    TYPES,
    installed_keys,
    installed_options,
)
from gamma_nlp.launch.launch import PRECISIONS, Engine, Launch, Precision
from gamma_nlp.launch.mesh import check_gpus, mesh_sizes

_STRATEGIES = ("FULL_SHARD", "SHARD_GRAD_OP", "NO_SHARD", "HYBRID_SHARD", "HYBRID_SHARD_ZERO2")
MOST = 1_000_000
_ALONE = ("NO", "MULTI_CPU")
"""Types under which ``accelerate launch`` starts a single process, whatever the file says."""


def is_accelerate(file: Document) -> bool:
    """Return whether a file is accelerate's own rather than DeepSpeed's."""
    own = {"distributed_type", "compute_environment"}
    return file.path.suffix.lower() != ".json" or bool(own & file.data.keys())


def from_accelerate(
    file: Document, processes: int | None = None, precision: Precision | None = None
) -> Launch:
    """Return what an accelerate file asks for.

    Args:
        file: The file.
        processes: ``--processes``, which wins over the file.
        precision: ``--mixed-precision``, the same.

    Raises:
        GammaError: accelerate would not start from it, or not as it says.
    """
    _check_keys(file)
    kind = file.word("distributed_type", valid=TYPES, default="")
    machines = file.whole("num_machines", default=1)
    asked = _processes(file, kind, machines, processes)
    own = file.word("mixed_precision", valid=PRECISIONS, default="no")
    if file.flag("fp16") and not file.has("mixed_precision"):  # how it was written once
        own = "fp16"
    chosen = precision or own
    features = {} if chosen == "no" else {"precision": file.at("mixed_precision")}
    shared: dict[str, Any] = {
        "processes": asked,
        "machines": machines,
        "precision": chosen,
        "ignored": _ignored(file),
        "features": features,
    }
    if kind == "MULTI_CPU" or file.flag("use_cpu"):
        shared |= dict.fromkeys(("device", "weights_on", "optimizer_on"), "CPU")
    elif kind not in ("NO", "XLA"):
        check_gpus(file, asked // machines)
    if kind == "DEEPSPEED":
        return _deepspeed(file, shared, precision)
    if kind == "FSDP":
        return _fsdp(file, shared)
    engine: Engine = {"MEGATRON_LM": "Megatron-LM", "XLA": "TPU"}.get(kind, "DDP")  # type: ignore[assignment]
    if engine != "DDP":
        features[engine] = file.at("distributed_type")
    if kind in _ALONE and not file.has("mpirun_config", "mpirun_hostfile"):
        if asked > 1:
            features["one process starts"] = file.at("distributed_type")
        shared |= {"processes": 1, "machines": 1}
    if shared["processes"] == 1 and engine == "DDP":
        return Launch(**shared, engine="one process")
    sizes = mesh_sizes(file, shared["processes"], ignored=shared["ignored"])
    if sizes and sizes["tp"] > 1:
        features["tensor parallel"] = file.at("parallelism_config")
        return Launch(**shared, engine=engine, tensor=sizes["tp"])
    return Launch(**shared, engine=engine)


def _check_keys(file: Document) -> None:
    """Refuse what accelerate's own loader refuses, with the line."""
    if "zero_optimization" in file.data:
        raise GammaError(
            f"{file.at('zero_optimization')}: this is a config of DeepSpeed; save it as JSON, with "
            "a name that ends in .json"
        )
    unknown = [key for key in file.data if key not in KEYS]
    if unknown := [key for key in unknown if key not in installed_keys()]:
        hint = close_to(unknown[0], KEYS) or "; leave it out"
        raise GammaError(f"{file.at(unknown[0])}: accelerate knows no key {unknown[0]!r}{hint}")
    if str(file.get("compute_environment")).upper() == "AMAZON_SAGEMAKER":
        raise GammaError(
            f"{file.at('compute_environment')}: configs of SageMaker are not read; give one for "
            "LOCAL_MACHINE"
        )
    if not file.has("distributed_type"):
        raise GammaError(
            f"{file.path} has no distributed_type, which accelerate insists on; write for example "
            "distributed_type: MULTI_GPU"
        )


def _ignored(file: Document) -> dict[str, str]:
    """Return what to say of keys of sections that accelerate does not read, and where they are."""
    found = {}
    for name, (keys, prefix) in SECTIONS.items():
        for key in file.section(name):
            if key in keys or f"{prefix}{key}" in keys:
                continue
            full = f"{name}_{key}"
            if not {key, f"{prefix}{key}"} & installed_options():
                hint = close_to(full if full in keys else str(key), keys)
                found[f"accelerate ignores {name}.{key}{hint}"] = file.at(name, str(key))
    return found


def _processes(file: Document, kind: str, machines: int, told: int | None) -> int:
    written = file.whole("num_processes", default=-1, least=-1)
    if written == 0:
        raise file.wrong("a whole number of at least 1", "num_processes")
    if told is None and written == -1 and kind == "NO":
        return 1
    asked = written if told is None else told
    if asked == -1:
        raise GammaError(
            f"{file.at('num_processes')} does not say how many processes there are; write "
            "num_processes, or add --processes N"
        )
    if asked > MOST:
        raise GammaError(f"{file.at('num_processes')}: {asked} processes are more than anyone has")
    if asked % machines:
        where = file.at("num_processes" if told is None else "num_machines")
        raise GammaError(
            f"{where}: {asked} processes on {machines} machines: accelerate would start "
            f"{asked // machines} on each, {asked // machines * machines} in all; give a multiple "
            f"of {machines}"
        )
    return asked


def _deepspeed(file: Document, shared: dict[str, Any], precision: Precision | None) -> Launch:
    name = file.get("deepspeed_config", "deepspeed_config_file")
    if name is None or name == "none":
        fields = deepspeed.from_section(file)
    else:
        both = [key for key in IGNORED_WITH_FILE if file.has("deepspeed_config", key)]
        where = ("deepspeed_config", both[0]) if both else ("mixed_precision",)
        if both or file.has("mixed_precision"):
            raise GammaError(
                f"{file.at(*where)}: accelerate refuses {where[-1]} beside deepspeed_config_file; "
                "set it in that file alone"
            )
        fields = deepspeed.from_json(_referred(file, name), precision)
    if shared.get("device") == "CPU":
        fields |= {"weights_on": "CPU", "optimizer_on": "CPU"}
    for kind in ("features", "ignored"):
        fields[kind] = {**shared[kind], **fields.get(kind, {})}
    return Launch(**{**shared, **fields}, engine="DeepSpeed", shard=shared["processes"])


def _referred(file: Document, name: Any) -> Document:
    """Read the file that another names; accelerate looks from the folder of the launch."""
    where = file.at("deepspeed_config", "deepspeed_config_file")
    if not isinstance(name, str):
        raise file.wrong("the name of a JSON file", "deepspeed_config", "deepspeed_config_file")
    path = Path(name)
    if not path.is_file():
        beside = file.path.parent / name
        hint = f"; it is beside the config: write {beside}" if beside.is_file() else ""
        raise GammaError(
            f"{where}: there is no file {name}, seen from here, the folder that you launch in{hint}"
        )
    return read_document(path)


def _fsdp(file: Document, shared: dict[str, Any]) -> Launch:
    version = file.whole(*_fsdp_key(file, "version"), default=1, as_text=True)
    if version > 2:
        raise file.wrong("1 or 2", *_fsdp_key(file, "version"))
    features = shared["features"]
    if file.flag("use_cpu"):
        features[f"FSDP{version} on CPU"] = file.at("use_cpu")
        if version == 2:
            return Launch(**shared, engine="DDP" if shared["processes"] > 1 else "one process")
    features["FSDP"] = file.at(*_fsdp_key(file, "version"))
    fields: dict[str, Any] = {"shard": shared["processes"]}
    offload = file.flag(*_fsdp_key(file, "offload_params"))
    fields |= {"weights_on": "CPU", "optimizer_on": "CPU"} if offload else {}
    ignored = dict(shared["ignored"])
    sizes = mesh_sizes(file, shared["processes"], ignored=ignored, fsdp=version)
    if version == 1:
        strategy = _strategy(file)
        if strategy == "NO_SHARD":
            fields["shard"] = 1
        elif strategy.startswith("HYBRID"):
            fields["shard"] = shared["processes"] // shared["machines"]
        fields["gathered"] = strategy in ("SHARD_GRAD_OP", "HYBRID_SHARD_ZERO2")
        if not file.flag(*_fsdp_key(file, "use_orig_params"), default=True):
            features["flat parameters"] = file.at(*_fsdp_key(file, "use_orig_params"))
        _note_ignored(file, ignored, "reshard_after_forward", "FSDP1 takes sharding_strategy")
    else:
        fields["gathered"] = not file.flag(*_fsdp_key(file, "reshard_after_forward"), default=True)
        _note_ignored(file, ignored, "sharding_strategy", "FSDP2 takes reshard_after_forward")
        if sizes:
            fields |= {"shard": sizes["dp_shard"] * sizes["cp"], "tensor": sizes["tp"]}
            if sizes["tp"] > 1:
                features["tensor parallel"] = file.at("parallelism_config")
    engine: Engine = "FSDP1" if version == 1 else "FSDP2"
    return Launch(**{**shared, "ignored": ignored}, **fields, engine=engine)


def _fsdp_key(file: Document, name: str) -> tuple[str, str]:
    """Return the key of an FSDP setting, which may go without its ``fsdp_``."""
    short = name in file.section("fsdp_config")
    return "fsdp_config", name if short else f"fsdp_{name}"


def _note_ignored(file: Document, ignored: dict[str, str], name: str, hint: str) -> None:
    key = _fsdp_key(file, name)
    if file.has(*key):
        ignored[f"accelerate ignores {key[1]} here: {hint}"] = file.at(*key)


def _strategy(file: Document) -> str:
    key = _fsdp_key(file, "sharding_strategy")
    value = file.get(*key)
    if str(value).isdecimal() and 1 <= int(value) <= len(_STRATEGIES):
        return _STRATEGIES[int(value) - 1]
    return file.word(*key, valid=_STRATEGIES, default="FULL_SHARD")
