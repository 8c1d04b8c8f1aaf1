"""A numeric check of a gain table on the model itself, in the spirit of mup's coordinate check.

One forward pass of a copy is written down and played again with noise, and with each gain changed
channel by channel. Residual additions are found by how noise travels; a category is what moves up
to the gain's first addition. Nothing is read from the residual graph or the name tables.
"""

from __future__ import annotations

import copy
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves, tree_map

from gamma_nlp.categorize import categorize
from gamma_nlp.errors import GammaError
from gamma_nlp.gains import GainTable
from gamma_nlp.probing import steps
from gamma_nlp.probing.additions import Signals, additions
from gamma_nlp.probing.report import report
from gamma_nlp.probing.tape import Tape, record
from gamma_nlp.probing.verdicts import Finding, Judge
from gamma_nlp.trace import example_inputs, unwrap

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-6}
LARGE = 500_000_000
"""Models with more parameters than this are checked in float32, others in float64."""

TINY = 1e-6
"""Matrices whose elements are all below this are randomised where a gain moves nothing."""


@dataclass(frozen=True, kw_only=True)
class ProbeReport:
    """What the probe found; iterating yields a :class:`Finding` per gain.

    Attributes:
        model: The model's class.
        additions: How many residual additions were found.
        dtype: The precision of the check.
        findings: One per gain, in the order of the table.
    """

    model: str
    additions: int
    dtype: str
    findings: tuple[Finding, ...]

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __len__(self) -> int:
        return len(self.findings)

    def having(self, verdict: str) -> list[Finding]:
        """The findings with this verdict."""
        return [finding for finding in self.findings if finding.verdict == verdict]

    @property
    def verdict(self) -> str:
        """``contradicts`` if one gain does, else ``inconclusive`` if one is, else ``agrees``."""
        for verdict in ("contradicts", "inconclusive"):
            if self.having(verdict):
                return verdict
        return "agrees"

    def counts(self) -> Counter[str]:
        """How many gains have which verdict."""
        return Counter(finding.verdict for finding in self.findings)

    def __str__(self) -> str:
        return self.text()

    def text(self, *, full: bool = False) -> str:
        """The report to read; ``full`` gives every gain a row of its own."""
        return report(self.model, self.additions, self.dtype, self.findings, full)

    def to_json(self) -> dict[str, Any]:
        """The report as plain data."""
        return {"verdict": self.verdict, **asdict(self)}


def probe(model: nn.Module, inputs: Any = None, table: GainTable | None = None) -> ProbeReport:
    """Check the category of every gain numerically.

    Args:
        model: Any module with values (not on the meta device). A copy is examined, in eval mode.
        inputs: What the forward pass is called with: a tensor, a tuple of positional or a dict
            of keyword arguments. Eight unequal tokens or more, no padding; values that differ,
            never zeros. Models of transformers need none.
        table: What to check; by default what ``categorize(model, inputs)`` says.

    Raises:
        GammaError: A forward pass that fails, or a model that cannot be copied or has no values.
    """
    if table is None:
        table = categorize(model, inputs)
    given = example_inputs(unwrap(model)) if inputs is None else inputs
    findings, found, dtype = _examine(model, given, table, randomise=False)
    silent = [f.name for f in findings.values() if f.verdict == "inconclusive"]
    if silent and any(_is_silent(p) for p in model.parameters()):
        again, _, _ = _examine(model, given, table, randomise=True)
        findings |= {name: again[name] for name in silent}
    return ProbeReport(
        model=type(unwrap(model)).__name__,
        additions=found,
        dtype=str(dtype).removeprefix("torch."),
        findings=tuple(findings[gain.name] for gain in table),
    )


def _examine(
    model: nn.Module, inputs: Any, table: GainTable, randomise: bool
) -> tuple[dict[str, Finding], int, torch.dtype]:
    size = sum(p.numel() for p in model.parameters())
    dtypes = [torch.float32] if size > LARGE else [torch.float64, torch.float32]
    for dtype in dtypes:
        inner, names = _copy(model, dtype)
        if randomise:
            _randomise(inner)
        given = _cast(inputs, dtype)
        # Taken before the run, in which a model may replace the data of its parameters.
        memory = {name: p.untyped_storage() for name, p in names.items()}
        try:
            tape = _record(inner, given, dtype)
        except GammaError:
            if dtype is dtypes[-1]:  # some kernels know no float64
                raise
            continue
        if all(bool(tape.value(ref).isfinite().any()) for ref in tape.outputs):
            break  # masks can overflow in float64 alone
    places = {name: tape.key_of(storage) for name, storage in memory.items()}
    sources = [tape.key_of(t.untyped_storage()) for t in tree_leaves(given) if _carries_signal(t)]
    facts = steps.examine(
        tape,
        {key: name for name, key in places.items() if key is not None},
        [key for key in sources if key is not None],
    )
    signals = Signals(tape, facts, TOLERANCE[dtype])
    counted = additions(signals)
    judge = Judge(signals, counted, dtype)
    return {gain.name: judge.judge(gain, places[gain.name]) for gain in table}, len(counted), dtype


def _copy(model: nn.Module, dtype: torch.dtype) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """A copy in this precision, and its parameters under the names of the original."""
    memo: dict[int, Any] = {}
    inner = unwrap(model)
    try:
        twin = copy.deepcopy(inner, memo)
    except Exception as error:
        raise GammaError(
            f"{type(inner).__name__} cannot be copied ({type(error).__name__}: {error}), and the "
            "probe works on a copy. Check table against graph instead: "
            "categorize(model, example_inputs)"
        ) from error
    with torch.no_grad():
        for tensor in [*twin.parameters(), *twin.buffers()]:
            kind = dtype if tensor.is_floating_point() else tensor.dtype
            tensor.data = tensor.data.to(kind, copy=True).contiguous()
    for module in twin.modules():
        config: Any = getattr(module, "config", None)
        if getattr(config, "_attn_implementation_internal", None) not in (None, "eager", "sdpa"):
            config._attn_implementation_internal = "eager"
        if getattr(config, "_experts_implementation_internal", None) is not None:
            config._experts_implementation_internal = "eager"  # fused ones know no float64
    names = {
        name: memo[id(parameter)]
        for name, parameter in model.named_parameters()
        if id(parameter) in memo
    }
    return twin.eval(), names


def _is_silent(parameter: torch.Tensor) -> bool:
    """Whether a parameter is constant, or so small that nothing gets through it."""
    if not parameter.is_floating_point() or parameter.numel() == 0:
        return False
    first = parameter.flatten()[0]
    return bool((parameter == first).all() | (parameter.abs().max() < TINY))


def _randomise(model: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if _is_silent(parameter):
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.add_(0.1 * noise.to(parameter))


def _cast(inputs: Any, dtype: torch.dtype) -> Any:
    def cast(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        return leaf.detach().to(dtype if leaf.is_floating_point() else leaf.dtype, copy=True)

    return tree_map(cast, inputs)


def _carries_signal(leaf: Any) -> bool:
    """Whether an input holds a signal: numbers that differ; a mask does not."""
    return (
        isinstance(leaf, torch.Tensor)
        and leaf.is_floating_point()
        and not bool(((leaf == 0) | (leaf == 1)).all())
    )


def _record(model: nn.Module, inputs: Any, dtype: torch.dtype) -> Tape:
    running: list[str] = []
    names = {id(module): name for name, module in model.named_modules()}

    def enter(module: nn.Module, args: Any) -> None:
        running.append(names.get(id(module), running[-1] if running else ""))

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        running.pop()

    def run() -> Any:
        if isinstance(inputs, Mapping):
            return model(**inputs)
        if isinstance(inputs, torch.Tensor):
            return model(inputs)
        return model(*inputs)

    hooks = [
        nn.modules.module.register_module_forward_pre_hook(enter),
        nn.modules.module.register_module_forward_hook(leave),
    ]
    fast = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        with torch.random.fork_rng(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with torch.compiler.set_stance("force_eager"):
                return record(run, lambda: running[-1] if running else "", dtype)
    except GammaError:
        raise
    except Exception as error:
        place = f" in module {running[-1]!r}" if running and running[-1] else ""
        text = str(error).strip().split("\n")[0][:300]
        raise GammaError(
            f"the forward pass of {type(model).__name__} failed{place}: "
            f"{type(error).__name__}: {text}. Pass inputs that it accepts, for example "
            "probe(model, {'input_ids': torch.randint(1, 100, (1, 8))})"
        ) from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for hook in hooks:
            hook.remove()
