"""One meaning of wrappers: holders leave names one to one, adapters are for looking up only."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.fsdp import FullyShardedDataParallel, ShardingStrategy
from torch.distributed.fsdp.wrap import ModuleWrapPolicy
from torch.nn.parallel import DataParallel, DistributedDataParallel

import gamma_nlp
from gamma_nlp.wrappers import (
    library_model,
    library_names,
    plain_names,
    unwrap,
    unwrap_optimizer,
)
from tests.support.families import FAMILIES


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.fc = nn.LayerNorm(4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.fc(self.norm(x))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.h = nn.ModuleList([Block(), Block()])
        self.final = nn.LayerNorm(4)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.h:
            x = block(x)
        return self.final(x)


@pytest.fixture
def one_process() -> Iterator[None]:
    """DDP and FSDP want a process group; this one has a single process."""
    dist.init_process_group("gloo", rank=0, world_size=1, store=dist.HashStore())
    yield
    dist.destroy_process_group()


def names(model: nn.Module) -> list[str]:
    return [name for name, _ in model.named_parameters()]


def sharded(model: nn.Module) -> nn.Module:
    """FSDP1 around the model and each of its blocks, with the user's own parameters."""
    return FullyShardedDataParallel(
        model,
        sharding_strategy=ShardingStrategy.NO_SHARD,
        use_orig_params=True,
        auto_wrap_policy=ModuleWrapPolicy({Block}),
        device_id=torch.device("cpu"),
    )


def checkpointed(model: Any) -> nn.Module:
    model.h[0] = checkpoint_wrapper(model.h[0])
    return model


def block_compiled(model: Any) -> nn.Module:
    model.h[1] = torch.compile(model.h[1])
    return model


HOLDERS = {
    "DDP": [DistributedDataParallel],
    "DataParallel": [DataParallel],
    "FSDP1": [sharded],
    "compile": [torch.compile],
    "checkpointed block": [checkpointed],
    "compiled block": [block_compiled],
    "DDP of compile": [torch.compile, DistributedDataParallel],
    "compile of DDP": [DistributedDataParallel, torch.compile],
    "compile of FSDP1": [sharded, torch.compile],
    "DDP of DataParallel": [DataParallel, DistributedDataParallel],
    "DDP of compile, blocks checkpointed and compiled": [
        checkpointed, block_compiled, torch.compile, DistributedDataParallel,
    ],
}  # fmt: skip


def held(kind: str) -> nn.Module:
    model: nn.Module = Net()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # FSDP1 is on its way out
        for wrap in HOLDERS[kind]:
            model = wrap(model)
    return model


@pytest.mark.usefixtures("one_process")
@pytest.mark.parametrize("kind", HOLDERS)
def test_holders_leave_the_names_of_the_bare_model(kind: str) -> None:
    wrapped = held(kind)
    assert names(wrapped) != names(Net())  # else this tests nothing
    assert list(plain_names(names(wrapped)).values()) == names(Net())
    assert list(library_names(names(wrapped)).values()) == names(Net())


@pytest.mark.usefixtures("one_process")
@pytest.mark.parametrize("kind", HOLDERS)
def test_the_users_own_model_is_found_inside_holders(kind: str) -> None:
    wrapped = held(kind)
    assert type(unwrap(wrapped)) is Net
    assert unwrap(wrapped) is library_model(wrapped)


@pytest.mark.usefixtures("one_process")
@pytest.mark.parametrize("kind", HOLDERS)
def test_saved_optimizer_of_a_wrapped_model_fits_the_bare_one(kind: str) -> None:
    bare, wrapped = Net(), held(kind)
    table = gamma_nlp.categorize(bare, torch.randn(2, 4))

    def optimizer(model: nn.Module) -> torch.optim.Optimizer:
        return gamma_nlp.make_optimizer(
            torch.optim.AdamW, model, weight_decay=0.1, lr=1e-3, table=table
        )

    before, after = optimizer(wrapped), optimizer(bare)
    for number, parameter in enumerate(wrapped.parameters()):
        parameter.grad = torch.full_like(parameter, float(number + 1))
    before.step()
    after.load_state_dict(before.state_dict())
    moments = {id(p): state["exp_avg"] for p, state in after.state.items()}
    for number, parameter in enumerate(bare.parameters()):
        assert torch.all(moments[id(parameter)] == moments[id(parameter)].flatten()[0])
        assert moments[id(parameter)].flatten()[0] == pytest.approx((number + 1) / 10)


def test_checkpointed_root_is_unwrapped_and_placed_under_the_bare_names() -> None:
    model, x = Net(), torch.randn(2, 4)
    wrapped = checkpoint_wrapper(model)  # it leaves its own part out of its parameters' names
    assert unwrap(wrapped) is model
    assert gamma_nlp.categorize(wrapped, x) == gamma_nlp.categorize(model, x)


@pytest.mark.parametrize("wrap", [DataParallel, torch.compile])
def test_what_is_a_norm_by_name_only_is_none_inside_holders_too(wrap: Any) -> None:
    class NoNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.bias = nn.Parameter(torch.ones(4)), nn.Parameter(torch.zeros(4))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.weight + self.bias

    model: Any = Net()
    model.h[0].norm = NoNorm()
    table = gamma_nlp.categorize(wrap(model), torch.randn(2, 4))
    assert [plain_names(g.name for g in table)[g.name] for g in table] == [
        "h.1.norm.weight",
        "final.weight",
    ]


class Named(nn.Module):
    """A model whose user calls a part of it what a holder would."""

    def __init__(self, part: str, beside: bool = True) -> None:
        super().__init__()
        self.add_module(part, nn.Linear(2, 2))
        if beside:
            self.head = nn.Linear(2, 2)


def test_a_users_own_module_called_module_stays() -> None:
    model = Named("module")
    assert unwrap(model) is model
    assert list(plain_names(names(model)).values()) == names(model)
    wrapped = DataParallel(model)
    assert unwrap(wrapped) is model
    assert list(plain_names(names(wrapped)).values()) == names(model)


def test_a_users_only_child_called_module_has_one_name_wrapped_or_not() -> None:
    model = Named("module", beside=False)
    assert unwrap(model) is model
    bare, wrapped = plain_names(names(model)), plain_names(names(DataParallel(model)))
    assert list(bare.values()) == list(wrapped.values()) == ["weight", "bias"]


def test_module_below_the_top_stays() -> None:
    every = ["encoder.module.weight", "head.weight"]
    assert list(plain_names(every).values()) == every


@pytest.mark.parametrize(
    "every",
    [
        ["_orig_mod.weight", "weight"],
        ["module.a._orig_mod.w", "module.a.w"],
        ["a._fsdp_wrapped_module.w", "a.w", "b.w"],
        ["module._orig_mod.w", "_orig_mod.module.w"],
        ["module.w", "w"],
    ],
)
def test_two_parameters_never_get_one_plain_name(every: list[str]) -> None:
    assert len(set(plain_names(every).values())) == len(every)


def test_no_names_give_no_names() -> None:
    assert plain_names([]) == library_names([]) == {}


# Adapters -----------------------------------------------------------------------------------------


def adapted() -> tuple[nn.Module, nn.Module]:
    """GPT-2 with LoRA and a last norm that is trained beside its frozen original."""
    import peft

    model = FAMILIES["gpt2"].build()
    config = peft.LoraConfig(
        target_modules=["c_attn"], modules_to_save=["ln_f"], fan_in_fan_out=True
    )
    return model, peft.get_peft_model(model, config)


@pytest.mark.needs("transformers", "peft")
@pytest.mark.parametrize("wrap", [None, torch.compile, DataParallel])
def test_adapted_layers_are_looked_up_by_the_names_of_the_library(wrap: Any) -> None:
    before = set(names(FAMILIES["gpt2"].build()))
    model, wrapped = adapted()
    wrapped = wrapped if wrap is None else wrap(wrapped)
    looked_up = library_names(names(wrapped))
    adapters = {name for name in looked_up if ".lora_" in name}
    assert adapters
    assert {short for name, short in looked_up.items() if name not in adapters} == before
    assert library_model(wrapped) is model
    assert type(unwrap(wrapped)).__name__ == "PeftModel"  # what runs


@pytest.mark.needs("transformers", "peft")
def test_a_trained_copy_and_its_original_are_looked_up_alike_and_told_apart() -> None:
    _, wrapped = adapted()
    copies = [name for name in names(wrapped) if ".ln_f." in name and name.endswith("weight")]
    assert len(copies) == 2
    looked_up = library_names(names(wrapped))
    assert {looked_up[name] for name in copies} == {"transformer.ln_f.weight"}
    plain = plain_names(names(wrapped))
    assert plain == {name: name for name in names(wrapped)}


@pytest.mark.needs("transformers", "peft")
def test_a_compiled_model_inside_adapters_is_found() -> None:
    import peft

    model = FAMILIES["gpt2"].build()
    config = peft.LoraConfig(target_modules=["c_attn"], fan_in_fan_out=True)
    wrapped = peft.get_peft_model(model, config)
    wrapped.base_model.model = torch.compile(model)
    assert library_model(wrapped) is model
    looked_up = library_names(names(wrapped))
    assert {short for name, short in looked_up.items() if ".lora_" not in name} == set(
        names(FAMILIES["gpt2"].build())
    )


@pytest.mark.needs("transformers", "peft")
@pytest.mark.parametrize("wrap", [torch.compile, DataParallel, checkpointed])
def test_name_tables_hold_inside_holders(wrap: Any) -> None:
    model: Any = FAMILIES["gpt2"].build()
    before = [gain.category for gain in gamma_nlp.categorize(model, method="table")]
    if wrap is checkpointed:
        model.transformer.h[0] = checkpoint_wrapper(model.transformer.h[0])
    else:
        model = wrap(model)
    after = gamma_nlp.categorize(model, method="table")
    assert [gain.category for gain in after] == before


# Optimizers ---------------------------------------------------------------------------------------


@pytest.mark.needs("accelerate")
def test_the_optimizer_inside_accelerate_is_found() -> None:
    from accelerate import Accelerator
    from accelerate.optimizer import AcceleratedOptimizer

    own = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1)
    assert unwrap_optimizer(own) is own
    wrapped = Accelerator(cpu=True).prepare_optimizer(own)
    assert wrapped is not own
    assert unwrap_optimizer(wrapped) is own
    assert unwrap_optimizer(AcceleratedOptimizer(wrapped)) is own


def test_what_is_not_an_optimizer_stays() -> None:
    other = object()
    assert unwrap_optimizer(other) is other
