"""Mutations of the doses of :mod:`gamma_nlp.decay`: laws, rounding, plans."""

from __future__ import annotations

from . import Mutation as M
from .files import Edits

DOSE = Edits(
    "decay/dose.py",
    (
        "tests/decay/test_dose.py",
        "tests/decay/test_dose_known.py",
    ),
    (
        M("coupled decay is SGD's by default", "adaptive: bool = True", "adaptive: bool = False"),
        M(
            "momentum makes the sum smaller",
            "steps[0] / (1 - momentum)",
            "steps[0] * (1 - momentum)",
        ),
        M(
            "no exponential",
            "-math.expm1(-coefficient * steps[0] / (1 - momentum))",
            "coefficient * steps[0] / (1 - momentum)",
        ),
        M("one whole step is refused", "if most > 1:", "if most >= 1:"),
        M("steps beyond the gain pass", "if most > 1:", "if most > 3:"),
        M("offsets are lost", 'float(target == "one") - offset', 'float(target == "one")'),
        M("the start is the gain", "(gains - offset).to(dtype)", "gains.to(dtype)"),
        M("nothing is deferred", "deferred_share(values, decay, lrs, native=native)", "0.0"),
        M("momentum 1 is allowed", "if not 0 <= momentum < 1:", "if not 0 <= momentum <= 1:"),
        M(
            "nan passes",
            "if not math.isfinite(coefficient) or coefficient < 0:",
            "if coefficient < 0:",
        ),
    ),
)

OPTIMIZER_DOSES = Edits(
    "decay/optimizer_doses.py",
    (
        "tests/decay/test_optimizer_doses.py",
        "tests/decay/test_dose_known.py",
    ),
    (
        M("one dtype for all of a group", "(p.dtype, p.device.type), []", "(None, None), []"),
        M("cycles of momentum are lost", "if momenta is not None and momentum.any:", "if False:"),
        M("unknown laws have a dose", "    if why:\n", "    if False:\n"),
    ),
)

LAWS = Edits(
    "decay/laws.py",
    (
        "tests/decay/test_dose.py",
        "tests/decay/test_dose_grid.py",
    ),
    (
        M("no value is displaced", "(1 + deferred.MOVED) * values", "values"),
        M(
            "every value counts once",
            "left = [float((one.counts * own).sum())",
            "left = [float(own.sum())",
        ),
        M("the hook decays as the optimizer", '"after" if law.hooked else "before"', '"before"'),
        M("deferral is not seen", "    if law.share:\n", "    if False:\n"),
    ),
)

ROUNDED = Edits(
    "decay/rounded.py",
    ("tests/decay/test_rounded.py",),
    (
        M(
            "no power of two",
            "torch.minimum(within.floor() + 1, room.floor())",
            "within.floor() + 1",
        ),
        M("few units are many", "_MANY = 128", "_MANY = 2"),
        M("the factor is exact", "if self.factor is None:", "if True:"),
    ),
)

MOMENTUM = Edits(
    "decay/momentum.py",
    (
        "tests/decay/test_momentum.py",
        "tests/decay/test_dose_known.py",
    ),
    (
        M("dampening from the first step on", "rest * pull if number else pull", "rest * pull"),
        M(
            "nesterov is left out",
            "if momentum.nesterov else held\n            held",
            "if False else held\n            held",
        ),
        M(
            "long runs have any dose",
            "        return None\n    return rounded",
            "        pass\n    return rounded",
        ),
    ),
)

ROUNDING = Edits(
    "decay/rounding.py",
    ("tests/decay/test_rounding.py",),
    (
        M("all is deferred", "if part > decay.tolerated else 0.0", "if True else 0.0"),
        M(
            "coupled decay is deferred",
            'decoupled = decay.mode_in(native) == "decoupled"',
            "decoupled = True",
        ),
        M("keep is not heard", ' and decay.rounding == "defer"', ""),
        M("every process looks", "_several_processes() and not copied", "False"),
    ),
)

PLANNED = Edits(
    "decay/laws.py",
    ("tests/decay/test_rounding.py",),
    (
        M(
            "schedules are not read",
            "decay.coefficient * factors)",
            "decay.coefficient * factors / factors)",
        ),
    ),
)

KNOWN = Edits(
    "decay/known_optimizers.py",
    (
        "tests/decay/test_optimizer.py",
        "tests/decay/test_optimizer_doses.py",
    ),
    (
        M(
            "a flag has the other default",
            "kwargs.get(flag, default)",
            "kwargs.get(flag, not default)",
        ),
        M("apex is coupled", '_by_flag("adam_w_mode", True)', '_by_flag("adam_w_mode", False)'),
        M("an attribute is not read", 'getattr(optimizer, "adam_w_mode", True)', "True"),
        M("8 bit SGD is adaptive", '("SGD", "SGD8bit", "SGD32bit")', '("SGD", "SGD32bit")'),
        M(
            "RMSprop is not adaptive",
            '("SGD", "SGD8bit", "SGD32bit")',
            '("SGD", "SGD8bit", "SGD32bit", "Adagrad")',
        ),
        M(
            "a subclass is known",
            "if name not in NATIVE:",
            'if "test_optimizer_doses" not in name and name not in NATIVE:',
        ),
        M("lambd is ignored", 'if group.get("lambd"):', "if False:"),
        M(
            "own rates: both needed",
            'group.get("relative_step") or group',
            'group.get("relative_step") and group',
        ),
        M(
            "coupled Adam has a dose",
            '== "coupled" and is_adaptive(optimizer)',
            '== "coupled" and False',
        ),
        M("coupled SGD has none", '== "coupled" and is_adaptive(optimizer)', '== "coupled"'),
        M(
            "the hook's mode is not read",
            'if "gamma_mode" in group:\n        return',
            "if False:\n        return",
        ),
        M("a wrong word of the user's passes", "if native_decay not in (None, mode):", "if False:"),
    ),
)

PLAN = Edits(
    "decay/plan.py",
    (
        "tests/decay/test_plan.py",
        "tests/decay/test_optimizer_doses.py",
        "tests/decay/test_dose_known.py",
    ),
    (
        M("samples at the start", "factor(start + length // 2)", "factor(start)"),
        M(
            "one rate for all groups",
            "done[float(base), factor] = _sampled(float(base), factor, steps, most)",
            "done[float(base), factor] = _sampled(0.1, factor, steps, most)",
        ),
        M("metrics are not seen", "or _wants_metrics(scheduler):", "or False:"),
        M("frozen gains are unknown", "self.doses.get(own, 0.0)", "self.doses.get(own)"),
        M("no rates are a dose of 0", "one = Dose(told=None,", "one = Dose(told=0.0,"),
        M("reasons are not told", "if dose.why)", "if False)"),
        M("no momentum is planned", "held if len(set(held)) > 1 else None", "None"),
        M("targets are parameters", "[center + offset]", "[center]"),
        M(
            "the scheduler itself runs",
            "copy.deepcopy(scheduler, {id(scheduler.optimizer): stand_in})",
            "scheduler",
        ),
    ),
)

PRECISION = Edits(
    "decay/precision.py",
    (
        "tests/decay/test_dose.py",
        "tests/decay/test_precision.py",
    ),
    (
        M("half a dose is lost", "dose < 0.5 * exact", "dose <= 0.5 * exact"),
        M("shifts stay", "if role is Role.SHIFT}", "if False}"),
        M(
            "float16 gains stay",
            "parameter.dtype in (torch.float16, torch.bfloat16)",
            "parameter.dtype == torch.bfloat16",
        ),
        M("one remedy for all", "elif autocast:", "elif not autocast:"),
        M("keep has no remedy", "if kept:", "if False:"),
    ),
)

ANNOUNCE = Edits(
    "decay/announce.py",
    ("tests/decay/test_announce.py",),
    (
        M(
            "norms of the parameter",
            "(weight.float() + gain.offset).square()",
            "weight.float().square()",
        ),
        M("a mean of means", "sizes.get(gain.category, 0) + gain.numel", "gain.numel"),
        M(
            "reasons are not kept",
            '"no_dose_because": list(plan.unknown),',
            '"no_dose_because": [],',
        ),
    ),
)

DOSES = (
    DOSE, OPTIMIZER_DOSES, LAWS, ROUNDED, MOMENTUM, ROUNDING, PLANNED, KNOWN, PLAN, PRECISION,
    ANNOUNCE,
)  # fmt: skip
