"""What became of each item: written whole, read strictly, never as code."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from gamma_nlp.errors import GammaError
from gamma_nlp.tasks.run.items import Items, read_items, write_items


def items(count: int = 5, **columns: np.ndarray) -> Items:
    correct = np.arange(count) % 2
    return Items(ids=np.arange(count).astype(str), columns={"correct": correct, **columns})


def test_items_come_back_as_they_were(tmp_path: Path) -> None:
    counts = np.arange(50, dtype=np.int32).reshape(5, 10)
    written = items(bleu=counts, loss=np.linspace(0, 1, 5, dtype=np.float32))
    write_items(tmp_path / "deep" / "dev.npz", written)
    read = read_items(tmp_path / "deep" / "dev.npz")
    assert read.ids.tolist() == ["0", "1", "2", "3", "4"]
    assert read.columns.keys() == written.columns.keys()
    for name, values in written.columns.items():
        assert np.array_equal(read.columns[name], values)


def test_what_numpy_wrote_by_hand_is_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "own.npz", id=np.array([7, 3]), correct=np.array([True, False]))
    assert read_items(tmp_path / "own.npz").ids.tolist() == [7, 3]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.99])
def test_a_file_cut_short_is_named(tmp_path: Path, share: float) -> None:
    file = tmp_path / "dev.npz"
    write_items(file, items(200))
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    with pytest.raises(GammaError, match=r"dev\.npz cannot be read as items \(cut short\?\)"):
        read_items(file)


def test_a_damaged_byte_is_found(tmp_path: Path) -> None:
    file = tmp_path / "dev.npz"
    write_items(file, items(2000, loss=np.random.default_rng(0).random(2000)))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
    with pytest.raises(GammaError, match=r"dev\.npz cannot be read as items"):
        read_items(file)


class _Harm:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("harmed"),))  # type: ignore[return-value]


def test_code_in_a_file_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pickle.npz").write_bytes(pickle.dumps(_Harm()))
    objects = np.array([_Harm()], dtype=object)
    np.savez(tmp_path / "objects.npz", allow_pickle=True, id=np.array(["a"]), correct=objects)
    for name in ("pickle.npz", "objects.npz"):
        with pytest.raises(GammaError, match="cannot be read as items"):
            read_items(tmp_path / name)
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize(
    ("ids", "columns", "why"),
    [
        (["a", "b", "a"], {}, "more than once: 'a'$"),
        (["a", "b"], {"correct": np.ones(3)}, "'correct' has 3 rows, not 2"),
        (["a", "b"], {"loss": np.array([1.0, np.nan])}, "'loss' is not a number at item b"),
        (["a", "b"], {"loss": np.array([np.inf, 1.0])}, "'loss' is not a number at item a"),
        (["a", "b"], {"text": np.array(["x", "y"])}, "'text' must hold numbers"),
        (["a", "b"], {"cube": np.ones((2, 2, 2))}, "'cube' must hold numbers"),
        ([], {}, "at least one"),
        ([["a"], ["b"]], {}, "one row of names"),
    ],
)
def test_what_cannot_be_items_is_refused(
    tmp_path: Path, ids: list[str], columns: dict[str, np.ndarray], why: str
) -> None:
    with pytest.raises(GammaError, match=why):
        write_items(tmp_path / "x.npz", Items(ids=np.array(ids, dtype=np.str_), columns=columns))
    assert not (tmp_path / "x.npz").exists()


def test_a_file_without_ids_or_of_one_array_says_so(tmp_path: Path) -> None:
    np.savez(tmp_path / "nameless.npz", correct=np.ones(2))
    with pytest.raises(GammaError, match="has no array 'id'"):
        read_items(tmp_path / "nameless.npz")
    np.save(tmp_path / "one.npy", np.ones(2))
    with pytest.raises(GammaError, match="holds one array"):
        read_items(tmp_path / "one.npy")
    with pytest.raises(GammaError, match=r"absent\.npz"):
        read_items(tmp_path / "absent.npz")
