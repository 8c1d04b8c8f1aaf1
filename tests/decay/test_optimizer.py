from __future__ import annotations

import copy
import functools
import inspect
import io
import logging
from pathlib import Path

import pytest
import torch

from gamma_nlp.decay import known_optimizers
from gamma_nlp.decay.known_optimizers import native_mode
from gamma_nlp.decay.optimizer import make_optimizer
from gamma_nlp.decay.policy import DecayPolicy
from gamma_nlp.decay.step_hook import StepHook
from gamma_nlp.errors import GammaError
from tests.support.optim_models import Toy, assert_equal, toy_table, train, values, zero_gradients

TORCH_CLASSES = [
    (torch.optim.SGD, {}),
    (torch.optim.Adam, {}),
    (torch.optim.Adam, {"decoupled_weight_decay": True}),
    (torch.optim.AdamW, {}),
    (torch.optim.NAdam, {}),
    (torch.optim.NAdam, {"decoupled_weight_decay": True}),
    (torch.optim.RAdam, {}),
    (torch.optim.RAdam, {"decoupled_weight_decay": True}),
    (torch.optim.RMSprop, {}),
    (torch.optim.Adagrad, {}),
    (torch.optim.Adadelta, {}),
    (torch.optim.Adamax, {}),
    (torch.optim.ASGD, {"lambd": 0.0}),
    (torch.optim.Adafactor, {}),
]


class OwnAdamW(torch.optim.AdamW):
    """A subclass may do anything in its step."""


def build(model: Toy, cls=torch.optim.AdamW, **kwargs) -> torch.optim.Optimizer:
    kwargs = {"lr": 0.05, "weight_decay": 0.2, "policy": "guidelines", **kwargs}
    return make_optimizer(cls, model, table=toy_table(), **kwargs)


@pytest.mark.parametrize(("cls", "kwargs"), TORCH_CLASSES)
def test_known_kind_is_what_the_optimizer_does(cls: type, kwargs: dict) -> None:
    """Under a zero gradient decoupled decay multiplies by exactly 1 - lr * lambda."""
    p = torch.nn.Parameter(torch.full((2, 2), 2.0, dtype=torch.float64))
    if cls is torch.optim.Adam and kwargs and not _adam_has_both():
        pytest.skip("this torch has no Adam(decoupled_weight_decay=...)")
    optimizer = cls([p], lr=0.1, weight_decay=0.25, **kwargs)
    for _ in range(8):
        p.grad = torch.zeros_like(p)
        optimizer.step()
    multiplied = abs(p[0, 0].item() - 2.0 * (1 - 0.025) ** 8) < 1e-6
    # Without momentum, SGD does the same under either name.
    plain = cls in (torch.optim.SGD, torch.optim.ASGD)
    assert multiplied == (plain or native_mode(cls, kwargs) == "decoupled")


def _adam_has_both() -> bool:
    return "decoupled_weight_decay" in inspect.signature(torch.optim.Adam).parameters


@pytest.mark.parametrize("mode", ["decoupled", "coupled"])
@pytest.mark.parametrize(("cls", "kwargs"), TORCH_CLASSES)
def test_every_known_class_trains_under_both_modes(cls: type, kwargs: dict, mode: str) -> None:
    if cls is torch.optim.Adam and kwargs and not _adam_has_both():
        pytest.skip("this torch has no Adam(decoupled_weight_decay=...)")
    model = Toy()
    optimizer = build(model, cls, policy=DecayPolicy(mode=mode), **kwargs)  # type: ignore[arg-type]
    parts = {g["gamma_part"] for g in optimizer.param_groups if "gamma_part" in g}
    assert parts == {"center" if native_mode(cls, kwargs) == mode else "all"}
    train(model, optimizer, 2)


def test_every_known_torch_class_exists() -> None:
    here = {f"{c.__module__}.{c.__qualname__}" for c in vars(torch.optim).values() if _is_class(c)}
    known = {name for name in known_optimizers.NATIVE if name.startswith("torch.optim.")}
    assert known <= here
    base = "torch.optim.optimizer.Optimizer"
    assert here <= known | set(known_optimizers.REFUSED) | {base}, (
        "a class of torch that is not judged yet"
    )


def _is_class(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, torch.optim.Optimizer)


def test_coupled_mode_on_adamw_hooks_the_weights_too() -> None:
    optimizer = build(Toy(), policy=DecayPolicy(mode="coupled"))
    hooked = [n for g in optimizer.param_groups if "gamma_part" in g for n in g["param_names"]]
    assert sorted(hooked) == ["embed", "inner", "last", "w"]
    assert {g["weight_decay"] for g in optimizer.param_groups if "gamma_part" in g} == {0.2}


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (torch.optim.LBFGS, r"torch.optim.lbfgs.LBFGS cannot be used.*no parameter groups"),
        (torch.optim.Rprop, "Rprop cannot be used.*has no weight decay"),
        (torch.optim.SparseAdam, "SparseAdam cannot be used.*has no weight decay"),
        (OwnAdamW, r"test_optimizer.OwnAdamW is not among.*native_decay='decoupled'"),
        (functools.partial(torch.optim.AdamW), "expected a class of torch.optim.Optimizer"),
        ("adamw", "expected a class of torch.optim.Optimizer"),
        (Toy(), "expected a class of torch.optim.Optimizer, got a Toy; type make_optimizer"),
    ],
)
def test_unusable_optimizer_is_refused_by_name(cls: type, message: str) -> None:
    with pytest.raises(GammaError, match=message):
        build(Toy(), cls)


def test_unknown_class_is_taken_at_the_users_word() -> None:
    policy = DecayPolicy(mode="decoupled")
    for native in ("decoupled", "coupled"):
        first = build(Toy(), OwnAdamW, native_decay=native, policy=policy).param_groups[0]
        assert ("gamma_part" in first) == (native == "coupled")
    with pytest.raises(GammaError, match="native_decay must be"):
        build(Toy(), OwnAdamW, native_decay="both")
    with pytest.raises(GammaError, match=r"AdamW has decoupled weight decay, but native_decay="):
        build(Toy(), native_decay="coupled")


def test_adafactor_of_transformers_with_its_own_learning_rate_cannot_be_hooked() -> None:
    import transformers.optimization as optimization

    with pytest.raises(GammaError, match="Adafactor makes its own learning rate"):
        build(Toy(), optimization.Adafactor, lr=None)
    build(Toy(), optimization.Adafactor, lr=None, policy="none")
    model = Toy()
    optimizer = build(
        model, optimization.Adafactor, lr=0.1, scale_parameter=False, relative_step=False
    )
    zero_gradients(model)
    before = values(model)
    optimizer.step()
    torch.testing.assert_close(model.last + 1, (before["last"] + 1) * (1 - 0.1 * 0.2))
    torch.testing.assert_close(model.inner, before["inner"] * (1 - 0.1 * 0.2))


@pytest.mark.parametrize("mode", ["decoupled", "coupled"])
def test_deep_copy_keeps_decaying_and_so_does_its_copy(mode: str) -> None:
    model = Toy()
    optimizer = build(model, policy=DecayPolicy(mode=mode))  # type: ignore[arg-type]
    train(model, optimizer, 3)
    first, first_optimizer = copy.deepcopy((model, optimizer))
    second, second_optimizer = copy.deepcopy((first, first_optimizer))
    for m, o in ((model, optimizer), (first, first_optimizer), (second, second_optimizer)):
        (hook,) = o._optimizer_step_pre_hooks.values()
        assert isinstance(hook.__self__, StepHook)
        train(m, o, 3, 3)
    assert_equal(model, first)
    assert_equal(model, second)


def test_shallow_copy_keeps_the_hook() -> None:
    assert copy.copy(build(Toy()))._optimizer_step_pre_hooks


def test_saved_whole_optimizer_keeps_decaying() -> None:
    model = Toy()
    optimizer = build(model)
    train(model, optimizer, 2)
    buffer = io.BytesIO()
    torch.save((model, optimizer), buffer)
    buffer.seek(0)
    other, other_optimizer = torch.load(buffer, weights_only=False)
    train(model, optimizer, 2, 2)
    train(other, other_optimizer, 2, 2)
    assert_equal(model, other)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("mode", ["decoupled", "coupled"])
def test_resumed_run_equals_the_uninterrupted_one(mode: str, fused: bool, tmp_path: Path) -> None:
    policy = DecayPolicy(mode=mode)  # type: ignore[arg-type]
    model = Toy()
    optimizer = build(model, policy=policy, fused=fused)
    train(model, optimizer, 3)
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "c")
    train(model, optimizer, 3, 3)

    saved = torch.load(tmp_path / "c")
    resumed = Toy()
    resumed.load_state_dict(saved["model"])
    again = build(resumed, policy=policy, fused=fused)
    again.load_state_dict(saved["optimizer"])
    train(resumed, again, 3, 3)
    assert_equal(model, resumed)


def test_on_load_the_present_decay_wins_and_the_change_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    saved = build(Toy(), policy="all", lr=0.3).state_dict()
    optimizer = build(Toy(), policy="none", weight_decay=0.1)
    with caplog.at_level(logging.INFO, "gamma_nlp"):
        optimizer.load_state_dict(saved)
    by_name = {n: g for g in optimizer.param_groups for n in g["param_names"]}
    assert by_name["w"]["weight_decay"] == 0.1
    assert by_name["inner"]["weight_decay"] == by_name["last"]["weight_decay"] == 0.0
    assert "gamma_part" not in by_name["last"]
    assert by_name["w"]["lr"] == 0.3
    assert "branch_inner: 0.2 -> 0 (1: 'inner')" in caplog.text
    assert "branch_last: 0.2 toward -1 -> 0 (1: 'last')" in caplog.text
    assert "weight: 0.2 -> 0.1 (1: 'w')" in caplog.text
    assert "shift" not in caplog.text


def test_loading_its_own_state_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    optimizer = build(Toy())
    with caplog.at_level(logging.DEBUG, "gamma_nlp"):
        optimizer.load_state_dict(optimizer.state_dict())
    assert not caplog.records


class OwnLoading(torch.optim.AdamW):
    """Loads without running hooks, as the optimizers of bitsandbytes do."""

    def load_state_dict(self, state_dict: dict) -> None:
        ids = [i for group in state_dict["param_groups"] for i in group["params"]]
        parameters = [p for group in self.param_groups for p in group["params"]]
        for group, saved in zip(self.param_groups, state_dict["param_groups"], strict=True):
            group.update({key: value for key, value in saved.items() if key != "params"})
        for i, p in zip(ids, parameters, strict=True):
            if i in state_dict["state"]:
                self.state[p] = state_dict["state"][i]


def test_optimizer_that_loads_without_hooks_is_covered() -> None:
    model = Toy()
    old = build(model, OwnLoading, native_decay="decoupled", policy="all")
    train(model, old, 2)
    new = build(model, OwnLoading, native_decay="decoupled", policy="none")
    new.load_state_dict(copy.deepcopy(old.state_dict()))
    by_name = {n: g for g in new.param_groups for n in g["param_names"]}
    assert by_name["trunk"]["weight_decay"] == 0.0 and by_name["w"]["weight_decay"] == 0.2
    assert torch.equal(new.state[model.final]["exp_avg"], old.state[model.final]["exp_avg"])


def test_saved_state_without_names_is_refused() -> None:
    model = Toy()
    stock = torch.optim.AdamW(model.parameters(), lr=0.1)
    with pytest.raises(GammaError, match=r"no parameter names.*load_regrouped"):
        build(model).load_state_dict(stock.state_dict())


@pytest.mark.parametrize(
    "kwargs",
    [
        {"lr": 0.1, "relative_step": False},
        {"lr": 0.1, "scale_parameter": False},
        {"lr": None, "scale_parameter": False},
        {"lr": None, "relative_step": False, "scale_parameter": False},
    ],
)
def test_each_rate_of_its_own_keeps_the_hook_from_adafactor(kwargs: dict) -> None:
    import transformers.optimization as optimization

    with pytest.raises(GammaError, match="Adafactor makes its own learning rate"):
        build(Toy(), optimization.Adafactor, **kwargs)


class Captured(torch.optim.SGD):
    """Hides overflows in its step, as apex's fused Adam with ``capturable`` does."""

    def __init__(self, params: object, lr: object, capturable: bool = False, **kwargs) -> None:
        super().__init__(params, **kwargs)  # type: ignore[arg-type]
        for group in self.param_groups:
            group["lr"] = lr

    def step(self, closure: object = None, grad_scaler: object = None) -> None:  # type: ignore[override]
        super().step(closure)  # type: ignore[arg-type]


def test_an_optimizer_that_hides_rate_or_overflow_cannot_be_hooked() -> None:
    with pytest.raises(GammaError, match="Captured with capturable=True hides"):
        build(Toy(), Captured, native_decay="decoupled", capturable=True)
    with pytest.raises(GammaError, match="Captured: this policy needs the step hook, which needs"):
        build(Toy(), Captured, native_decay="decoupled", lr=None)
    build(Toy(), Captured, native_decay="decoupled")
    build(Toy(), Captured, native_decay="decoupled", capturable=True, policy="none")


def test_keys_of_the_hook_do_not_come_back_with_a_saved_state() -> None:
    table = toy_table(offset=0.0)
    hooked, native = (
        make_optimizer(
            torch.optim.SGD, Toy(), weight_decay=0.2, lr=0.1, table=table,
            policy=DecayPolicy(mode=mode),
        )
        for mode in ("decoupled", "coupled")
    )  # fmt: skip
    before = [{k: v for k, v in g.items() if k != "params"} for g in native.param_groups]
    assert "gamma_part" in hooked.param_groups[0] and "gamma_part" not in before[0]
    native.load_state_dict(hooked.state_dict())
    assert [{k: v for k, v in g.items() if k != "params"} for g in native.param_groups] == before
