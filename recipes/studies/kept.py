"""Arrays that take seconds to make, made once and kept in a file for the other runs of a study."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gamma_nlp.errors import GammaError, one_line
from gamma_nlp.files.read import read_bytes
from gamma_nlp.files.write import write_bytes


def kept(path: Path, make: Callable[[], Mapping[str, np.ndarray]]) -> Mapping[str, np.ndarray]:
    """Return the arrays in a file; make them and write it, whole, if it is not there.

    Runs that start at once may all make them: each writes the same file.

    Raises:
        GammaError: The file is damaged, or cannot be written.
    """
    if not path.is_file():
        made = make()
        content = io.BytesIO()
        arrays: dict[str, Any] = dict(made)
        np.savez_compressed(content, **arrays)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, content.getvalue())
        return made
    try:
        with np.load(io.BytesIO(read_bytes(path)), allow_pickle=False) as held:
            return {name: held[name] for name in held.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise GammaError(f"{path} is damaged ({one_line(error)}); delete it") from error
