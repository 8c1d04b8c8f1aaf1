"""The copy that the probe works on is faithful, and is made of what others cannot copy."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from gamma_nlp import GammaError, categorize, probe
from gamma_nlp.check.probe.model_copy import duplicate
from tests.support.broken import Model
from tests.support.structures import D, signal


def agrees(model: nn.Module) -> bool:
    return probe(model, signal(), categorize(model, signal())).verdict == "agrees"


def test_locks_files_and_iterators_are_shared_with_the_copy() -> None:
    model = Model()
    model.lock, model.rest = threading.Lock(), iter([1, 2])
    model.state = SimpleNamespace(lock=threading.RLock(), table=torch.ones(3))
    assert agrees(model)
    assert list(model.rest) == [1, 2]
    copied: Any = duplicate(model, torch.float64)[0]
    assert copied.lock is model.lock
    assert copied.state.table is not model.state.table
    assert copied.state.table.dtype is torch.float64


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_tensors_that_are_no_leaves_are_copied() -> None:
    model = Model()
    nn.utils.weight_norm(model.out)
    model.cached = model(signal())  # keeps the graph of this pass
    assert model.out.weight.grad_fn is not None
    assert agrees(model)


def test_hooks_work_on_the_copy() -> None:
    model = Model()
    model.blocks[0].up.register_forward_hook(lambda module, args, output: output + args[0])
    x = signal()
    expected = model(x)
    copied, _ = duplicate(model, torch.float64)
    assert torch.allclose(copied(x.double()).float(), expected, atol=1e-6)


def test_model_that_cannot_be_copied_is_told_so() -> None:
    class Single(nn.Linear):
        def __deepcopy__(self, memo: Any) -> Single:
            raise TypeError("one of a kind")

    model = Model()
    model.out = Single(D, D)
    with pytest.raises(GammaError, match=r"cannot be copied \(TypeError: one of a kind\)"):
        agrees(model)


def test_parameters_and_buffers_of_the_copy_have_its_precision() -> None:
    model = Model()
    model.register_buffer("table", torch.ones(2))
    model.register_buffer("adjacency", torch.eye(2).to_sparse())
    model.plain = [torch.ones(2)]
    copied: Any
    copied, named = duplicate(model, torch.float64)
    assert {p.dtype for p in named.values()} == {torch.float64}
    assert copied.table.dtype is copied.adjacency.dtype is copied.plain[0].dtype is torch.float64
    assert model.plain[0].dtype is torch.float32
