"""Compressed files load back bit for bit, are as small as they say, and are refused if broken."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gamma_nlp import GammaError
from gamma_nlp.companions.strong.compressed import load_compressed, save_compressed
from gamma_nlp.companions.strong.sparsity import sparsity_report
from tests.support.compressed import Held, same_bits, thin


def test_different_values_for_tied_tensors_are_refused_and_the_model_is_left(
    tmp_path: Path,
) -> None:
    class Two(nn.Module):
        def __init__(self, tied: bool) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
            if tied:
                self.second.weight = self.first.weight

    path, untied, tied = tmp_path / "file", Two(tied=False), Two(tied=True)
    save_compressed(untied, path)
    before = tied.first.weight.detach().clone()
    with pytest.raises(GammaError, match=r"'first.weight' and 'second.weight' have different"):
        load_compressed(path, tied)
    assert torch.equal(tied.first.weight, before)
    save_compressed(tied, path)
    load_compressed(path, untied)
    assert torch.equal(untied.second.weight, before)
    with torch.no_grad():
        untied.second.weight.copy_(untied.first.weight)
    save_compressed(untied, path)
    load_compressed(path, tied)  # not tied, but equal


def test_an_expanded_buffer_is_loaded_or_refused_and_the_model_is_left(tmp_path: Path) -> None:
    path = tmp_path / "file"
    save_compressed(Held(torch.full((3, 4), 2.0)), path)
    model = Held(torch.zeros(1, 4).expand(3, 4))
    load_compressed(path, model)
    assert model.held.tolist() == [[2.0] * 4] * 3
    save_compressed(Held(torch.arange(12.0).view(3, 4)), path)
    with pytest.raises(GammaError, match="'held' has different values where the model has one"):
        load_compressed(path, model)
    assert model.held.tolist() == [[2.0] * 4] * 3


def test_a_file_of_the_first_format_still_loads(tmp_path: Path) -> None:
    path, layer = tmp_path / "file", nn.Linear(50, 30)
    save_compressed(layer, path)
    path.write_bytes(path.read_bytes().replace(b"compressed.2", b"compressed.1"))
    load_compressed(path, nn.Linear(50, 30))


def test_a_model_without_tensors_is_not_compressed() -> None:
    report = sparsity_report(nn.Identity())
    assert (report.compression, report.parameters_to_nonzeros, report.sparsity) == (1, 1, 0)


class Zoo(nn.Module):
    """Tied, frozen, half-precision, whole-number, empty and single-number tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.big = nn.Linear(300, 200)
        self.tied = nn.Linear(300, 200)
        self.tied.weight = self.big.weight
        self.conv = nn.Conv2d(8, 16, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.small = nn.Parameter(thin((40, 50), torch.bfloat16, 0.1), requires_grad=False)
        self.norm = nn.BatchNorm1d(4)
        self.buffer: Tensor
        self.register_buffer("buffer", thin((9, 90), torch.int32, 0.05))
        self.register_buffer("flags", torch.tensor([True, False, True]))
        self.register_buffer("empty", torch.zeros(0, 3))
        self.register_buffer("one", torch.tensor(-0.0))
        self.register_buffer("transient", torch.ones(3), persistent=False)
        whole = torch.arange(12.0)
        self.first, self.second = nn.Parameter(whole[:6]), nn.Parameter(whole[6:])
        self.viewed = nn.Parameter(self.first.data.view(2, 3))
        with torch.no_grad():
            self.big.weight[torch.rand(200, 300) < 0.97] = 0.0
            self.conv.weight[torch.rand_like(self.conv.weight) < 0.6] = 0.0


@pytest.fixture
def zoo() -> Zoo:
    torch.manual_seed(0)
    return Zoo()


def test_a_whole_model_comes_back_bit_for_bit(zoo: Zoo, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "model.safetensors"
    save_compressed(zoo, path)
    torch.manual_seed(1)
    other = Zoo()
    load_compressed(path, other)
    for name, tensor in zoo.state_dict().items():
        assert same_bits(other.state_dict()[name].contiguous(), tensor.contiguous()), name
    assert other.big.weight is other.tied.weight
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_report_tells_the_true_size(zoo: Zoo, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    report = save_compressed(zoo, path)
    assert report.file_bytes == path.stat().st_size
    header = 8 + struct.unpack("<Q", path.read_bytes()[:8])[0]
    assert report.stored_bytes == report.file_bytes - header
    assert report.compression == pytest.approx(report.dense_bytes / report.file_bytes)
    rows = {row.names[0]: row for row in report}
    weight = zoo.big.weight
    assert rows["big.weight"].names == ("big.weight", "tied.weight")
    assert rows["big.weight"].zeros == int((weight == 0).sum())
    assert rows["big.weight"].form == "rows" and rows["big.weight"].dense_bytes == 4 * 60_000
    assert rows["one"].zeros == 1 and rows["one"].stored_bytes == 4
    assert report.elements == sum(row.elements for row in report)
    assert report.parameters_to_nonzeros == report.elements / (report.elements - report.zeros)
    text = str(report)
    assert "big.weight = tied.weight" in text and f"on disk {report.file_bytes:,} bytes" in text


def test_without_a_file_the_report_is_of_what_would_be_stored(zoo: Zoo, tmp_path: Path) -> None:
    report = sparsity_report(zoo)
    assert report.file_bytes is None and "on disk" not in str(report)
    assert report.compression == report.dense_bytes / report.stored_bytes
    assert report.rows == save_compressed(zoo, tmp_path / "file").rows


@pytest.mark.parametrize("kind", ["shape", "dtype", "missing", "strange"])
def test_another_model_is_refused_and_left_as_it_was(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    save_compressed(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), path)
    other, message = {
        "shape": (nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 5)), r"'1.weight' is .*\(4, 4\)"),
        "dtype": (nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)).half(), "the model's is float16"),
        "missing": (nn.Sequential(*(nn.Linear(4, 4) for _ in range(3))), "it lacks '2.bias'"),
        "strange": (nn.Sequential(nn.Linear(4, 4)), "the model has no '1.bias', '1.weight'"),
    }[kind]
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    with pytest.raises(GammaError, match=message):
        load_compressed(path, other)
    assert all(torch.equal(before[name], t) for name, t in other.state_dict().items())


def test_a_file_that_is_cut_short_or_foreign_is_refused(zoo: Zoo, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "file"
    with pytest.raises(GammaError, match="no file"):
        load_compressed(path, zoo)
    save_compressed(zoo, path)
    whole = path.read_bytes()
    for broken in (whole[:-7], whole[:100], whole[:4], b"", b"{}" * 50):
        path.write_bytes(broken)
        with pytest.raises(GammaError, match="not a whole safetensors file"):
            load_compressed(path, zoo)
    save_file({"x": torch.ones(3)}, path)
    with pytest.raises(GammaError, match="not written by save_compressed"):
        load_compressed(path, zoo)


def test_where_nothing_can_be_written_is_said_and_nothing_is_left(tmp_path: Path) -> None:
    layer = nn.Linear(2, 2)
    with pytest.raises(GammaError, match="is a folder; give the name of a file in it"):
        save_compressed(layer, tmp_path)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(GammaError, match="cannot be written"):
        save_compressed(layer, tmp_path / "file" / "below")
    assert [one.name for one in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "mine"


def edited(path: Path, change: Any) -> None:
    """Rewrite the index in a file's header."""
    whole = path.read_bytes()
    size = struct.unpack("<Q", whole[:8])[0]
    header = json.loads(whole[8 : 8 + size])
    index = json.loads(header["__metadata__"]["tensors"])
    change(index)
    header["__metadata__"]["tensors"] = json.dumps(index)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + whole[8 + size :])


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("form", "mask", r"damaged: KeyError.*0.weight#mask"),
        ("form", "odd", "damaged: KeyError"),
        ("shape", [31, 1000], "damaged at '0.weight': starts that are not those of 31 rows"),
        ("shape", [30, 5], "damaged at '0.weight': columns outside 0 to 4"),
        ("dtype", "float16", r"damaged at '0.weight': values are torch.float32"),
        ("dtype", "nothing", "damaged: AttributeError"),
        ("names", [], "damaged: IndexError"),
    ],
)
def test_an_index_that_does_not_fit_its_parts_is_refused(
    key: str, value: Any, message: str, tmp_path: Path
) -> None:
    model = nn.Sequential(nn.Linear(1000, 30))
    with torch.no_grad():
        model[0].weight[:, 10:] = 0.0
    path = tmp_path / "file"
    save_compressed(model, path)
    edited(path, lambda index: index[0].update({key: value}))
    with pytest.raises(GammaError, match=message):
        load_compressed(path, model)


def test_state_that_is_not_a_tensor_is_refused(tmp_path: Path) -> None:
    class Extra(nn.Linear):
        def get_extra_state(self) -> Any:
            return {"a": 1}

        def set_extra_state(self, state: Any) -> None:
            pass

    with pytest.raises(GammaError, match="'_extra_state' in the model's state is a"):
        save_compressed(Extra(2, 2), tmp_path / "file")
    assert not list(tmp_path.iterdir())
    with torch.device("meta"):
        ghost = nn.Linear(2, 2)
    with pytest.raises(GammaError, match="meta device"):
        sparsity_report(ghost)
    save_compressed(nn.Linear(2, 2), tmp_path / "file")
    with pytest.raises(GammaError, match="meta device"):
        load_compressed(tmp_path / "file", ghost)


@pytest.mark.parametrize("shape", [[30, 2**31 - 1], [2**31 - 1, 2**31 - 1], [1, 10**9]])
def test_a_file_that_declares_more_than_the_model_holds_takes_no_memory(
    shape: list[int], tmp_path: Path
) -> None:
    model = nn.Sequential(nn.Linear(1000, 30))
    nn.init.zeros_(model[0].weight)
    path = tmp_path / "file"
    save_compressed(model, path)
    edited(path, lambda index: index[0].update({"shape": shape}))
    with pytest.raises(GammaError, match=r"it holds [\d,]+ values, and the model has room for 30,"):
        load_compressed(path, model)
