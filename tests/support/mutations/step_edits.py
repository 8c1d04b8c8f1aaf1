"""Mutations of the step hook: its parts, deferral and schedules."""

from __future__ import annotations

from . import Mutation as M
from .files import Edits

STEP_HOOK = tuple(f"tests/decay/test_step_hook{part}.py" for part in ("", "_skips", "_gradients"))

HOOK = Edits(
    "decay/step_hook.py",
    STEP_HOOK,
    (
        M(
            "maximize is ignored",
            'sign = -1.0 if group.get("maximize") else 1.0',
            "sign = 1.0",
        ),
        M(
            "the loss scale is ignored",
            'scale = getattr(optimizer, "grad_scale", None)',
            "scale = None",
        ),
        M("skipped steps decay", "keep = _keep(optimizer)", "keep = None"),
        M(
            "flags of two devices are negative",
            "(found_inf == 0).to(torch.float32)",
            "1 - found_inf",
        ),
        M(
            "the center moves by a",
            "factor = product([a / (1 - a), keep], weights[0].device)",
            "factor = product([a, keep], weights[0].device)",
        ),
        M(
            "without gradients too",
            "weights = [p for p in parameters if p.grad is not None]",
            "weights = list(parameters)",
        ),
        M("twice with a closure", "first=next(calls) == 1", "first=True"),
        M("coupled decay once", "if not (first or coupled):", "if not first:"),
        M(
            "gradients keep the decay",
            "            p.grad = gradient\n        self.withheld",
            "            pass\n        self.withheld",
        ),
        M(
            "coefficients stay 0",
            'group["weight_decay"] = coefficient\n        for',
            "pass\n        for",
        ),
        M("the optimizer decays too", 'group["weight_decay"] = 0.0', "pass"),
        M("failed steps stay", "self._put_back()  #", "pass  #"),
        M(
            "the start is now",
            "start = optimizer.state[p].get(START) if p in optimizer.state else None",
            "start = None",
        ),
        M("the start moves along", "p.detach().clone()", "p.detach()"),
        M(
            "large steps pass",
            'if group["gamma_mode"] == "decoupled" and coefficient * lr >= 1:',
            "if False:",
        ),
        M("large steps are halfway", "        check_shares(optimizer)\n", "        pass\n"),
        M(
            "deferred groups sleep at 0",
            'now = part == "deferred" or isinstance',
            "now = isinstance",
        ),
        M("float16 overflows", "(scaled and gradient.dtype == torch.float16)", "False"),
        M("no hook", "        optimizer.register_step_pre_hook(hook.before)\n", ""),
    ),
)

FOREACH = Edits(
    "decay/foreach.py",
    STEP_HOOK,
    (
        M(
            "toward weight 0",
            "torch._foreach_sub(weights, centers)) if centers else weights",
            "torch._foreach_sub(weights, 0.0)) if centers else weights",
        ),
        M("16 bits round the factor", 'if weights[0].device.type != "cpu":', "if True:"),
        M(
            "rates of one element fail",
            ".to(device, non_blocking=True).reshape(())",
            ".to(device, non_blocking=True)",
        ),
    ),
)

NESTED = Edits(
    "decay/nested_steps.py",
    STEP_HOOK,
    (M("a step inside a step decays", "return found > 1", "return False"),),
)

DEFERRED = Edits(
    "decay/deferred.py",
    STEP_HOOK,
    (
        M("always the same share", "0.75 + 0.5 * ((taken * _GOLDEN) % 1.0)", "1.0"),
        M("shares add up", "total -= math.log1p(-group", "total += (group"),
        M("nothing is last", 'calls == group["gamma_last"] or total', "total"),
        M("skipped steps are due", "* there(coefficient)) * counts", "* there(coefficient))"),
        M("skipped steps count", "calls += counts", "calls += 1"),
        M("what was applied is due", "due.masked_fill_(apply, 0.0)", "pass"),
        M("nothing is last on the device", ' | (calls == group["gamma_last"])', ""),
        M("progress begins anew", "there(group.get(key, 0.0))", "there(0.0)"),
    ),
)

SCHEDULES = Edits(
    "decay/schedule.py",
    STEP_HOOK,
    (
        M("squared is cubed", "return lr / peak if peak else 0.0", "return (lr / peak) ** 2"),
        M("no rate divides", "return peak / lr if lr else 0.0", "return peak / lr"),
        M(
            "ramps end late",
            "done = min(step / max(steps - 1, 1), 1.0)",
            "done = min(step / steps, 1.0)",
        ),
        M("ramps end at 0", "return end + (1 - end) * left\n\n\ndef", "return left\n\n\ndef"),
        M(
            "ramps count skipped steps",
            "if kind in RAMPS and (keep is None or bool(keep)):",
            "if kind in RAMPS:",
        ),
        M(
            "peaks are not the scheduler's",
            'group.get("max_lr", group["gamma_peak"])',
            'group["gamma_peak"]',
        ),
    ),
)

STEPS = (
    HOOK, FOREACH, NESTED, DEFERRED, SCHEDULES,
)  # fmt: skip
