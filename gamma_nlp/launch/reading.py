"""Read a launch file of either kind."""

from __future__ import annotations

from pathlib import Path

from gamma_nlp.errors import GammaError
from gamma_nlp.launch import deepspeed
from gamma_nlp.launch.accelerate import from_accelerate, is_accelerate
from gamma_nlp.launch.document import read_document
from gamma_nlp.launch.launch import Launch, Precision


def read_launch(
    path: Path, *, processes: int | None = None, precision: Precision | None = None
) -> Launch:
    """Return what a launch file asks for: accelerate's YAML (or JSON), or DeepSpeed's JSON.

    Args:
        path: The file.
        processes: How many processes, where the file does not say or another number is wanted.
        precision: Mixed precision, the same.

    Raises:
        GammaError: The file cannot be read, or would not start as it says.
    """
    file = read_document(path)
    if is_accelerate(file):
        return from_accelerate(file, processes, precision)
    fields = deepspeed.from_json(file, precision)
    if processes is None:
        raise GammaError(
            f"{path}: a DeepSpeed config does not say how many processes there are; add "
            "--processes N"
        )
    return Launch(**fields, engine="DeepSpeed", processes=processes, shard=processes)
