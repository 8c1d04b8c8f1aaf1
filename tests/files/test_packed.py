"""A packed file is counted while it is unpacked."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import pytest

from gamma_nlp.errors import GammaError
from gamma_nlp.files.read import read_lines


@pytest.mark.parametrize("line", [b"a dog\n", b"\n"])
def test_a_packed_file_cannot_fill_memory(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "hyp.gz"
    path.write_bytes(gzip.compress(line * (40_000_000 // len(line)), 1))
    tracemalloc.start()
    with pytest.raises(GammaError, match=r"hyp\.gz: its [\d,]+ bytes unpack to more than .*unpack"):
        read_lines(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 150e6
