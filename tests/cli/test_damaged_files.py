"""No damaged file is a traceback: either it is read, or one line names it."""

from __future__ import annotations

import io
import itertools
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from gamma_nlp import DecayPolicy, GammaError
from gamma_nlp.companions.strong.compressed import load_compressed, save_compressed
from gamma_nlp.hf.models import load_model
from gamma_nlp.tasks.translation.prepare import iwslt14
from gamma_nlp.tasks.translation.score_files import read_log, read_pairs
from tests.support.mutants import of_bytes, of_values

POLICY = {
    "base": "all",
    "name": "mine",
    "branch_inner": 0.5,
    "embedding": None,
    "kinds": {"qk_norm": 0},
    "patterns": {"*.bias": 0.1, "h.*": 2},
    "mode": "coupled",
}
CONFIG = {
    "model_type": "bert",
    "architectures": ["BertForSequenceClassification"],
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "vocab_size": 16,
    "max_position_embeddings": 8,
    "layer_norm_eps": 1e-12,
    "hidden_act": "gelu",
    "dtype": "float32",
    "id2label": {"0": "LABEL_0", "1": "LABEL_1"},
    "pad_token_id": 0,
}
LOG = "".join(f"S-{n}\tein Hund {n}\nT-{n}\ta dog {n}\nH-{n}\t-0.5\ta dog {n}\n" for n in range(4))


def policy(data: bytes, folder: Path, suffix: str) -> None:
    path = folder / f"policy{suffix}"
    path.write_bytes(data)
    found = DecayPolicy.load(path)
    assert all(0 <= value < float("inf") for value in found.patterns.values())


def config(data: bytes, folder: Path) -> None:
    path = folder / "config.json"
    path.write_bytes(data)
    assert isinstance(load_model(path), nn.Module)


def log(data: bytes, folder: Path) -> None:
    path = folder / "generate.log"
    path.write_bytes(data)
    assert all(read_log(path).pairs.sides)


def two_files(data: bytes, folder: Path) -> None:
    hyp, ref = folder / "hyp.txt", folder / "ref.txt"
    hyp.write_bytes(data)
    ref.write_text(LOG)
    assert len(read_pairs(hyp, ref).hypotheses) == LOG.count("\n")


def archive(data: bytes, folder: Path) -> None:
    iwslt14.read_iwslt14(iwslt14.unpack(data, str(folder)), str(folder))


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 9), nn.Linear(9, 40)).bfloat16().append(nn.BatchNorm1d(5))


def compressed(data: bytes, folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(data)
    model = small()
    before = [value.clone() for value in model.state_dict().values()]
    try:
        load_compressed(path, model)
    except GammaError:
        after = model.state_dict().values()
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
        raise


def good_archive(mode: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{mode}") as tar:
        for name in iwslt14._members():
            text = b'<seg id="1"> ein Hund </seg>\n' if name.endswith("xml") else b"ein Hund\n"
            member = tarfile.TarInfo(f"de-en/{name}")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text))
    return buffer.getvalue()


def good_compressed() -> bytes:
    model = small()
    with torch.no_grad():
        model[0].weight[:, 1:] = 0
        model[1].weight[torch.rand(40, 9) < 0.7] = 0
    path = Path("good.safetensors")
    save_compressed(model, path)
    data = path.read_bytes()
    path.unlink()
    return data


def of_index(seed: int) -> Iterator[bytes]:
    """Compressed files whose tensors are sound and whose index is not."""
    data = good_compressed()
    size = int.from_bytes(data[:8], "little")
    header, tensors = json.loads(data[8 : 8 + size]), data[8 + size :]
    index = json.loads(header["__metadata__"]["tensors"])
    for content in of_values({"tensors": index}, seed):
        changed = json.dumps(content.get("tensors"))
        new = {**header, "__metadata__": {**header["__metadata__"], "tensors": changed}}
        head = json.dumps(new).encode()
        yield len(head).to_bytes(8, "little") + head + tensors


def texts(content: dict[str, Any], seed: int) -> Iterator[bytes]:
    """JSON texts, every tenth with a key that is there twice."""
    for number, values in enumerate(of_values(content, seed)):
        text = json.dumps(values)
        twice = text[:-1] + ", " + text[1:] if number % 10 == 9 and len(values) > 1 else text
        yield twice.encode("utf-8")


CASES: dict[str, tuple[Callable[..., None], Callable[[int], Iterator[bytes]]]] = {
    "policy.yaml": (
        lambda data, folder: policy(data, folder, ".yaml"),
        lambda seed: of_bytes(yaml.safe_dump(POLICY).encode(), seed),
    ),
    "policy.json": (
        lambda data, folder: policy(data, folder, ".json"),
        lambda seed: of_bytes(json.dumps(POLICY, indent=1).encode(), seed),
    ),
    "policy's values": (
        lambda data, folder: policy(data, folder, ".json"),
        lambda seed: texts(POLICY, seed),
    ),
    "policy's values in YAML": (
        lambda data, folder: policy(data, folder, ".yml"),
        lambda seed: texts(POLICY, seed),
    ),
    "config.json": (config, lambda seed: of_bytes(json.dumps(CONFIG, indent=1).encode(), seed)),
    "config's values": (config, lambda seed: texts(CONFIG, seed)),
    "log": (log, lambda seed: of_bytes(LOG.encode(), seed)),
    "translations": (two_files, lambda seed: of_bytes(LOG.encode(), seed)),
    "archive": (
        archive,
        lambda seed: of_bytes(good_archive(("gz", "xz", "bz2", "")[seed % 4]), seed),
    ),
    "compressed file's index": (compressed, of_index),
    "compressed": (compressed, lambda seed: of_bytes(good_compressed(), seed)),
}


def try_all(name: str, folder: Path, seed: int, count: int) -> None:
    read, mutants = CASES[name]
    refused = 0
    for data in itertools.islice(mutants(seed), count):
        try:
            read(data, folder)
        except GammaError as error:
            refused += 1
            assert "\n" not in str(error)
            assert len(str(error)) < 1_000
    assert refused > count / 10  # else the damage is none


@pytest.mark.parametrize("name", CASES)
def test_a_damaged_file_is_read_or_refused_in_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    try_all(name, tmp_path, seed=0, count=40)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 4))
@pytest.mark.parametrize("name", CASES)
def test_many_more_damaged_files(
    name: str, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    try_all(name, tmp_path, seed, count=200)
