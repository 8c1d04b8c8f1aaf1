"""Mutations of :mod:`gamma_nlp.decay`, and of the names that wrappers change."""

from __future__ import annotations

from . import Mutation as M
from .files import Edits

DOSE = Edits(
    "decay/dose.py",
    ("tests/decay/test_dose.py", "tests/decay/test_dose_known.py"),
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
        M("one dtype for all of a group", "(p.dtype, p.device.type), []", "(None, None), []"),
        M("cycles of momentum are lost", "if momenta is not None and momentum.any:", "if False:"),
        M("nothing is deferred", 'decay.rounding == "defer"', 'decay.rounding == "x"'),
        M("unknown laws have a dose", "    if why:\n", "    if False:\n"),
        M("momentum 1 is allowed", "if not 0 <= momentum < 1:", "if not 0 <= momentum <= 1:"),
        M(
            "nan passes",
            "if not math.isfinite(coefficient) or coefficient < 0:",
            "if coefficient < 0:",
        ),
    ),
)

LAWS = Edits(
    "decay/laws.py",
    ("tests/decay/test_dose.py", "tests/decay/test_dose_grid.py"),
    (
        M("no value is displaced", "(1 + deferred.MOVED) * values", "values"),
        M("every value counts once", "(one.counts * after[own])", "(after[own])"),
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
    ("tests/decay/test_momentum.py", "tests/decay/test_dose_known.py"),
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
        M("all is deferred", "if part > TOLERATED:", "if True:"),
        M("coupled decay is deferred", 'if mode == "coupled" or decay', "if decay"),
        M("keep is not heard", 'decay.rounding == "keep" or ', ""),
        M("every process looks", "if own_values else spread(dtype)", "if True else spread(dtype)"),
        M(
            "schedules are not read",
            "decay.coefficient * factors)",
            "decay.coefficient * factors / factors)",
        ),
    ),
)

KNOWN = Edits(
    "decay/known_optimizers.py",
    ("tests/decay/test_optimizer.py", "tests/decay/test_dose.py"),
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
            'if "test_dose" not in name and name not in NATIVE:',
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

GROUPS = Edits(
    "decay/groups.py",
    ("tests/decay/test_groups.py", "tests/decay/test_effect.py"),
    (
        M(
            "multipliers end at 1",
            "weight_decay * policy.multiplier(name, what)",
            "weight_decay * min(1.0, policy.multiplier(name, what))",
        ),
        M("offsets are lost", "what.offset if isinstance(what, Gain) else 0.0", "0.0"),
        M(
            "offset gains decay by themselves",
            "decay.mode == native and decay.offset == 0",
            "decay.mode == native",
        ),
        M(
            "the mode does not matter",
            "decay.mode == native and decay.offset == 0",
            "decay.offset == 0",
        ),
        M("undecayed parameters have keys of the hook", "if decay.coefficient == 0:", "if False:"),
        M(
            "frozen parameters are grouped",
            "in model.named_parameters() if p.requires_grad}\n    if not named",
            "in model.named_parameters()}\n    if not named",
        ),
        M(
            "names keep their wrappers",
            'group["param_names"].append(plain[name])',
            'group["param_names"].append(name)',
        ),
        M(
            "a table fits the bare model alone",
            "name if name in in_table else by_plain_name.get(own[name])",
            "name if name in in_table else None",
        ),
        M(
            "unknown parameters pass",
            "if parameter.requires_grad and name not in listed_as:",
            "if False:",
        ),
        M("no decay is refused", "or weight_decay < 0:", "or weight_decay <= 0:"),
        M("no decay always passes", "if weight_decay == 0 and (stopped", "if False and (stopped"),
        M(
            "frozen gains count",
            "assign(table, DecayPolicy.load(policy), weight_decay, trained=trained)",
            "assign(table, DecayPolicy.load(policy), weight_decay)",
        ),
        M(
            "one group for each parameter",
            "groups.setdefault(tuple(keys.items()),",
            "groups.setdefault((name,),",
        ),
        M("coupled mode passes", 'if decays[name].mode == "coupled"', "if False"),
        M(
            "patterns need not match",
            "if not any(fnmatchcase(name, pattern) for name in parameters):",
            "if False:",
        ),
    ),
)

POLICY = Edits(
    "decay/policy.py",
    ("tests/decay/test_policy.py", "tests/decay/test_groups.py"),
    (
        M(
            "the last match wins",
            "for pattern, value in self.patterns.items():",
            "for pattern, value in reversed(self.patterns.items()):",
        ),
        M(
            "categories win over kinds",
            "if what.kind in self.kinds:",
            "if what.kind in self.kinds and not getattr(self, what.category.value):",
        ),
        M(
            "embeddings do not decay",
            "return self.weight if value is None else value",
            "return 0.0 if value is None else value",
        ),
        M("unused gains decay", "if what.category is None:", "if False:"),
        M(
            "multipliers above 1 are refused",
            "if not 0 <= value <= sys.float_info.max:",
            "if not 0 <= value <= 1:",
        ),
        M(
            "kinds do not decay gains",
            "for value in (*by_category, *self.kinds.values())",
            "for value in by_category",
        ),
        M(
            "input_only is guidelines",
            '_preset("input_only", branch_inner=1.0)',
            '_preset("input_only", branch_inner=1.0, branch_last=1.0)',
        ),
        M(
            "all is all_params",
            '_preset("all", **dict.fromkeys(CATEGORY_KEYS, 1.0))',
            '_preset("all", **dict.fromkeys((*CATEGORY_KEYS, "shift"), 1.0))',
        ),
    ),
)

HOOK = Edits(
    "decay/step_hook.py",
    ("tests/decay/test_step_hook.py",),
    (
        M(
            "maximize is ignored",
            'sign = -1.0 if group.get("maximize") else 1.0\n            factors',
            "sign = 1.0\n            factors",
        ),
        M(
            "the loss scale is ignored",
            'sign * group["gamma_decay"], getattr(optimizer, "grad_scale", None)',
            'sign * group["gamma_decay"]',
        ),
        M("skipped steps decay", "keep = _keep(optimizer)", "keep = None"),
        M(
            "flags of two devices are negative",
            "(found_inf == 0).to(torch.float32)",
            "1 - found_inf",
        ),
        M(
            "toward weight 0",
            "torch._foreach_add(weights, offset) if offset else weights",
            "weights",
        ),
        M(
            "without gradients too",
            "if p.grad is not None]\n        if parameters",
            "if p.requires_grad]\n        if parameters",
        ),
        M(
            "twice with a closure",
            "loss = closure()\n    decay(optimizer)",
            "loss = closure()\n    decay(optimizer)\n    decay(optimizer)",
        ),
        M("double decay passes", 'if group.get("weight_decay"):', "if False:"),
        M("float16 overflows", "(scaled and gradient.dtype == torch.float16)", "False"),
    ),
)

OPTIMIZER = Edits(
    "decay/optimizer.py",
    ("tests/decay/test_optimizer.py", "tests/decay/test_untrained.py"),
    (
        M(
            "scale_parameter is off by default",
            'kwargs.get("scale_parameter", True)',
            'kwargs.get("scale_parameter", False)',
        ),
        M(
            "relative_step is off by default",
            'kwargs.get("relative_step", True)',
            'kwargs.get("relative_step", False)',
        ),
        M("no rate is a rate", "    if lr is None:\n", "    if False:\n"),
        M(
            "hidden skips pass",
            '"grad_scaler" in inspect.signature(optimizer_class.step).parameters and',
            "False and",
        ),
        M(
            "no hook",
            'if any("gamma_decay" in group for group in optimizer.param_groups):',
            "if False:",
        ),
        M(
            "copies lose their hooks",
            "    optimizer.__setstate__(state)\n    _add_hooks(optimizer, labels)\n",
            "    optimizer.__setstate__(state)\n",
        ),
        M(
            "saved decay wins",
            "            group.update(present)\n",
            "",
        ),
        M(
            "saved keys of the hook stay",
            "            for key in DECAY_KEYS:\n                group.pop(key, None)\n",
            "",
        ),
        M(
            "own loading is not seen",
            "if type(optimizer).load_state_dict is Optimizer.load_state_dict:",
            "if True:",
        ),
        M("changes are not told", "if before != now:", "if False:"),
        M(
            "nobody watches",
            "    if model is not None:\n        watch",
            "    if False:\n        watch",
        ),
    ),
)

STATES = Edits(
    "decay/saved_state.py",
    ("tests/decay/test_saved_state.py",),
    (
        M(
            "saved groups bring their decay",
            '{"params", "param_names", *DECAY_KEYS}:',
            '{"params", "param_names"}:',
        ),
        M("schedulers keep rates of old groups", '"base_lrs", "_last_lr"', '"_last_lr"'),
        M("parts of schedulers are left", 'if key == "_schedulers":', "if False:"),
        M("names twice pass", "if name in origin:\n", "if False:\n"),
        M(
            "different rates are merged",
            "if not all(_same(first, other) for other in others):",
            "if False:",
        ),
        M(
            "states in place",
            "new[key] = deepcopy(_agreed(values, key, names))",
            "group[key] = new[key] = _agreed(values, key, names)",
        ),
        M("missing parameters pass", "if name not in origin]:\n", "if False]:\n"),
        M("loose states are dropped", "        if key not in old_ids:\n", "        if False:\n"),
    ),
)

PLAN = Edits(
    "decay/plan.py",
    ("tests/decay/test_plan.py", "tests/decay/test_dose.py", "tests/decay/test_dose_known.py"),
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
    ("tests/decay/test_dose.py", "tests/decay/test_precision.py"),
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

EFFECT = Edits(
    "decay/effect.py",
    ("tests/decay/test_effect.py",),
    (
        M("frozen gains have an effect", "if (trained is None or gain.name in trained) and", "if"),
        M(
            "every silence equals none",
            "return policy.mode == none.mode and all(",
            "return True or all(",
        ),
        M("modes are equal", "return policy.mode == none.mode and all(", "return all("),
        M("every process speaks", "and distributed.get_rank():", "and False:"),
        M(
            "dead patterns are alive",
            "left = [name for name in left if name not in matched]",
            "pass",
        ),
    ),
)

UNTRAINED = Edits(
    "decay/untrained.py",
    ("tests/decay/test_untrained.py",),
    (
        M("no look in between", "if thawed or self._steps % EVERY == 0:", "if thawed:"),
        M(
            "no look at frozen ones",
            "if thawed or self._steps % EVERY == 0:",
            "if self._steps % EVERY == 0:",
        ),
        M(
            "other optimizers do not count",
            "for own in _watched for group",
            "for own in [optimizer] for group",
        ),
        M("said in every step", "self._told |= {*new, *replaced}", "pass"),
        M(
            "replaced ones are copies",
            "return held.grad is not None and held.dtype != p.dtype",
            "return held.grad is not None",
        ),
        M(
            "copies are replaced ones",
            "return held.grad is not None and held.dtype != p.dtype",
            "return False",
        ),
    ),
)

ANNOUNCE = Edits(
    "decay/announce.py",
    ("tests/decay/test_announce.py",),
    (
        M(
            "norms of the parameter",
            "(whole.float() + gain.offset).square()",
            "whole.float().square()",
        ),
        M("a mean of means", "sizes.get(gain.category, 0) + gain.numel", "gain.numel"),
        M(
            "reasons are not kept",
            '"no_dose_because": list(plan.unknown),',
            '"no_dose_because": [],',
        ),
    ),
)

WRAPPERS = Edits(
    "wrappers.py",
    ("tests/test_wrappers.py",),
    (
        M("one holder is left out", "while plain and all(", "if plain and all("),
        M("any name module is a holder", "while plain and all(", "while plain and any("),
        M("two names become one", "if len(set(plain.values())) < len(plain):", "if False:"),
    ),
)

DECAY = (
    DOSE, LAWS, ROUNDED, MOMENTUM, ROUNDING, KNOWN, GROUPS, POLICY, HOOK, OPTIMIZER, STATES, PLAN,
    PRECISION, EFFECT, UNTRAINED, ANNOUNCE, WRAPPERS,
)  # fmt: skip
