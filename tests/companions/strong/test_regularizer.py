"""StrongRegularizer acts as its rule says, makes exact zeros, and continues after a stop."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gamma_nlp import GammaError, make_optimizer
from gamma_nlp.companions.strong.reference import (
    decide_reference,
    shrink_reference,
)
from gamma_nlp.companions.strong.regularizer import KEY, StrongRegularizer
from gamma_nlp.companions.strong.rules import (
    StrongSettings,
)
from tests.support.optim_models import Toy, toy_table
from tests.support.regularized import (
    NAMES,
    adamw,
    backward,
    network,
    same,
    sgd,
    train,
    train_with,
    weights,
    zeros,
)


@pytest.mark.parametrize("make", [sgd, adamw])
@pytest.mark.parametrize("scope", ["global", "tensor"])
@pytest.mark.parametrize(
    "settings",
    [
        {"rule": "always", "l1": 0.02},
        {"rule": "always", "l2": 0.3},
        {"rule": "delayed", "l1": 0.02, "l2": 0.1, "delay_steps": 5},
        {"rule": "direction", "l1": 0.05, "threshold": 0.5},
        {"rule": "direction", "l1": 0.02, "l2": 0.1, "threshold": 0.6, "delay_steps": 3},
        {"rule": "magnitude", "l1": 0.02, "l2": 0.01, "ratio": 0.7},
        {
            "rule": "direction",
            "l1": 0.004,
            "l2": 0.02,
            "threshold": 0.4,
            "metric": "preconditioner",
        },
        {"rule": "magnitude", "l1": 0.006, "l2": 0.01, "ratio": 2.5, "metric": "preconditioner"},
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
def test_each_step_equals_the_reference(make: Any, scope: Any, settings: Any) -> None:
    # Another metric's 1 / sqrt(v) magnifies rounding.
    dtype = torch.float64 if "metric" in settings else torch.float32
    fast, slow = network(dtype=dtype), network(dtype=dtype)
    ours, plain = make(fast), make(slow)
    if make is adamw and settings.get("metric") is None:  # its steps are larger than its gradients
        settings = {**settings, "l1": 20 * settings.get("l1", 0.0)}
    how = StrongSettings(scope=scope, **settings)
    StrongRegularizer(ours, names=NAMES, scope=scope, **settings)
    masks = [torch.ones_like(w, dtype=torch.bool) for w in weights(slow)]
    acted = []
    for step in range(25):
        backward(fast, step)
        backward(slow, step)
        before = [w.detach().clone() for w in weights(slow)]
        ours.step()
        plain.step()
        after = [w.detach().clone() for w in weights(slow)]
        reaches = [reach(plain, w, how) for w in weights(slow)]
        acts = decide_reference(before, after, reaches, how, step)
        for w, one, act, mask in zip(weights(slow), reaches, acts, masks, strict=True):
            if act:
                shrink_reference(w, one, how)
                mask.copy_(w != 0)
            elif how.l1:
                w.data[~mask] = 0
        acted += acts
        for a, b in zip(fast.parameters(), slow.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)
            assert torch.equal(a == 0, b == 0)
    if how.rule in ("direction", "magnitude"):
        assert 0 < sum(acted) < len(acted)  # the settings try both answers


def reach(optimizer: Any, w: Tensor, how: StrongSettings) -> Any:
    (group,) = optimizer.param_groups
    if how.metric == "euclidean":
        return group["lr"]
    if isinstance(optimizer, torch.optim.SGD):
        return group["lr"] / (1 - group["momentum"])
    state = optimizer.state[w]
    debiased = state["exp_avg_sq"] / (1 - group["betas"][1] ** float(state["step"]))
    return group["lr"] / (debiased.sqrt() + group["eps"])


def test_l1_makes_exact_zeros_without_a_sign() -> None:
    model = network()
    train_with(model, l1=0.05, rule="always", steps=40)
    assert 0 < zeros(model) < sum(w.numel() for w in weights(model))
    assert not any(torch.signbit(w[w == 0]).any() for w in weights(model))


def test_only_the_chosen_tensors_are_shrunk() -> None:
    model, plain = network(), network()
    strong = StrongRegularizer(sgd(model), names=["2.weight"], l1=0.5, rule="always")
    backward(model, 0)
    backward(plain, 0)
    strong.optimizer.step()
    sgd(plain).step()
    for name, p in model.named_parameters():
        assert torch.equal(p, plain.get_parameter(name)) == (name != "2.weight"), name


def test_zeros_stay_zero_while_the_rule_does_not_act_and_come_back_when_it_does() -> None:
    model = network()
    optimizer = sgd(model)
    strong = StrongRegularizer(optimizer, names=NAMES, l1=0.05, rule="direction", threshold=-1)
    train(model, optimizer, 30)
    before = [w == 0 for w in weights(model)]
    strong.settings = StrongSettings(l1=0.05, rule="magnitude", ratio=0)  # never again
    train(model, optimizer, 5, first=30)
    for w, zero in zip(weights(model), before, strict=True):
        assert zero.any() and torch.equal(w == 0, zero)
    strong.settings = StrongSettings(l1=1e-6, rule="always")
    train(model, optimizer, 1, first=35)
    assert zeros(model) < 0.1 * sum(int(zero.sum()) for zero in before)


def test_weights_that_are_zero_at_the_start_are_free_until_it_acts() -> None:
    model = network()
    nn.init.zeros_(model[4].weight)
    train_with(model, l1=0.05, rule="magnitude", ratio=0.0, steps=2)
    assert not (model[4].weight == 0).any()


def test_the_delay_counts_steps_and_changes_nothing_before() -> None:
    model, plain = network(), network()
    optimizer, other = sgd(model), sgd(plain)
    strong = StrongRegularizer(optimizer, names=NAMES, l1=0.1, rule="delayed", delay_steps=4)
    train(model, optimizer, 4)
    train(plain, other, 4)
    assert same(model, plain) and strong.report().acted == 0
    train(model, optimizer, 1, first=4)
    assert zeros(model) > 0
    assert strong.report().acted == pytest.approx(1 / 5)


@pytest.mark.parametrize("tensor_lr", [False, True])
def test_a_decision_for_several_steps_shrinks_by_all_their_rates(tensor_lr: bool) -> None:
    model, plain = network(), network()
    lr: Any = torch.tensor(0.0) if tensor_lr else 0.0
    optimizer, other = (torch.optim.SGD(m.named_parameters(), lr=lr) for m in (model, plain))
    StrongRegularizer(optimizer, names=NAMES, l1=0.5, l2=0.1, rule="always", every=3)
    for step, rate in enumerate([0.01, 0.02, 0.03, 0.04]):
        for one, of in ((optimizer, model), (other, plain)):
            one.param_groups[0]["lr"] = torch.tensor(rate) if tensor_lr else rate
            backward(of, step)
            one.step()
        if step == 2:
            for w in weights(plain):
                shrink_reference(w, 0.06, StrongSettings(l1=0.5, l2=0.1))
        for a, b in zip(model.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_zeros_that_moved_between_decisions_are_put_back() -> None:
    model = network()
    strong = train_with(model, l1=0.05, rule="always", every=5, steps=30)
    before = [w.detach() == 0 for w in weights(model)]
    train(model, strong.optimizer, 3, first=30)
    assert zeros(model) == 0
    strong.restore_zeros()
    assert sum(int(zero.sum()) for zero in before) > 0
    assert all(torch.equal(w == 0, zero) for w, zero in zip(weights(model), before, strict=True))


@pytest.mark.parametrize("through", ["plain", "by policy"])
@pytest.mark.parametrize(
    "settings",
    [
        {"rule": "direction", "l1": 0.6, "threshold": 0.5},
        {"rule": "direction", "l1": 0.01, "threshold": 0.3, "metric": "preconditioner"},
        {"rule": "delayed", "l1": 0.05, "delay_steps": 9, "every": 2},
        {"rule": "magnitude", "l1": 0.2, "ratio": 8.0, "scope": "tensor", "every": 5},
    ],
    ids=lambda settings: settings["rule"],
)
def test_a_resumed_run_continues_as_if_it_had_not_stopped(
    through: str, settings: Any, tmp_path: Any
) -> None:
    def start() -> tuple[nn.Module, StrongRegularizer]:
        model = network()
        if through == "plain":
            optimizer = adamw(model)
        else:
            optimizer = make_optimizer(
                torch.optim.AdamW, model, weight_decay=0.1, lr=0.01, policy="none", table=table()
            )
        return model, StrongRegularizer(optimizer, names=NAMES, **settings)

    model, whole = start()
    train(model, whole.optimizer, 30)
    stopped, first = start()
    train(stopped, first.optimizer, 13)
    torch.save([stopped.state_dict(), first.optimizer.state_dict()], tmp_path / "state")
    saved, state = torch.load(tmp_path / "state")
    resumed, second = start()
    train(resumed, second.optimizer, 2)  # what it did before must not survive the load
    resumed.load_state_dict(saved)
    second.optimizer.load_state_dict(state)
    train(resumed, second.optimizer, 17, first=13)
    assert same(resumed, model) and zeros(model) > 0
    assert str(second.report()) == str(whole.report())
    assert second.history() == whole.history()


def table() -> Any:
    from gamma_nlp import GainTable, Role

    names = [name for name, _ in network().named_parameters()]
    roles = {name: Role.WEIGHT if "weight" in name else Role.BIAS for name in names}
    return GainTable(gains=(), roles=roles)


def test_states_with_and_without_its_entry_load_into_each_other() -> None:
    model = network()
    plain = sgd(model)
    train(model, plain, 2)
    state = copy.deepcopy(plain.state_dict())
    strong = StrongRegularizer(plain, names=NAMES, l1=0.01)
    plain.load_state_dict(state)
    assert KEY in plain.state_dict()
    strong.remove()
    assert KEY not in plain.state_dict()
    other = network()
    train_with(other, l1=0.05, rule="always", every=2, steps=4)
    saved = train_with(other, l1=0.05, rule="always", every=2, steps=4).optimizer.state_dict()
    plain.load_state_dict(saved)
    wider = nn.Sequential(nn.Linear(11, 16), *list(network())[1:])
    with pytest.raises(GammaError, match=r"zeros of '0.weight' have shape \(16, 12\)"):
        StrongRegularizer(sgd(wider), names=NAMES, l1=0.05).optimizer.load_state_dict(saved)


def test_a_step_that_a_grad_scaler_skips_counts_for_nothing() -> None:
    settings: Any = {"names": NAMES, "l1": 0.05, "rule": "direction", "threshold": 0.5}
    model, plain = network(), network()
    optimizer, other = adamw(model, fused=True), adamw(plain, fused=True)
    strong, without = (StrongRegularizer(one, **settings) for one in (optimizer, other))
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for step in range(24):
        backward(model, step)
        for p in model.parameters():
            assert p.grad is not None
            p.grad.mul_(scaler.scale(torch.ones(())))
        if overflow := step % 5 == 3:
            model[0].weight.grad[0, 0] = math.inf
        scaler.step(optimizer)
        scaler.update()
        if not overflow:
            backward(plain, step)
            other.step()
        assert same(model, plain), step
    assert zeros(model) > 0
    assert str(strong.report()) == str(without.report()) and strong.report().steps == 19


def test_an_overflow_at_a_decision_leaves_its_steps_to_the_next() -> None:
    model = network()
    optimizer = adamw(model, lr=0.01, fused=True)
    StrongRegularizer(optimizer, names=NAMES, l1=1.0, rule="always", every=2)
    before = weights(model)[1].detach().clone()
    for step in range(1, 5):
        for p in model.parameters():
            p.grad = torch.zeros_like(p)
        optimizer.grad_scale = torch.tensor(1.0)
        optimizer.found_inf = torch.tensor(float(step == 2))
        optimizer.step()
    expected = before.sign() * (before.abs() - 0.03).clamp(min=0)
    torch.testing.assert_close(weights(model)[1].detach(), expected)


@pytest.mark.parametrize("way", ["keyword", "position", "thrice"])
def test_a_closure_is_followed_by_one_decision(way: str) -> None:
    class Thrice(torch.optim.Optimizer):
        def __init__(self, params: Any, lr: float) -> None:
            super().__init__(params, {"lr": lr})

        @torch.no_grad()
        def step(self, closure: Any = None) -> Any:
            with torch.enable_grad():
                losses = [closure() for _ in range(3)]
            for p in self.param_groups[0]["params"]:
                p.add_(p.grad, alpha=-self.param_groups[0]["lr"])
            return losses[0]

    model, plain = network(), network()
    cls: Any = Thrice if way == "thrice" else torch.optim.SGD
    optimizer = cls(model.named_parameters(), lr=0.1)
    other = torch.optim.SGD(plain.named_parameters(), lr=0.1)
    strong = StrongRegularizer(optimizer, names=NAMES, l1=0.05, rule="direction", threshold=0.5)
    StrongRegularizer(other, names=NAMES, l1=0.05, rule="direction", threshold=0.5)

    for step in range(6):

        def closure(step: int = step) -> Tensor:
            backward(model, step)
            return torch.tensor(1.0)

        done = optimizer.step(closure=closure) if way == "keyword" else optimizer.step(closure)
        assert float(done) == 1.0
        backward(plain, step)
        other.step()
    assert same(model, plain) and strong.totals()[2] == 6


def test_ascent_on_the_negative_loss_is_the_same() -> None:
    runs = []
    for maximize in (False, True):
        model = network()
        optimizer = sgd(model, maximize=maximize)
        StrongRegularizer(optimizer, names=NAMES, l1=0.05, rule="direction", threshold=0.7)
        for step in range(12):
            backward(model, step)
            for p in model.parameters():
                p.grad.mul_(-1.0 if maximize else 1.0)
            optimizer.step()
        runs.append(model)
    assert same(*runs)


def test_a_tensor_without_a_gradient_is_left_alone() -> None:
    model = network()
    optimizer = adamw(model)
    strong = StrongRegularizer(optimizer, names=NAMES, l1=0.5, rule="always")
    backward(model, 0)
    model[2].weight.grad = None
    before = model[2].weight.detach().clone()
    optimizer.step()
    assert torch.equal(model[2].weight, before) and zeros(model) > 0
    rows = {row.name: row.acted for row in strong.report().rows}
    assert rows["0.weight"] == 1 and math.isnan(rows["2.weight"])


def test_sparse_gradients_are_refused() -> None:
    layer = nn.Embedding(5, 3, sparse=True)
    optimizer = torch.optim.SGD(layer.named_parameters(), lr=0.1)
    StrongRegularizer(optimizer, names=["weight"], l1=0.1)
    layer(torch.tensor([1])).sum().backward()
    with pytest.raises(GammaError, match="'weight' has a sparse gradient"):
        optimizer.step()


def test_by_default_weights_are_meant_and_nothing_else() -> None:
    model = Toy()
    optimizer = make_optimizer(
        torch.optim.AdamW, model, weight_decay=0.1, lr=0.1, table=toy_table(), policy="none"
    )
    strong = StrongRegularizer(optimizer, model=model, table=toy_table(), l1=0.1)
    assert [row.name for row in strong.report().rows] == ["w"]
    traced = network()
    strong = StrongRegularizer(sgd(traced), model=traced, inputs=torch.randn(2, 12), l1=0.1)
    assert [row.name for row in strong.report().rows] == NAMES
    with pytest.raises(GammaError, match="pass model= and inputs="):
        StrongRegularizer(sgd(traced), l1=0.1)


def test_a_model_whose_inputs_are_unknown_gets_told_what_to_pass() -> None:
    model = network()
    with pytest.raises(GammaError) as raised:
        StrongRegularizer(sgd(model), model=model, l1=0.1)
    text = str(raised.value)
    assert text.startswith("StrongRegularizer cannot tell which tensors of Sequential are weights")
    assert "pass inputs= that the model takes" in text and f"names=[{str(NAMES)[1:-1]}]" in text
    with pytest.raises(GammaError, match="forward pass of Sequential failed in module '0'"):
        StrongRegularizer(sgd(model), model=model, inputs=torch.randn(2, 5), l1=0.1)
    with pytest.raises(GammaError, match="the optimizer has none of the model's weights"):
        bias = torch.optim.SGD([model[0].bias], lr=0.1)
        StrongRegularizer(bias, model=model, inputs=torch.randn(2, 12), l1=0.1)


def test_the_advice_is_a_call_of_ones_own() -> None:
    model = network()
    for inputs in (None, torch.randn(2, 5)):
        with pytest.raises(GammaError) as raised:
            StrongRegularizer(sgd(model), model=model, inputs=inputs, l1=0.1)
        text = str(raised.value)
        assert "StrongRegularizer(optimizer, model=model, inputs=" in text
        assert "categorize" not in text and "make_optimizer" not in text


def test_a_misspelt_name_gets_the_nearest_one() -> None:
    with pytest.raises(GammaError, match=r"no parameter '0\.wieght'; did you mean '0\.weight'\?"):
        StrongRegularizer(sgd(network()), names=["0.wieght"], l1=0.1)


def test_l2_beside_the_optimizers_own_decay_is_refused() -> None:
    model = network()
    with pytest.raises(GammaError, match=r"l2=0.1 would act on '0.weight' beside"):
        StrongRegularizer(adamw(model, weight_decay=0.01), names=NAMES, l2=0.1)
    toy = Toy()
    coupled = make_optimizer(
        torch.optim.AdamW, toy, weight_decay=0.1, lr=0.1, table=toy_table(), policy="all_params"
    )
    with pytest.raises(GammaError, match="on 'w' beside the optimizer's own weight decay"):
        StrongRegularizer(coupled, names=["w"], l2=0.1)
    StrongRegularizer(adamw(model, weight_decay=0.01), names=NAMES, l1=0.1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "both 0"),
        ({"l1": -1}, "l1 must be"),
        ({"l2": math.nan}, "l2 must be"),
        ({"l1": 1, "rule": "sometimes"}, "'always', 'delayed', 'direction', 'magnitude'"),
        ({"l1": 1, "scope": "row"}, "'global', 'tensor'"),
        ({"l1": 1, "rule": "delayed"}, "needs delay_steps"),
        ({"l1": 1, "threshold": 2}, "cosine"),
        ({"l1": 1, "ratio": math.inf}, "ratio must be"),
        ({"l1": 1, "every": 0}, "every must be a whole number, at least 1"),
        ({"l1": 1, "delay_steps": 1.5}, "delay_steps must be"),
        ({"l1": 1, "names": ["9.weight"]}, "has no parameter '9.weight'"),
        ({"l1": 1, "names": []}, "no tensor to regularise"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: Any, message: str) -> None:
    with pytest.raises(GammaError, match=message):
        StrongRegularizer(sgd(network()), **{"names": NAMES, **settings})


def test_strong_l1_stops_a_deep_network_and_the_rules_rescue_it() -> None:
    def trained(**settings: Any) -> tuple[float, float]:
        model = network()
        optimizer = sgd(model, lr=0.05)
        strong = StrongRegularizer(optimizer, names=NAMES, l1=0.4, **settings)
        train(model, optimizer, 300)
        x = torch.randn(500, 12, generator=torch.Generator().manual_seed(999))
        y = (x[:, :3] + 0.5 * x[:, 3:6]).argmax(1)
        error = float((model(x).argmax(1) != y).float().mean())
        return error, strong.report().sparsity

    assert trained(rule="always") == (pytest.approx(2 / 3, abs=0.05), 1.0)  # of three classes
    for settings in ({"rule": "direction", "threshold": 0.3}, {"rule": "magnitude", "ratio": 2.4}):
        error, sparsity = trained(**settings)
        assert error < 0.15 and sparsity > 0.3


def test_two_of_them_with_one_optimizer_save_their_states_apart() -> None:
    def start() -> tuple[nn.Module, list[StrongRegularizer]]:
        model = network()
        optimizer = adamw(model)
        return model, [
            StrongRegularizer(
                optimizer, names=[name], l1=l1, rule="delayed", delay_steps=delay, every=2
            )
            for name, l1, delay in (("0.weight", 0.5, 4), ("2.weight", 1.0, 9))
        ]

    model, (one, other) = start()
    train(model, one.optimizer, 20)
    stopped, (first, _) = start()
    train(stopped, first.optimizer, 7)
    resumed, (second, third) = start()
    resumed.load_state_dict(stopped.state_dict())
    second.optimizer.load_state_dict(copy.deepcopy(first.optimizer.state_dict()))
    train(resumed, second.optimizer, 13, first=7)
    assert same(resumed, model) and zeros(model) > 0
    assert [str(second.report()), str(third.report())] == [str(one.report()), str(other.report())]


def test_an_optimizer_that_accelerate_prepared_is_followed() -> None:
    from accelerate import Accelerator

    model, prepared = network(), network()
    optimizer: Any = Accelerator(cpu=True).prepare(sgd(prepared))
    StrongRegularizer(optimizer, names=NAMES, l1=0.05, rule="always")
    train(prepared, optimizer, 5)
    bare = sgd(model)
    StrongRegularizer(bare, names=NAMES, l1=0.05, rule="always")
    train(model, bare, 5)
    assert same(prepared, model) and zeros(model) > 0


def test_what_is_not_an_optimizer_or_a_list_of_names_is_refused() -> None:
    with pytest.raises(GammaError, match="optimizer is a Sequential; expected a torch"):
        StrongRegularizer(network(), names=NAMES, l1=0.05)  # type: ignore[arg-type]
    with pytest.raises(GammaError, match=r"names must be a list of names.*\['0\.weight'\]"):
        StrongRegularizer(sgd(network()), names="0.weight", l1=0.05)
