"""The experiment on batch norm's penalty: its command on made-up images, and what it rests on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from gamma_nlp.companions.batch_norm.covariance import quadratic, ridge
from gamma_nlp.companions.batch_norm.multipliers import multipliers
from gamma_nlp.decay.optimizer import make_optimizer
from recipes.batch_norm.closed_forms import constrained, shrinkage
from recipes.batch_norm.grid import grid, rule
from recipes.batch_norm.network import Network, gain_policy
from recipes.batch_norm.run import main
from recipes.batch_norm.unit import Unit, fit, half_square


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    output = tmp_path_factory.mktemp("bn") / "out"
    assert main(["--smoke", "--output", str(output), "--jobs", "1"]) == 0
    for name in ("unit.png", "network.png"):
        assert (output / name).read_bytes().startswith(b"\x89PNG")
    return json.loads((output / "results.json").read_text(encoding="utf-8"))


def part(results: dict[str, Any], name: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    return [(c["cell"], c["result"]) for c in results["cells"] if c["cell"]["part"] == name]


def test_the_command_finds_the_ridge_of_theory(results: dict[str, Any]) -> None:
    found = part(results, "clean")
    assert [rule(cell) for cell, _ in found] == ["fixed 0.5", "decayed 0.5", "free"]
    for _, result in found:
        assert result["gap"] < 1e-6
        assert result["measured_mu"] == pytest.approx(result["predicted_mu"], abs=1e-6)
    assert found[0][1]["measured_mu"] > 0.1


def test_the_command_splits_noise_from_signal(results: dict[str, Any]) -> None:
    for _, result in part(results, "noisy"):
        assert result["gap_to_sample"] < 1e-6
        assert result["noise_share_estimated"] == pytest.approx(result["noise_share"], rel=0.3)
        rows = [row["predicted"] for row in result["shrinkage"]]
        assert rows == sorted(rows)  # the less signal a direction has, the less of it is left


def test_the_command_trains_networks_under_every_rule(results: dict[str, Any]) -> None:
    found = part(results, "network")
    assert {rule(cell) for cell, _ in found} == {"fixed 1", "decayed", "free"}
    for _, result in found:
        assert result["accuracy"] > 0.3
        assert [entry["epoch"] for entry in result["history"]] == [0, 1, 2]
        assert len(result["units"]["mu"]) == 8
    assert set(results["tables"]) and results["seeds"] == [0]


def test_the_full_grid_has_every_rule_of_the_gain_with_every_seed() -> None:
    cells = [cell for cell in grid(smoke=False, seeds=3) if cell["part"] == "network"]
    names = [(rule(cell), cell["decay"]) for cell in cells]
    assert {names.count(name) for name in names} == {3}
    assert {"fixed 1", "decayed", "free"} <= {name for name, _ in names}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--data", "nowhere"], "there is no folder 'nowhere'"),
        (["--smoke", "--seeds", "0"], "--seeds must be 1 or more"),
    ],
)
def test_what_the_command_cannot_use_is_named(
    argv: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*argv, "--output", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_hidden_unit_feels_its_gain_through_the_weights_after_it() -> None:
    # g dL/dg + b dL/db = <a, dL/da> whatever the weights: the units can be rescaled.
    torch.manual_seed(0)
    net = Network(6, 5, gain=0.7).double()
    net.norm.eps = 1e-30
    torch.nn.init.normal_(net.norm.bias)
    x, y = normal(40, 6), torch.arange(40) % 10
    mu = multipliers(net, lambda net, x: cross_entropy(net(x), y), [x])["norm"]
    cross_entropy(net(x), y).backward()
    after, shift = net.after.weight, net.norm.bias
    pulled = (after * after.grad).sum(0) - shift * shift.grad
    torch.testing.assert_close(mu, -(pulled / 0.7**2).detach())


@pytest.mark.parametrize("decayed", [False, True])
def test_a_policy_decays_all_gains_or_none_beside_the_weights(decayed: bool) -> None:
    net = Network(6, 5, gain=None)
    optimizer = make_optimizer(
        torch.optim.SGD,
        net,
        lr=0.1,
        weight_decay=0.5,
        policy=gain_policy(decayed),
        inputs=normal(4, 6).float(),
    )
    decay = {
        name: group["weight_decay"]
        for group in optimizer.param_groups
        for name in group["param_names"]
    }
    weights = {"before.weight": 0.5, "after.weight": 0.5}
    none = {"norm.bias": 0.0, "after.bias": 0.0}
    assert decay == weights | none | {"norm.weight": 0.5 if decayed else 0.0}


def test_a_unit_whose_statistics_alone_are_noisy_meets_its_own_closed_form() -> None:
    x = normal(200, 4) @ torch.diag(torch.tensor([3.0, 1.0, 0.3, 0.1], dtype=torch.float64))
    y = x @ normal(4, 1, seed=1) + normal(200, 1, seed=2)
    noisy = x + 0.5 * normal(200, 4, seed=3)
    layer, norm, measured = fit(x, y, gain=0.6, statistics=noisy)
    centred, rows = noisy - noisy.mean(0), x - x.mean(0)
    whole, signal = centred.T @ centred / 200, rows.T @ rows / 200
    cross = rows.T @ (y - y.mean()) / 200
    mu, v = constrained(signal, whole, cross.squeeze(1), 0.6)
    assert measured == pytest.approx(mu, rel=1e-6)
    torch.testing.assert_close(ridge(signal, cross.T, mu, metric=whole)[0], v)
    assert float(quadratic(whole, v[None])) == pytest.approx(0.36)
    w = layer.weight.detach()
    torch.testing.assert_close(0.6 * w[0] / quadratic(whole, w).sqrt(), v, rtol=1e-6, atol=1e-7)
    assert float(norm.weight.detach()) == 0.6


def test_shrinkage_tells_how_much_of_least_squares_is_left() -> None:
    signal = torch.diag(torch.tensor([1.0, 0.01], dtype=torch.float64))
    cross = torch.tensor([0.5, 0.02], dtype=torch.float64)  # least squares is (0.5, 2)
    v = torch.tensor([0.25, 0.2], dtype=torch.float64)
    rows = shrinkage(signal, cross, v, 2 * v)
    assert [row["measured"] for row in rows] == pytest.approx([0.1, 0.5])
    assert [row["predicted"] for row in rows] == pytest.approx([0.2, 1.0])
    assert [row["variance"] for row in rows] == pytest.approx([0.01, 1.0])


def test_norms_with_statistics_of_their_own_are_batch_norms_otherwise() -> None:
    unit, x, y = Unit(3, gain=0.7, seed=0), normal(9, 3), normal(9, 1, seed=1)
    torch.testing.assert_close(unit(x), unit(x, x))
    assert float(half_square(unit(x), y).detach()) > 0


@pytest.mark.parametrize("gain", [0.3, 2.0])
@pytest.mark.parametrize("decay", [0.0, 0.05])
def test_a_fixed_gain_binds_through_the_decay_of_the_next_weights_alone(
    gain: float, decay: float
) -> None:
    torch.manual_seed(0)
    net = Network(3, 4, gain=gain).double()  # the shifts are 0
    net.norm.eps = 1e-30
    x, y = normal(60, 3), normal(60, 10, seed=1)
    optimizer = torch.optim.LBFGS(
        net.after.parameters(), max_iter=300, tolerance_grad=1e-12, tolerance_change=0.0
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = half_square(net(x), y) + decay / 2 * net.after.weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    mu = multipliers(net, lambda net, x: half_square(net(x), y), [x])["norm"]
    after = net.after.weight.detach()
    torch.testing.assert_close(mu, decay * after.square().sum(0) / gain**2, rtol=1e-6, atol=1e-9)
    assert decay == 0 or float(mu.max()) > 1e-4
