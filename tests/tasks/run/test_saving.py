"""What a resumed run says of the weights that it loads."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from torch import nn
from torch.nn.modules.module import _IncompatibleKeys

from gamma_nlp.tasks.run.saving import WholeCheckpoints


class _Warns:
    """Stands for the Trainer."""

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        self.missing = load_result.missing_keys


class _Trainer(WholeCheckpoints, _Warns):
    def __init__(self, model: nn.Module) -> None:
        self.model = model  # type: ignore[assignment]
        self.accelerator = SimpleNamespace(unwrap_model=lambda model: model)  # type: ignore[assignment]


def test_tied_parameters_and_those_that_are_never_saved_are_not_missing() -> None:
    model = nn.ModuleDict({name: nn.Linear(2, 2, bias=False) for name in ("a", "b", "c", "d")})
    model["b"].weight = model["a"].weight
    model._keys_to_ignore_on_save = {"c.weight"}
    trainer = _Trainer(model)
    result = _IncompatibleKeys(["b.weight", "c.weight", "d.weight"], [])
    trainer._issue_warnings_after_load(result)
    assert trainer.missing == ["d.weight"]
