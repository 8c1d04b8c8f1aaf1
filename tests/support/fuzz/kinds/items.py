"""What became of each item of an evaluation set."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from tests.support.fuzz.inputs import Files
from tests.support.fuzz.kind import Kind, Touch, made


def _items(folder: Path) -> None:
    from gamma_nlp.tasks.run.items import read_items

    read_items(folder / "items.npz")


def _item_files() -> tuple[dict[str, bytes], ...]:
    from gamma_nlp.tasks.run.items import Items, write_items

    items = Items(ids=np.array(["a", "b", "c"]), columns={"right": np.array([1.0, 0.0, 1.0])})
    return (made(lambda folder: write_items(folder / "items.npz", items)),)


def _item_hostile() -> tuple[Files, ...]:
    bomb, objects = io.BytesIO(), io.BytesIO()
    np.savez_compressed(bomb, id=np.arange(3), x=np.zeros(40_000_000))
    np.savez(objects, id=np.array([Touch()], dtype=object))
    return {"items.npz": bomb.getvalue()}, {"items.npz": objects.getvalue()}


ITEMS = Kind(good=_item_files, read=_items, share=2, hostile=_item_hostile)
