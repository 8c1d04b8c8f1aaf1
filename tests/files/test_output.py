"""Only what this package wrote is replaced."""

from __future__ import annotations

from pathlib import Path

import pytest

from gamma_nlp.errors import GammaError
from gamma_nlp.files.output import MANIFEST, check_target, checksums
from gamma_nlp.files.write import write_lines


def test_only_a_folder_of_ours_is_replaced(tmp_path: Path) -> None:
    target = tmp_path / "out"
    check_target(target, None, overwrite=False)
    target.mkdir()
    with pytest.raises(GammaError, match="exists; add --overwrite"):
        check_target(target, None, overwrite=False)
    (target / "precious").touch()
    with pytest.raises(GammaError, match=f"no {MANIFEST}"):
        check_target(target, None, overwrite=True)
    (target / MANIFEST).touch()
    check_target(target, None, overwrite=True)
    with pytest.raises(GammaError, match="holds the input"):
        check_target(target, target / "precious", overwrite=True)


def test_checksums_are_by_path_within_the_folder(tmp_path: Path) -> None:
    write_lines(tmp_path / "deep" / "a", ["x"])
    digest = "73cb3858a687a8494ca3323053016282f3dad39d42cf62ca4e79dda2aac7d9ac"
    assert checksums(tmp_path) == {"deep/a": digest}
