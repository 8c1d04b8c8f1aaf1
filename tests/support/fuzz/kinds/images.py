"""MNIST and CIFAR-10."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path

import numpy as np

from tests.support.fuzz.inputs import Files
from tests.support.fuzz.kind import Kind, Touch


def _images(folder: Path) -> None:
    from recipes.common.images import cifar10, mnist

    (cifar10 if any(folder.glob("*batch*")) else mnist)(folder)


def _image_files() -> tuple[dict[str, bytes], ...]:
    def idx(array: np.ndarray) -> bytes:
        head = bytes((0, 0, 8, array.ndim)) + b"".join(n.to_bytes(4, "big") for n in array.shape)
        return gzip.compress(head + array.tobytes())

    pixels, labels = np.zeros((4, 28, 28), np.uint8), np.arange(4, dtype=np.uint8)
    parts = {"train": "train", "t10k": "t10k"}
    digits = {f"{p}-images-idx3-ubyte.gz": idx(pixels) for p in parts}
    digits |= {f"{p}-labels-idx1-ubyte.gz": idx(labels) for p in parts}
    rows = {b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 1]}
    names = [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]
    return digits, {name: pickle.dumps(rows, protocol=2) for name in names}


def _image_hostile() -> tuple[Files, ...]:
    cifar = _image_files()[1]
    return ({**cifar, "data_batch_1": pickle.dumps(Touch())},)


IMAGES = Kind(good=_image_files, read=_images, share=1.5, hostile=_image_hostile)
