"""Read small image sets as tensors: MNIST's idx files, CIFAR-10's batches, made-up images."""

from __future__ import annotations

import gzip
import os
import pickle
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gamma_nlp.errors import GammaError, need, one_line


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """Images to train and to test on, with their classes.

    Attributes:
        name: Its name in reports, with its size where it is not the whole set.
        train_images: uint8 of shape [N, C, H, W].
        train_labels: int64 of shape [N].
        test_images: uint8 of shape [M, C, H, W].
        test_labels: int64 of shape [M].
    """

    name: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor

    def first(self, train: int, test: int) -> ImageSet:
        """Return the first ``train`` and ``test`` images, as views."""
        return replace(
            self,
            train_images=self.train_images[:train],
            train_labels=self.train_labels[:train],
            test_images=self.test_images[:test],
            test_labels=self.test_labels[:test],
        )


def data_folder(given: str | os.PathLike[str] | None, name: str, option: str) -> Path:
    """Return the folder of a dataset: ``given``, or else ``name`` in ``GAMMA_NLP_DATA``.

    Args:
        given: The value of ``option``, if there is one.
        name: The folder's name in ``GAMMA_NLP_DATA``.
        option: The command's option, for the message.

    Raises:
        GammaError: There is no such folder.
    """
    root = os.environ.get("GAMMA_NLP_DATA")
    if given is None and not root:
        raise GammaError(
            f"where is {name}? Give its folder with {option}, or set GAMMA_NLP_DATA to the folder "
            f"that has {name} in it"
        )
    folder = Path(root or "", name) if given is None else Path(given)
    if not folder.is_dir():
        raise GammaError(f"there is no folder {str(folder)!r}; give the folder of {name}: {option}")
    return folder


def mnist(folder: str | os.PathLike[str]) -> ImageSet:
    """Read MNIST from its four idx files, packed (``.gz``) or not.

    Raises:
        GammaError: A file is missing, cut short, or not what its name says.
    """
    parts: dict[str, Tensor] = {}
    for split, stem in (("train", "train"), ("test", "t10k")):
        images = _idx(_found(Path(folder), f"{stem}-images-idx3-ubyte"), dims=3)
        listed = _found(Path(folder), f"{stem}-labels-idx1-ubyte")
        labels = _idx(listed, dims=1).long()
        _check(listed, labels, len(images))
        parts |= {f"{split}_images": images.unsqueeze(1), f"{split}_labels": labels}
    return ImageSet(name="MNIST", **parts)


def cifar10(folder: str | os.PathLike[str]) -> ImageSet:
    """Read CIFAR-10: the official python batches, or a subset of PNG files.

    The official set is ``data_batch_1`` to ``data_batch_5`` and ``test_batch`` (the folder
    ``cifar-10-batches-py``). The subset has ``cifar10_batch_N.png``, one image a row of 1024 RGB
    pixels, N below 50 for training, 1,000 images each, and ``labels_51000.txt``, one label a line.

    Raises:
        GammaError: A file is missing, cut short, or not what its name says.
    """
    folder = Path(folder)
    if (folder / "labels_51000.txt").is_file():
        return _cifar10_pngs(folder)
    nested = folder / "cifar-10-batches-py"
    folder = nested if nested.is_dir() else folder
    batches = [_cifar10_batch(folder / f"data_batch_{i}") for i in range(1, 6)]
    test_images, test_labels = _cifar10_batch(folder / "test_batch")
    return ImageSet(
        name="CIFAR-10",
        train_images=torch.cat([images for images, _ in batches]),
        train_labels=torch.cat([labels for _, labels in batches]),
        test_images=test_images,
        test_labels=test_labels,
    )


def synthetic(
    train: int = 256, test: int = 128, shape: tuple[int, int, int] = (1, 28, 28), seed: int = 0
) -> ImageSet:
    """Make up images: ten random patterns under noise, easy to learn, for runs without data.

    Args:
        train: Number of training images.
        test: Number of test images.
        shape: Channels, height, width.
        seed: Seed of patterns and noise.
    """
    generator = torch.Generator().manual_seed(seed)
    patterns = 255 * torch.rand(10, *shape, generator=generator)
    labels = torch.arange(train + test) % 10
    noise = 60 * torch.randn(train + test, *shape, generator=generator)
    images = (patterns[labels] + noise).clamp(0, 255).to(torch.uint8)
    return ImageSet(
        name="synthetic",
        train_images=images[:train],
        train_labels=labels[:train],
        test_images=images[train:],
        test_labels=labels[train:],
    )


def _found(folder: Path, name: str) -> Path:
    packed, plain = folder / f"{name}.gz", folder / name
    return plain if plain.is_file() and not packed.is_file() else packed


def _idx(path: Path, dims: int) -> Tensor:
    """Read an idx file: 0, 0, type 8 (bytes), number of dimensions, their sizes (int32), data."""
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
    except FileNotFoundError:
        raise GammaError(f"{path} is missing; the folder must hold MNIST's four files") from None
    except (OSError, EOFError, zlib.error) as error:
        raise GammaError(
            f"{path} is not a whole gzip file ({one_line(error)}); fetch it again"
        ) from error
    head = 4 + 4 * dims
    if content[:4] != bytes((0, 0, 8, dims)) or len(content) < head:
        raise GammaError(
            f"{path} is not an idx file of bytes with {dims} dimensions; fetch it again"
        )
    shape = [int.from_bytes(content[i : i + 4], "big") for i in range(4, head, 4)]
    pixels = torch.frombuffer(bytearray(content), dtype=torch.uint8)[head:]
    if pixels.numel() != torch.Size(shape).numel() or (dims == 3 and shape[1:] != [28, 28]):
        raise GammaError(
            f"{path} says shape {tuple(shape)} and has {pixels.numel()} bytes after its header; "
            "MNIST's images are 28 x 28; fetch it again"
        )
    return pixels.view(shape)


def _cifar10_pngs(folder: Path) -> ImageSet:
    listed = folder / "labels_51000.txt"
    try:
        labels = torch.tensor([int(line) for line in listed.read_text("utf-8").split()])
    except ValueError as error:
        raise GammaError(f"{listed}: a label is not a number ({one_line(error)})") from error
    parts: dict[bool, list[tuple[Tensor, Tensor]]] = {False: [], True: []}
    for number in range(51):
        path = folder / f"cifar10_batch_{number}.png"
        if path.is_file():
            images = _png_rows(path)
            own = labels[1000 * number : 1000 * number + len(images)]
            _check(listed, own, len(images))
            parts[number == 50].append((images, own))
    for test, name in ((False, "cifar10_batch_0.png"), (True, "cifar10_batch_50.png")):
        if not parts[test]:
            raise GammaError(f"{folder / name} is missing; give the folder that has it")
    train_images, train_labels = (torch.cat(one) for one in zip(*parts[False], strict=True))
    test_images, test_labels = (torch.cat(one) for one in zip(*parts[True], strict=True))
    return ImageSet(
        name=f"CIFAR-10, first {len(train_images):,} training and {len(test_images):,} test images",
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
    )


def _png_rows(path: Path) -> Tensor:
    image = need("PIL.Image", "plot", "PNG files need")
    try:
        with image.open(path) as picture:
            width, height = picture.size
            mode, pixels = picture.mode, picture.tobytes()
    except (OSError, SyntaxError) as error:  # what pillow raises on a broken PNG
        raise GammaError(
            f"{path} is not a whole PNG ({one_line(error)}); fetch it again"
        ) from error
    if mode != "RGB" or width != 1024:
        raise GammaError(f"{path} has {width} {mode} pixels a row, expected 1024 RGB pixels")
    rows = torch.frombuffer(bytearray(pixels), dtype=torch.uint8).view(height, 32, 32, 3)
    return rows.permute(0, 3, 1, 2).contiguous()


class _Unpickler(pickle._Unpickler):
    """Build only arrays and plain values: any other pickle could run code.

    The unpickler in C makes room for as many values as a damaged pickle numbers; this one does not.
    """

    def find_class(self, module: str, name: str) -> Any:
        import numpy as np

        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return np.empty(0).__reduce__()[0]
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return getattr(np, name)
        if (module, name) == ("_codecs", "encode"):
            return lambda text, encoding: text.encode(encoding)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def _cifar10_batch(path: Path) -> tuple[Tensor, Tensor]:
    try:
        with path.open("rb") as stream:
            batch = _Unpickler(stream, encoding="bytes").load()
        rows, labels = torch.from_numpy(batch[b"data"].copy()), torch.tensor(batch[b"labels"])
    except FileNotFoundError:
        raise GammaError(
            f"{path} is missing; give the folder of CIFAR-10's python batches (data_batch_1 to "
            "data_batch_5, test_batch), or one with labels_51000.txt and its PNG files"
        ) from None
    except Exception as error:  # a broken pickle can raise anything
        raise GammaError(
            f"{path} is not a whole batch of CIFAR-10 ({type(error).__name__}: {one_line(error)})"
        ) from error
    if rows.dtype != torch.uint8 or rows.dim() != 2 or rows.shape[1] != 3072:
        raise GammaError(
            f"{path}: its data are {rows.dtype} of shape {tuple(rows.shape)}, expected "
            "torch.uint8 of shape (N, 3072)"
        )
    _check(path, labels, len(rows))
    return rows.view(-1, 3, 32, 32), labels


def _check(path: Path, labels: Tensor, images: int) -> None:
    if len(labels) != images:
        raise GammaError(f"{path} has {len(labels)} labels for {images} images")
    if images and (int(labels.min()) < 0 or int(labels.max()) > 9):
        raise GammaError(f"{path} has labels outside 0 to 9")
