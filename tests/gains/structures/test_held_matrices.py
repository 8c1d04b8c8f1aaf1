"""A matrix that no parameter holds is a weight where the signal is contracted with it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gamma_nlp import Role, categorize, probe
from tests.support.structures import HEAD, INNER, LAST, SHORTCUT, Net, linear, norm, short, signal

W = 16


def sandwich(weight: nn.Module) -> Net:
    """A branch of norm, ``weight``, norm: the first is ``branch_last`` without a weight."""

    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.embed(x)
        return m.final(x + m.post(m.weight(m.pre(x))))

    members = {name: norm(W) for name in ("pre", "post", "final")}
    return Net(forward, embed=linear(W, W), weight=weight, **members)


def post_norm(weight: nn.Module) -> Net:
    """A post-norm branch: without a weight on it the sum is no residual addition."""

    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.one(m.embed(x))
        return m.two(x + m.weight(x))

    return Net(forward, embed=linear(W, W), weight=weight, one=norm(W), two=norm(W))


def check(model: nn.Module, **expected: str) -> None:
    x = signal(2, 5, W)
    table = categorize(model, x)
    assert short(table) == expected
    report = probe(model, x, table)
    assert report.verdict == "agrees", str(report)


def check_weight(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    check(sandwich(make()), pre=INNER, post=LAST, final=HEAD)
    check(post_norm(make()), one=SHORTCUT, two=HEAD)


# Buffers and attributes ---------------------------------------------------------------------------


class Holding(nn.Module):
    """Contracts with a matrix that it holds in some way."""

    def __init__(self, hold: Callable[[Any, Tensor], None], read: Callable[[Any], Tensor]) -> None:
        super().__init__()
        hold(self, torch.randn(W, W) / 4)
        self.read = read

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.read(self))


def packed(module: Any, matrix: Tensor) -> None:
    scale = matrix.abs().amax(1, keepdim=True) / 7
    whole = (matrix / scale).round().to(torch.int32) + 8
    shifts = torch.arange(0, 32, 4, dtype=torch.int32)
    columns = (whole.view(W, 2, 8) << shifts).sum(-1, dtype=torch.int32)
    for name, value in (("columns", columns), ("scale", scale), ("shifts", shifts)):
        module.register_buffer(name, value)


def unpacked(module: Any) -> Tensor:
    whole = (module.columns[..., None] >> module.shifts) & 15
    return (whole.view(W, W) - 8).float() * module.scale


WAYS: dict[str, tuple[Callable[[Any, Tensor], None], Callable[[Any], Tensor]]] = {
    "buffer": (lambda m, w: m.register_buffer("w", w), lambda m: m.w),
    "attribute": (lambda m, w: setattr(m, "w", w), lambda m: m.w),
    "list": (lambda m, w: setattr(m, "w", [w]), lambda m: m.w[0]),
    "a part of one": (lambda m, w: setattr(m, "w", torch.cat([w, w])), lambda m: m.w[:W]),
    "float8": (
        lambda m, w: m.register_buffer("w", w.to(torch.float8_e4m3fn)),
        lambda m: m.w.float() * 2,
    ),
    "four bits": (packed, unpacked),
}


@pytest.mark.parametrize("way", WAYS)
def test_matrix_that_a_module_holds_is_a_weight(way: str) -> None:
    check_weight(lambda: Holding(*WAYS[way]))


def test_sparse_matrix_in_a_buffer_is_a_weight() -> None:
    class Sparse(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("w", (torch.randn(W, W) / 4).to_sparse())

        def forward(self, x: Tensor) -> Tensor:
            return torch.sparse.mm(self.w, x.reshape(-1, W).t()).t().reshape(x.shape)

    check_weight(Sparse)


def test_sparse_buffer_that_nothing_reads_is_no_obstacle() -> None:
    model = sandwich(linear(W, W))
    model.register_buffer("heads", torch.eye(3).to_sparse(), persistent=False)
    check(model, pre=INNER, post=LAST, final=HEAD)


def test_frozen_random_projections_of_vera_are_weights() -> None:
    import peft

    model = sandwich(linear(W, W))
    adapted = peft.get_peft_model(model, peft.VeraConfig(target_modules=["weight"], r=4))
    with torch.no_grad():
        adapted.base_model.model.weight.vera_lambda_b["default"].normal_()
    prefix = "base_model.model."
    check(
        adapted, **{f"{prefix}pre": INNER, f"{prefix}post": LAST, f"{prefix}final": HEAD}
    )  # fmt: skip


# No weights ---------------------------------------------------------------------------------------


def test_matrix_that_the_pass_makes_of_shapes_is_no_weight() -> None:
    class RunningMean(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            mean = torch.ones(x.shape[1], x.shape[1]).tril()
            return mean / mean.sum(1, keepdim=True) @ x

    check(sandwich(RunningMean()), pre=LAST, post=LAST, final=HEAD)


def test_blur_of_each_channel_pools_and_the_projection_beside_it_stays_a_shortcut() -> None:
    class Blur(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("filters", torch.tensor([[[0.25, 0.5, 0.25]]]).expand(W, 1, 3))

        def forward(self, x: Tensor) -> Tensor:
            return F.conv1d(x.transpose(1, 2), self.filters, padding=1, groups=W).transpose(1, 2)

    def forward(m: Net, x: Tensor) -> Tensor:
        x = m.embed(x)
        return m.out(m.down(m.skip(m.blur(x))) + m.last(m.two(m.one(m.blur(x)).relu())))

    members = {name: linear(W, W) for name in ("embed", "out", "skip", "one", "two")}
    net = Net(forward, blur=Blur(), down=norm(W), last=norm(W), **members)
    check(net, down=SHORTCUT, last=LAST)


def test_cache_that_the_pass_fills_holds_the_signal_and_no_weight() -> None:
    class Cached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("keys", torch.zeros(2, 8, W))

        def forward(self, x: Tensor) -> Tensor:
            self.keys[:, : x.shape[1]] = x
            keys = self.keys[:, : x.shape[1]]
            return (x @ keys.transpose(1, 2)).softmax(-1) @ keys

    model = sandwich(Cached())
    check(model, pre=LAST, post=LAST, final=HEAD)
    assert not model.weight.keys.any()


# Objects and subclasses of tensors ----------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("dtype", [torch.qint8, torch.float16])
def test_layers_quantised_by_torch_hold_weights(dtype: torch.dtype) -> None:
    def quantised(model: nn.Module) -> nn.Module:
        kinds = {nn.Linear, nn.LSTM}
        return torch.ao.quantization.quantize_dynamic(model, kinds, dtype=dtype)

    for make in (lambda: linear(W, W), lambda: First(nn.LSTM(W, W, batch_first=True))):
        check(quantised(sandwich(make())), pre=INNER, post=LAST, final=HEAD)
        check(quantised(post_norm(make())), one=SHORTCUT, two=HEAD)


class First(nn.Module):
    """The first output of a module."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Any:
        return self.inner(x)[0]


class Quantised(torch.Tensor):
    """Whole numbers and their scales, seen as the matrix that they stand for."""

    q: Tensor
    scale: Tensor

    @staticmethod
    def __new__(cls, q: Tensor, scale: Tensor) -> Any:
        return torch.Tensor._make_wrapper_subclass(cls, q.shape, dtype=torch.float32)

    def __init__(self, q: Tensor, scale: Tensor) -> None:
        self.q, self.scale = q, scale

    def numbers(self) -> Tensor:
        return self.q.float() * self.scale


class Dequantising(Quantised):
    """Every operation is carried out on the numbers."""

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.detach.default:
            return cls(args[0].q, args[0].scale)
        args = [a.numbers() if isinstance(a, Quantised) else a for a in args]
        return func(*args, **(kwargs or {}))


class Scaling(Quantised):
    """Stays packed; the product is scaled afterwards."""

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        aten = torch.ops.aten
        if func in (aten.detach.default, aten.t.default):
            return cls(func(args[0].q), func(args[0].scale))
        assert func is aten.addmm.default
        return torch.mm(args[1], args[2].q.float()) * args[2].scale + args[0]


class QuantisingBoth(Dequantising):
    """Takes F.linear in Python, and quantises the signal too."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not F.linear:
            return super().__torch_function__(func, types, args, kwargs or {})
        x, matrix, bias = args
        step = x.abs().amax(-1, keepdim=True) / 127
        whole = (x / step).round().clamp(-128, 127).to(torch.int8).float()
        return torch.matmul(whole, matrix.q.t().float()) * step * matrix.scale.t() + bias


@pytest.mark.parametrize("kind", [Dequantising, Scaling, QuantisingBoth])
def test_matrix_in_a_subclass_of_tensor_is_a_weight(kind: Any) -> None:
    def make() -> nn.Module:
        layer = linear(W, W)
        scale = layer.weight.detach().abs().amax(1, keepdim=True) / 127
        whole = (layer.weight.detach() / scale).round().to(torch.int8)
        layer.weight = nn.Parameter(kind(whole, scale), requires_grad=False)
        return layer

    check_weight(make)
    roles = categorize(sandwich(make()), signal(2, 5, W)).roles
    assert (roles["weight.weight"], roles["weight.bias"]) == (Role.WEIGHT, Role.BIAS)


@pytest.mark.needs("torchao")
@pytest.mark.parametrize(
    "config",
    ["Int8WeightOnlyConfig", "Float8WeightOnlyConfig", "Int8DynamicActivationInt8WeightConfig"],
)
def test_layer_of_torchao_is_a_weight(config: str) -> None:
    import importlib

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torchao: Any = importlib.import_module("torchao.quantization")
        for make, places in (
            (sandwich, {"pre": INNER, "post": LAST, "final": HEAD}),
            (post_norm, {"one": SHORTCUT, "two": HEAD}),
        ):
            model = make(linear(W, W))
            torchao.quantize_(model, getattr(torchao, config)())
            check(model, **places)
