"""Checkpoints of fairseq, with their dictionaries."""

from __future__ import annotations

import pickle
from pathlib import Path

from tests.support.fuzz.inputs import Files
from tests.support.fuzz.kind import Kind, Touch, made, torch_bytes


def _fairseq(folder: Path) -> None:
    from gamma_nlp.fairseq.convert.checkpoint import read_checkpoint
    from gamma_nlp.fairseq.convert.files import _fairseq

    with _fairseq():
        read_checkpoint(folder / "checkpoint.pt", folder / "data")


def _fairseq_files() -> tuple[dict[str, bytes], ...]:
    from gamma_nlp.fairseq.convert.files import _fairseq

    words = "".join(f"{word} 1\n" for word in ("Der", "Hund", "sieht", "The", "dog", "sees", "."))
    data = {f"data/dict.{language}.txt": words.encode() for language in ("de", "en")}

    def make(folder: Path) -> None:
        from tests.support.fairseq_models import as_older_release, model_state, save

        for name, content in data.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
        with _fairseq():
            state = model_state(folder / "data")
            save(state, folder / "checkpoint.pt")
            save(as_older_release(state), folder / "older.pt")

    whole = made(make)
    older = {**data, "checkpoint.pt": whole.pop("older.pt")}
    return whole, older


def _fairseq_hostile() -> tuple[Files, ...]:
    words = {"data/dict.de.txt": b"a 1\n", "data/dict.en.txt": b"a 1\n"}
    return (
        {**words, "checkpoint.pt": torch_bytes({"cfg": Touch(), "model": {}})},
        {**words, "checkpoint.pt": pickle.dumps(Touch())},
        {**words, "checkpoint.pt": torch_bytes({"args": None, "cfg": {"model": 3}, "model": {}})},
    )


FAIRSEQ = Kind(good=_fairseq_files, read=_fairseq, share=0.5, hostile=_fairseq_hostile)
