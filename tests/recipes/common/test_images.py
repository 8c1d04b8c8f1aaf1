"""Image sets are read as they are, and broken files are named."""

from __future__ import annotations

import gzip
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gamma_nlp import GammaError
from recipes.common.images import cifar10, data_folder, mnist, synthetic

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 3072), dtype=np.uint8)
LABELS = [3, 1, 4, 1, 5, 9]


def idx(values: np.ndarray) -> bytes:
    head = bytes((0, 0, 8, values.ndim))
    return head + b"".join(n.to_bytes(4, "big") for n in values.shape) + values.tobytes()


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    for stem, count in (("train", 6), ("t10k", 4)):
        images = PIXELS[:count, :784].reshape(count, 28, 28)
        labels = np.array(LABELS[:count], dtype=np.uint8)
        for name, content in (("images-idx3", idx(images)), ("labels-idx1", idx(labels))):
            (tmp_path / f"{stem}-{name}-ubyte.gz").write_bytes(gzip.compress(content))
    return tmp_path


def batch(path: Path, pixels: np.ndarray = PIXELS, labels: list[int] = LABELS) -> None:
    path.write_bytes(pickle.dumps({b"data": pixels, b"labels": labels}, protocol=2))


@pytest.fixture
def official(tmp_path: Path) -> Path:
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        batch(tmp_path / name)
    return tmp_path


@pytest.fixture
def pngs(tmp_path: Path) -> Path:
    from PIL import Image

    rows = PIXELS.reshape(6, 3, 1024).transpose(0, 2, 1)
    for number in (0, 50):
        Image.fromarray(np.ascontiguousarray(rows)).save(tmp_path / f"cifar10_batch_{number}.png")
    labels = LABELS + [0] * (50_000 - 6) + LABELS
    (tmp_path / "labels_51000.txt").write_text("\n".join(map(str, labels)), encoding="utf-8")
    return tmp_path


def test_mnist_comes_back_as_it_was_written(digits: Path) -> None:
    found = mnist(digits)
    assert found.train_images.shape == (6, 1, 28, 28)
    assert found.train_images.numpy().tobytes() == PIXELS[:, :784].tobytes()
    assert found.test_images.numpy().tobytes() == PIXELS[:4, :784].tobytes()
    assert (found.train_labels.tolist(), found.test_labels.tolist()) == (LABELS, LABELS[:4])
    assert (found.train_images.dtype, found.train_labels.dtype) == (torch.uint8, torch.int64)


def test_unpacked_mnist_is_read_too(digits: Path) -> None:
    packed = digits / "train-images-idx3-ubyte.gz"
    packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
    packed.unlink()
    assert mnist(digits).train_images.numpy().tobytes() == PIXELS[:, :784].tobytes()


def test_the_official_batches_are_read_in_order(official: Path) -> None:
    batch(official / "data_batch_5", PIXELS[::-1].copy(), LABELS[::-1])
    found = cifar10(official)
    assert found.train_images.shape == (30, 3, 32, 32)
    assert found.train_labels.tolist() == LABELS * 4 + LABELS[::-1]
    assert found.train_images[24:].numpy().tobytes() == PIXELS[::-1].tobytes()
    assert found.test_images.numpy().tobytes() == PIXELS.tobytes()


def test_the_folder_around_the_official_batches_will_do(official: Path, tmp_path: Path) -> None:
    inner = tmp_path / "cifar-10-batches-py"
    inner.mkdir()
    for path in list(official.iterdir()):
        if path.is_file():
            path.rename(inner / path.name)
    assert len(cifar10(tmp_path).train_labels) == 30


def test_the_png_subset_is_the_same_images(pngs: Path) -> None:
    found = cifar10(pngs)
    for images in (found.train_images, found.test_images):
        assert images.numpy().tobytes() == PIXELS.tobytes()
    assert found.train_labels.tolist() == found.test_labels.tolist() == LABELS
    assert "6 training and 6 test" in found.name


def test_a_pickle_that_would_run_something_is_refused(official: Path, tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "made"),)

    (official / "data_batch_2").write_bytes(pickle.dumps({b"data": Harmful()}, protocol=2))
    with pytest.raises(GammaError, match=r"data_batch_2 is not a whole batch.*mkdir"):
        cifar10(official)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"])
def test_broken_mnist_files_are_named(digits: Path, name: str) -> None:
    whole = (digits / name).read_bytes()
    content = gzip.decompress(whole)
    broken = [
        whole[:-12],
        b"no gzip at all",
        gzip.compress(content[:-5]),
        gzip.compress(content[:6]),
        gzip.compress(b""),
        gzip.compress(b"\0\0\x0d" + content[3:]),
    ]
    for one in broken:
        (digits / name).write_bytes(one)
        with pytest.raises(GammaError, match=name):
            mnist(digits)
    (digits / name).unlink()
    with pytest.raises(GammaError, match=rf"{name} is missing"):
        mnist(digits)


def test_labels_that_do_not_fit_the_images_are_refused(digits: Path) -> None:
    path = digits / "train-labels-idx1-ubyte.gz"
    for labels, match in (([1, 2], "2 labels for 6"), ([1, 2, 3, 4, 5, 77], "outside 0 to 9")):
        path.write_bytes(gzip.compress(idx(np.array(labels, dtype=np.uint8))))
        with pytest.raises(GammaError, match=match):
            mnist(digits)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "not a whole batch"),
        (pickle.dumps({b"data": PIXELS, b"labels": LABELS}, protocol=2)[:-40], "not a whole batch"),
        (pickle.dumps({b"data": PIXELS}, protocol=2), "labels"),
        (pickle.dumps([1, 2], protocol=2), "not a whole batch"),
        (b"\x80\x02}r\xff\xff\xff\x7f.", "not a whole batch"),  # room for 2 ** 31 values
        (pickle.dumps({b"data": PIXELS[:, 1:], b"labels": LABELS}, protocol=2), "3072"),
        (pickle.dumps({b"data": PIXELS, b"labels": LABELS[1:]}, protocol=2), "5 labels for 6"),
    ],
)
def test_broken_batches_are_named(official: Path, content: bytes, match: str) -> None:
    (official / "test_batch").write_bytes(content)
    with pytest.raises(GammaError, match=rf"test_batch.*{match}"):
        cifar10(official)


def test_broken_pngs_are_named(pngs: Path) -> None:
    from PIL import Image

    path = pngs / "cifar10_batch_0.png"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(GammaError, match=r"batch_0\.png is not a whole PNG"):
        cifar10(pngs)
    Image.new("RGB", (1000, 3)).save(path)
    with pytest.raises(GammaError, match="1000 RGB pixels a row"):
        cifar10(pngs)
    path.unlink()
    with pytest.raises(GammaError, match=r"batch_0\.png is missing"):
        cifar10(pngs)
    path.write_bytes(whole)
    (pngs / "labels_51000.txt").write_text("1 2 x", encoding="utf-8")
    with pytest.raises(GammaError, match="not a number"):
        cifar10(pngs)


def test_an_empty_folder_says_what_belongs_there(tmp_path: Path) -> None:
    with pytest.raises(GammaError, match=r"data_batch_1 is missing.*labels_51000"):
        cifar10(tmp_path)
    with pytest.raises(GammaError, match=r"images-idx3-ubyte.gz is missing.*four files"):
        mnist(tmp_path)


def test_the_made_up_set_is_the_same_each_time_and_can_be_learned() -> None:
    first, again = synthetic(50, 30, (3, 8, 8)), synthetic(50, 30, (3, 8, 8))
    assert torch.equal(first.train_images, again.train_images)
    assert first.train_images.shape == (50, 3, 8, 8)
    means = torch.stack(
        [first.train_images[first.train_labels == c].float().mean(0) for c in range(10)]
    )
    distance = (first.test_images.float()[:, None] - means).flatten(2).norm(dim=2)
    assert (distance.argmin(1) == first.test_labels).float().mean() > 0.9


def test_the_first_images_of_a_set_keep_their_labels() -> None:
    whole = synthetic(50, 30)
    part = whole.first(20, 10)
    assert torch.equal(part.train_images, whole.train_images[:20])
    assert torch.equal(part.test_labels, whole.test_labels[:10])


def test_the_folder_comes_from_the_option_or_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GAMMA_NLP_DATA", str(tmp_path))
    with pytest.raises(GammaError, match="no folder"):
        data_folder(None, "mnist", "--data")
    (tmp_path / "mnist").mkdir()
    assert data_folder(None, "mnist", "--data") == tmp_path / "mnist"
    assert data_folder(tmp_path, "mnist", "--data") == tmp_path
    monkeypatch.delenv("GAMMA_NLP_DATA")
    with pytest.raises(GammaError, match=r"--data.*GAMMA_NLP_DATA"):
        data_folder(None, "mnist", "--data")


def test_the_real_mnist_has_its_known_counts(real_data: Callable[[str], Path]) -> None:
    found = mnist(real_data("mnist"))
    assert (len(found.train_images), len(found.test_images)) == (60_000, 10_000)
    counts = torch.bincount(found.train_labels).tolist()
    assert counts == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert found.train_images.float().mean() / 255 == pytest.approx(0.1307, abs=1e-4)


def test_the_real_subset_of_cifar10_has_its_known_means(real_data: Callable[[str], Path]) -> None:
    found = cifar10(real_data("cifar10_subset"))
    assert found.train_images.shape == (10_000, 3, 32, 32)
    assert found.test_images.shape == (1_000, 3, 32, 32)
    assert found.train_labels[:6].tolist() == [6, 9, 9, 4, 1, 1]  # frog, trucks, deer, cars
    means = found.train_images.float().mean((0, 2, 3)) / 255
    torch.testing.assert_close(means, torch.tensor([0.491, 0.482, 0.447]), atol=0.01, rtol=0)
