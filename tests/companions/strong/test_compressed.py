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
from gamma_nlp.companions.strong.sparse_forms import pack, unpack
from gamma_nlp.companions.strong.sparsity import sparsity_report

FLOATS = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.float8_e4m3fn]
DTYPES = [
    *FLOATS, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
    torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz, torch.float8_e8m0fnu,
    torch.uint16, torch.uint32, torch.uint64, torch.complex128, torch.complex64, torch.complex32,
]  # fmt: skip
EVERY = sorted({one for one in vars(torch).values() if isinstance(one, torch.dtype)}, key=str)
SHAPES = [(), (1,), (7,), (0,), (3, 0), (5, 13), (40, 3, 3, 3), (2, 70_000)]


def thin(shape: tuple[int, ...], dtype: torch.dtype, kept: float, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(1, 100, shape, generator=generator)
    values[torch.rand(shape, generator=generator) >= kept] = 0
    return values.to(torch.float32).to(dtype)


def same_bits(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return a.reshape(-1).view(torch.uint8).tolist() == b.reshape(-1).view(torch.uint8).tolist()


@pytest.mark.filterwarnings("ignore:ComplexHalf")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kept", [0.0, 0.02, 0.3, 1.0])
def test_every_shape_comes_back_bit_for_bit(dtype: torch.dtype, kept: float) -> None:
    for shape in SHAPES if kept == 0.02 or dtype == torch.float32 else SHAPES[:-1]:
        tensor = thin(shape, dtype, kept)
        again = unpack(pack(tensor), shape, dtype)
        if tensor.numel() > 1000:
            assert torch.equal(again.view(torch.uint8), tensor.view(torch.uint8))
        else:
            assert same_bits(again, tensor), shape


class Held(nn.Module):
    def __init__(self, tensor: Tensor) -> None:
        super().__init__()
        self.register_buffer("held", tensor)


def random_bits(dtype: torch.dtype, kept: float) -> Tensor:
    """A tensor of any bits, nan, infinities and -0.0 among them."""
    generator = torch.Generator().manual_seed(0)
    raw = torch.randint(0, 256, (40, 30 * dtype.itemsize), generator=generator, dtype=torch.uint8)
    bits = raw.view(40, 30, -1)
    bits[torch.rand(40, 30, generator=generator) >= kept] = 0
    bits[0, :, -1] = 128  # with the other bytes 0, the sign bit where there is one
    bits[0, :, :-1] = 0
    return bits.reshape(40, -1).view(dtype)


@pytest.mark.filterwarnings("ignore:ComplexHalf")
@pytest.mark.parametrize("dtype", EVERY, ids=str)
def test_every_dtype_of_torch_comes_back_from_a_file_or_is_refused_before(
    dtype: torch.dtype, tmp_path: Path
) -> None:
    for kept in (0.05, 0.3, 1.0):
        path = tmp_path / str(kept)
        if dtype == torch.bool:
            tensor = torch.arange(90).view(9, 10) % 3 == 0
        else:
            try:
                tensor = random_bits(dtype, kept)
            except (RuntimeError, TypeError, NotImplementedError, ValueError):
                tensor = torch.empty(3, dtype=dtype)
        model = Held(tensor)
        if dtype not in DTYPES:
            with pytest.raises(GammaError, match="'held' is "):
                save_compressed(model, path)
            assert list(tmp_path.iterdir()) == []
            return
        report = save_compressed(model, path)
        other = Held(torch.zeros_like(tensor))
        load_compressed(path, other)
        assert same_bits(other.held, tensor)
        assert report.stored_bytes == report.rows[0].stored_bytes <= report.dense_bytes
        if dtype in (torch.float32, torch.float64, torch.complex64, torch.int32, torch.uint8):
            assert report.zeros == int((tensor == 0).sum())


def test_minus_zeros_of_a_pruned_model_cost_a_bit() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(1000, 400, bias=False)
    mask = torch.rand(400, 1000) < 0.1
    with torch.no_grad():
        layer.weight.mul_(mask)
    report = sparsity_report(layer)
    assert report.rows[0].zeros == int((~mask).sum()) and report.rows[0].form == "signed mask"
    assert report.compression > 6.2
    packed = pack(layer.weight)
    assert packed.nbytes == report.stored_bytes
    assert same_bits(unpack(packed, (400, 1000), torch.float32), layer.weight.detach())
    with torch.no_grad():
        layer.weight.add_(0.0)
    assert sparsity_report(layer).compression == pytest.approx(7.6, abs=0.1)


def test_zeros_without_a_sign_bit_are_told_from_other_values() -> None:
    one = torch.full((20, 20), 128, dtype=torch.uint8)
    for dtype, zeros in ((torch.float8_e4m3fn, 400), (torch.float8_e4m3fnuz, 0)):
        assert sparsity_report(Held(one.view(dtype))).zeros == zeros  # -0.0, and nan
    nothing = torch.zeros(20, 20, dtype=torch.uint8)
    assert sparsity_report(Held(nothing.view(torch.float8_e8m0fnu))).zeros == 0  # 2**-127
    half = torch.zeros(20, 20, dtype=torch.complex64)
    half.imag[:5] = 1
    half.real[5:10] = -0.0
    assert sparsity_report(Held(half)).zeros == 300
    assert same_bits(unpack(pack(half.conj()), (20, 20), half.dtype), half.conj().resolve_conj())


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


def test_the_smallest_form_is_taken() -> None:
    forms = {kept: pack(thin((64, 1000), torch.float32, kept)).form for kept in (0.01, 0.2, 1.0)}
    assert forms == {0.01: "rows", 0.2: "mask", 1.0: "dense"}
    assert pack(thin((3, 70_000), torch.float32, 0.001)).parts["columns"].dtype == torch.int32
    assert pack(thin((3, 65_536), torch.float32, 0.001)).parts["columns"].dtype == torch.int16
    for kept in (0.01, 0.2):
        packed = pack(thin((64, 1000), torch.float32, kept))
        nonzeros = len(packed.parts["values"])
        csr, mask = 4 * 65 + 6 * nonzeros, 8000 + 4 * nonzeros
        assert packed.nbytes == min(csr, mask)


def test_columns_beyond_the_sign_bit_of_two_bytes_come_back() -> None:
    tensor = torch.zeros(2, 65_536)
    tensor[0, 65_535] = tensor[1, 32_768] = tensor[1, 32_767] = 5.0
    assert pack(tensor).form == "rows"
    assert torch.equal(unpack(pack(tensor), (2, 65_536), torch.float32), tensor)


def test_minus_zero_nan_payloads_and_infinities_survive() -> None:
    odd = [0x80000000, 0x7FC00001, 0xFFC12345, 0x7F800001, 0x7F800000, 0xFF800000, 1]
    bits = torch.zeros(6, 500, dtype=torch.int32)
    bits[2, :7] = torch.tensor([one - 2**32 if one >= 2**31 else one for one in odd])
    tensor = bits.view(torch.float32)
    packed = pack(tensor)
    assert packed.form == "rows" and len(packed.parts["values"]) == 7
    assert torch.equal(unpack(packed, (6, 500), torch.float32).view(torch.int32), bits)


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


def test_masks_and_values_of_unequal_number_are_refused() -> None:
    packed = pack(thin((50,), torch.float32, 0.3))
    assert packed.form == "mask"
    packed.parts["values"] = packed.parts["values"][1:]
    with pytest.raises(GammaError, match="values for"):
        unpack(packed, (50,), torch.float32)
    with pytest.raises(GammaError, match="mask of 7 bytes for 80"):
        unpack(packed, (80,), torch.float32)


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
