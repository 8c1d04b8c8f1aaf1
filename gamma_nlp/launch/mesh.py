"""The mesh that ``parallelism_config`` of an accelerate file asks for, and the GPUs of a machine.

Read for this: accelerate 1.15, ``parallelism_config.py`` and ``commands/launch.py``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from gamma_nlp.errors import GammaError
from gamma_nlp.launch.document import Document

SECTION = "parallelism_config"
_NAMES = ("dp_replicate", "dp_shard", "tp", "cp", "sp")


def mesh_sizes(
    file: Document, processes: int, *, ignored: Iterable[str], fsdp: int | None = None
) -> dict[str, int]:
    """Return the sizes of the mesh; empty without a ``parallelism_config``.

    Args:
        file: The launch file.
        processes: How many there are.
        ignored: What accelerate does not read in the file, in words.
        fsdp: The version of FSDP, if that is the engine.

    Raises:
        GammaError: accelerate refuses the mesh.
    """
    if not file.section(SECTION):
        return {}
    sizes = {name: file.whole(SECTION, f"{SECTION}_{name}_size", default=1) for name in _NAMES}
    product = math.prod(sizes.values())
    if product != processes:
        shape = " x ".join(f"{name} {size}" for name, size in sizes.items() if size > 1) or "1"
        other = next((says for says in ignored if f" {SECTION}." in says), "")
        raise GammaError(
            f"{file.at(SECTION)}: the sizes make {product} processes ({shape}), and there are "
            f"{processes}; {other or 'accelerate refuses that, so make them equal'}"
        )
    if fsdp == 1 and product > 1:
        raise GammaError(
            f"{file.at(SECTION)}: accelerate refuses a mesh beside FSDP1; write fsdp_version: 2"
        )
    if fsdp == 2 and product > 1 and sizes["dp_shard"] * sizes["cp"] == 1:
        raise GammaError(
            f"{file.at(SECTION)}: dp_shard and cp are 1, so that FSDP2 has nothing to cut along, "
            f"which accelerate refuses; give {SECTION}_dp_shard_size, or write distributed_type: "
            "MULTI_GPU"
        )
    return sizes


def check_gpus(file: Document, here: int) -> None:
    """Check that the file names a GPU for each process of a machine.

    Raises:
        GammaError: It names fewer, or none.
    """
    ids = file.get("gpu_ids")
    if ids is None or ids == "all":
        return
    if not isinstance(ids, str):
        raise file.wrong("text such as '0,1', or all", "gpu_ids")
    named = [one for one in ids.split(",") if one.strip()]
    if len(named) < here:
        raise GammaError(
            f"{file.at('gpu_ids')}: gpu_ids names {len(named)} for {here} processes on a machine; "
            "name as many, or write gpu_ids: all"
        )
