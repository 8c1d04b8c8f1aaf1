"""The report and the history of a run: how often it acted, how coherent the gradients were."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from gamma_nlp.companions.strong.history import SLOTS
from gamma_nlp.companions.strong.reference import both_steps, cosine
from gamma_nlp.companions.strong.regularizer import StrongRegularizer
from gamma_nlp.companions.strong.rules import StrongSettings
from tests.support.regularized import NAMES, backward, network, sgd, weights, zeros


def test_the_report_tells_how_often_it_acted_and_how_coherent_gradients_were() -> None:
    model = network()
    optimizer = sgd(model)
    strong = StrongRegularizer(optimizer, names=NAMES, l1=0.05, rule="direction", threshold=0.9)
    cosines = []
    for step in range(20):
        backward(model, step)
        before = [w.detach().clone() for w in weights(model)]
        plain = copy.deepcopy(model)
        for w, other in zip(model.parameters(), plain.parameters(), strict=True):
            other.grad = w.grad
        without = sgd(plain)
        without.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        without.step()
        optimizer.step()
        how = StrongSettings(l1=0.05)
        cosines.append(cosine(*both_steps(before, weights(plain), [0.1] * 3, how)))
    report = strong.report()
    assert report.coherence == pytest.approx(sum(cosines) / 20, abs=1e-5)
    assert report.acted == pytest.approx(sum(one >= 0.9 for one in cosines) / 20)
    assert [span.coherence for span in strong.history()] == pytest.approx(cosines, abs=1e-5)
    assert [span.step for span in strong.history()] == list(range(1, 21))
    elements = sum(w.numel() for w in weights(model))
    assert report.sparsity == zeros(model) / elements
    assert report.compression == pytest.approx(elements / (elements - zeros(model)))
    assert "0.weight" in str(report) and "after 20 steps" in str(report)


def test_a_long_run_keeps_a_short_history_of_all_its_steps() -> None:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.named_parameters(), lr=0.0)
    strong = StrongRegularizer(
        optimizer, names=["weight"], l1=0.1, rule="delayed", delay_steps=SLOTS + 50
    )
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    for _ in range(SLOTS * 2 + 100):
        optimizer.step()
    history = strong.history()
    assert SLOTS / 2 < len(history) <= SLOTS and history[-1].step == SLOTS * 2 + 100
    assert history[0].acted == 0 and history[-1].acted == 1
    assert strong.report().acted == 0.5


def test_before_the_first_step_there_is_nothing_to_tell() -> None:
    strong = StrongRegularizer(sgd(network()), names=NAMES, l1=0.1)
    assert strong.history() == [] and math.isnan(strong.report().acted)
    assert strong.totals() == (0.0, 0.0, 0.0)


def test_a_report_before_the_first_decision_says_that_there_was_none() -> None:
    net = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    text = str(StrongRegularizer(optimizer, model=net, names=["weight"], l1=1).report())
    assert "after 0 steps" in text and text.endswith("no decision yet") and "nan%" not in text
