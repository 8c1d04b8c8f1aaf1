"""Tensors of every shape and dtype take their smallest form and come back bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from gamma_nlp import GammaError
from gamma_nlp.companions.strong.compressed import load_compressed, save_compressed
from gamma_nlp.companions.strong.sparse_forms import pack, unpack
from gamma_nlp.companions.strong.sparsity import sparsity_report
from tests.support.compressed import Held, same_bits, thin

FLOATS = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.float8_e4m3fn]
DTYPES = [
    *FLOATS, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
    torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz, torch.float8_e8m0fnu,
    torch.uint16, torch.uint32, torch.uint64, torch.complex128, torch.complex64, torch.complex32,
]  # fmt: skip
EVERY = sorted({one for one in vars(torch).values() if isinstance(one, torch.dtype)}, key=str)
SHAPES = [(), (1,), (7,), (0,), (3, 0), (5, 13), (40, 3, 3, 3), (2, 70_000)]


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


def test_masks_and_values_of_unequal_number_are_refused() -> None:
    packed = pack(thin((50,), torch.float32, 0.3))
    assert packed.form == "mask"
    packed.parts["values"] = packed.parts["values"][1:]
    with pytest.raises(GammaError, match="values for"):
        unpack(packed, (50,), torch.float32)
    with pytest.raises(GammaError, match="mask of 7 bytes for 80"):
        unpack(packed, (80,), torch.float32)
