"""An engine's own rules, applied to what is exported: each parameter must get what was decided."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from gamma_nlp.errors import GammaError
from gamma_nlp.export.engine import Engine, Form, Parameter, Rules, same


def check_back(
    engine: Engine, rules: Rules, wanted: Mapping[Parameter, float], forms: Sequence[Form]
) -> str:
    """Apply the rules as the engine does, to the names of every form, and compare.

    Returns:
        Whose code it was: the engine's own where it is installed, else its emulation here.

    Raises:
        GammaError: A parameter differs; nothing must be shown then.
    """
    own = True
    for form in forms:
        parameters = {Parameter(form(p.name), p.ndim): value for p, value in wanted.items()}
        checked: list[Callable[..., dict[str, float]]] = [engine.emulated]
        if own:
            checked.append(engine.applied)
        for apply in checked:
            try:
                given = apply(rules, list(parameters))
            except GammaError:
                raise
            except Exception:  # a package that is missing, or that does not import here
                if apply is engine.emulated:
                    raise
                own = False
                continue
            for (name, _), multiplier in parameters.items():
                if not same(given.get(name, -1.0), rules.weight_decay * multiplier):
                    raise GammaError(
                        f"{engine.title}: {name!r} would decay by {given.get(name)}, not by "
                        f"{rules.weight_decay * multiplier:g}; this is a fault of gamma_nlp, "
                        "please report it with the command that you typed"
                    )
    return "its own code" if own else "its rule, written anew"
