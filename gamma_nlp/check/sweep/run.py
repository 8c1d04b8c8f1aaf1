"""Run one check on every model class of transformers, each in a worker process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from gamma_nlp import workers
from gamma_nlp.check.sweep import small_models
from gamma_nlp.check.sweep.answers import answered


@dataclass(frozen=True, kw_only=True)
class ClassResult:
    """The result of a check for one model class; each check adds its own fields.

    Attributes:
        type: The model type.
        model: The class.
        problem: Why the class could not be checked; empty if it was.
        missing: Whether the problem is a package that is not installed.
        cut: Whether the check was cut off: it took too long, or its process died.
    """

    type: str
    model: str
    problem: str = ""
    missing: bool = False
    cut: bool = False


R = TypeVar("R", bound=ClassResult)


def sweep(
    result: type[R],
    check: Callable[[str, str], dict[str, Any]],
    fields: Callable[[workers.Answer], dict[str, Any]],
    types: Iterable[str] | None = None,
    seconds: float = workers.SECONDS,
    jobs: int | None = None,
    *,
    kind: str = "all",
    resume: Path | None = None,
) -> Iterator[R]:
    """Yield a result per class, in order, as the answers come in.

    Args:
        result: The class of the results.
        check: A function of a module, called in a worker with a model type and a class name.
        fields: Turns the answer into the fields that ``result`` adds.
        types: Model types; all of ``kind`` by default.
        seconds: Time limit for one class.
        jobs: Number of worker processes; :func:`gamma_nlp.workers.default_jobs` by default.
        kind: One of :data:`gamma_nlp.check.sweep.KINDS`.
        resume: A file that keeps the answers, so that the next call goes on where this one ended.

    Raises:
        GammaError: transformers does not list a type, or a number makes no sense.
    """
    calls = small_models.classes(types, kind)
    function = f"{check.__module__}:{check.__qualname__}"
    answers = answered(function, calls, seconds, jobs, resume)
    return (
        result(
            type=model_type,
            model=name,
            problem=answer.problem,
            missing=answer.missing,
            cut=answer.cut,
            **fields(answer),
        )
        for (model_type, name), answer in zip(calls, answers, strict=True)
    )
