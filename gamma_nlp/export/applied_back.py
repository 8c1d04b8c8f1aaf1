"""An engine's own rules, applied to what is exported: each parameter must get what was decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module

from gamma_nlp.errors import GammaError, one_line
from gamma_nlp.export.engine import Engine, Form, Parameter, Rules, same

_REPORT = "this is a fault of gamma_nlp, please report it with the command that you typed"


def check_back(
    engine: Engine, rules: Rules, wanted: Mapping[Parameter, float], forms: Sequence[Form]
) -> str:
    """Apply the rules as the engine does, to the names of every form, and compare.

    Returns:
        Whose code it was: the engine's own where it is installed, else its emulation here.

    Raises:
        GammaError: A parameter differs; nothing must be shown then.
    """
    own = _imports(engine.modules)
    for form in forms:
        parameters = {Parameter(form(p.name), p.ndim): value for p, value in wanted.items()}
        given = [engine.emulated(rules, list(parameters))]
        if own:
            given.append(_by_own_code(engine, rules, list(parameters)))
        for coefficients in given:
            _compare(engine, rules, parameters, coefficients)
    return "its own code" if own else "its rule, written anew"


def _imports(modules: Sequence[str]) -> bool:
    """Whether an engine's own code can be used here."""
    try:
        for module in modules:
            import_module(module)
    except Exception:  # missing, or installed beside a torch or a driver that it cannot use
        return False
    return True


def _by_own_code(engine: Engine, rules: Rules, parameters: Sequence[Parameter]) -> dict[str, float]:
    try:
        return engine.applied(rules, parameters)
    except Exception as error:  # the engine refuses what its emulation takes
        raise GammaError(
            f"{engine.title}'s own code refuses the patterns found ({one_line(error)}), perhaps "
            f"since another version is installed; {_REPORT}"
        ) from error


def _compare(
    engine: Engine,
    rules: Rules,
    parameters: Mapping[Parameter, float],
    given: Mapping[str, float],
) -> None:
    for (name, _), multiplier in parameters.items():
        wanted = rules.weight_decay * multiplier
        if not same(given.get(name, -1.0), wanted):
            raise GammaError(
                f"{engine.title}: {name!r} would decay by {given.get(name)}, not by {wanted:g}; "
                f"{_REPORT}"
            )
