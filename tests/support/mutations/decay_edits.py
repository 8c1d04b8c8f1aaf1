"""Mutations of :mod:`gamma_nlp.decay`, and of the names that wrappers change."""

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
        M("every process looks", "if own_values else spread(dtype)", "if True else spread(dtype)"),
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

ASSIGN = Edits(
    "decay/assign.py",
    (
        "tests/decay/test_assign.py",
        "tests/decay/test_groups.py",
        "tests/decay/test_effect.py",
    ),
    (
        M("ones are zeros", 'float(target == "one")', "0.0"),
        M(
            "multipliers end at 1",
            "weight_decay * policy.multiplier(name, what, spared)",
            "weight_decay * min(1.0, policy.multiplier(name, what, spared))",
        ),
        M("offsets are lost", "(what.offset if isinstance(what, Gain) else 0.0)", "0.0"),
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
            "assign(table, policy, weight_decay, trained=trained, spared=spared)",
            "assign(table, policy, weight_decay, spared=spared)",
        ),
        M(
            "patterns need not match",
            "if not any(fnmatchcase(name, pattern) for name in parameters):",
            "if False:",
        ),
    ),
)

GROUPS = Edits(
    "decay/groups.py",
    (
        "tests/decay/test_groups.py",
        "tests/decay/test_effect.py",
    ),
    (
        M(
            "small tensors lie among large ones",
            "key=lambda name: named[name].numel() < SMALL",
            "key=lambda name: 0",
        ),
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
            "one group for each parameter",
            "groups.setdefault(tuple(keys.items()),",
            "groups.setdefault((name,),",
        ),
        M("coupled mode passes", 'if d.mode == "coupled"]', "if False]"),
    ),
)

GROUP_KEYS = Edits(
    "decay/group_keys.py",
    (
        "tests/decay/test_groups.py",
        "tests/decay/test_attached.py",
    ),
    (
        M(
            "offset gains decay by themselves",
            'if part != "center" or decay.center:',
            'if part != "center":',
        ),
        M("the mode does not matter", '"center" if mode == native else "all"', '"center"'),
        M("ramps have no end", "if ramp and not length:", "if False:"),
        M(
            "constant decay passes momentum",
            'if schedule.kind == "constant" and mode == "coupled":',
            "if False:",
        ),
        M("undecayed parameters have keys of the hook", "if decay.coefficient == 0:", "if False:"),
        M(
            "any decay goes on",
            'if "gamma_share" in group or not all(',
            'if "gamma_share" in group or False and all(',
        ),
    ),
)

POLICY = Edits(
    "decay/policy.py",
    (
        "tests/decay/test_policy.py",
        "tests/decay/test_groups.py",
    ),
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
            "kinds do not decay gains",
            "for value in (*by_category, *self.kinds.values())",
            "for value in by_category",
        ),
        M(
            "rules spare nothing",
            "if spared is not None and name in spared:",
            "if spared is not None and False:",
        ),
        M(
            "a rule needs no model",
            'if self.rule != "position" and spared is None:',
            "if False:",
        ),
        M(
            "shifts never go back to their start",
            'what is Role.SHIFT and self.target == "start"',
            "False",
        ),
    ),
)

POLICY_KEYS = Edits(
    "decay/policies/keys.py",
    ("tests/decay/test_policy.py",),
    (
        M(
            "multipliers above 1 are refused",
            "if not 0 <= value <= sys.float_info.max:",
            "if not 0 <= value <= 1:",
        ),
        M(
            "weights may have a target",
            "if key in _WORDS and key not in TARGET_KEYS:",
            "if False:",
        ),
        M(
            "targets of words win over patterns",
            "chain(patterns, (word for word in words if word in entries))",
            "chain((word for word in words if word in entries), patterns)",
        ),
    ),
)

PRESETS = Edits(
    "decay/policies/presets.py",
    (
        "tests/decay/test_policy.py",
        "tests/decay/test_presets.py",
    ),
    (
        M(
            "iwd is guidelines",
            '_INPUT_NORMS = {**_NO_GAIN, "branch_inner": 1.0,',
            '_INPUT_NORMS = {**_NO_GAIN, "branch_inner": 1.0, "branch_last": 1.0,',
        ),
        M("iwd decays q/k norms", '"kinds": {"qk_norm": 0.0}', '"kinds": {}'),
        M(
            "all is all_params",
            '"all": _EVERY_GAIN,',
            '"all": {**_EVERY_GAIN, "shift": 1.0},',
        ),
        M("olmo decays embeddings", '{**_EVERYTHING, "embedding": 0.0}', "_EVERYTHING"),
        M("plain decay goes to gain 0", '"target": "stored"', '"target": "zero"'),
        M(
            "qwen3_next goes to gain 0",
            '{**_EVERY_GAIN, "target": "one", ',
            "{**_EVERY_GAIN, ",
        ),
    ),
)

PEER_RULES = Edits(
    "gains/peer_rules.py",
    ("tests/gains/test_peer_rules.py",),
    (
        M("scalars decay", ".ndim <= 1", ".ndim == 1"),
        M("stacked biases decay", 'or plain.endswith(".bias")', ""),
        M("a bias at the top is spared", 'endswith(".bias")', 'endswith("bias")'),
        M("no patterns", "fnmatchcase(plain, pattern)", "plain == pattern"),
        M("wrappers hide the list", "_no_weight_decay(unwrap(model))", "_no_weight_decay(model)"),
    ),
)

HOOK = Edits(
    "decay/step_hook.py",
    ("tests/decay/test_step_hook.py",),
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
            'buckets([p for p in group["params"] if p.grad is not None])',
            'buckets([p for p in group["params"]])',
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
        M("large steps are halfway", "            _check_size(group)\n", "            pass\n"),
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
    ("tests/decay/test_step_hook.py",),
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
    ("tests/decay/test_step_hook.py",),
    (M("a step inside a step decays", "return found > 1", "return False"),),
)

DEFERRED = Edits(
    "decay/deferred.py",
    ("tests/decay/test_step_hook.py",),
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
    ("tests/decay/test_step_hook.py",),
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

OPTIMIZER = Edits(
    "decay/optimizer.py",
    (
        "tests/decay/test_optimizer.py",
        "tests/decay/test_attached.py",
        "tests/decay/test_added_later.py",
    ),
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
            "the model is not known",
            "attach(made, model=model, decided=decided)",
            "attach(made, decided=decided)",
        ),
    ),
)

DECIDED = Edits(
    "decay/decided.py",
    ("tests/decay/test_decided.py",),
    (
        M("every rate passes", "if not number or not 0 <= rate < math.inf:", "if not number:"),
        M("an earlier part does not count", "    if not earlier:\n", "    if True:\n"),
        M(
            "any earlier part counts",
            "if as_told(present[plain[name]], native) == as_told(before, native):",
            "if True:",
        ),
    ),
)

ATTACHED = Edits(
    "decay/attached.py",
    (
        "tests/decay/test_attached.py",
        "tests/decay/test_optimizer.py",
        "tests/decay/test_untrained.py",
        "tests/decay/test_added_later.py",
    ),
    (
        M(
            "copies lose their hooks",
            "    optimizer.__setstate__(state)\n    _add_hooks(optimizer, labels, decided)\n",
            "    optimizer.__setstate__(state)\n",
        ),
        M("copies know names", "dataclasses.replace(decided, decays={}, rates=None)", "decided"),
        M(
            "own loading is not seen",
            "if type(optimizer).load_state_dict is Optimizer.load_state_dict:",
            "if True:",
        ),
        M(
            "nobody watches",
            "    if model is not None:\n        watch",
            "    if False:\n        watch",
        ),
    ),
)

ADDED_LATER = Edits(
    "decay/added_later.py",
    ("tests/decay/test_added_later.py",),
    (
        M("unknown parameters do not decay", "if asked[name] not in known]:", "if False]:"),
        M("said decay is not heard", 'if "weight_decay" not in param_group:', "if True:"),
        M(
            "added parameters start the clock",
            "{**options, **group, **clock}",
            "{**options, **group}",
        ),
        M(
            "added parameters have no hook",
            "        hook_if_needed(optimizer)\n\n    def _named",
            "\n    def _named",
        ),
    ),
)

LOADING = Edits(
    "decay/loading.py",
    (
        "tests/decay/test_attached.py",
        "tests/decay/test_optimizer.py",
    ),
    (
        M("saved decay wins", "            group.update(present)\n", ""),
        M(
            "saved keys of the hook stay",
            "            for key in DECAY_KEYS:\n                group.pop(key, None)\n",
            "",
        ),
        M("what was deferred is not", "group.update(still_deferred(", "dict(still_deferred("),
        M(
            "keep is not heard",
            'if all(known[name].rounding == "defer" for name in names if name in known):',
            "if True:",
        ),
        M("changes are not told", "if before != now:", "if False:"),
        M(
            "old states had no decay",
            'group.get("gamma_decay", group.get("weight_decay", 0.0))',
            'group.get("weight_decay", 0.0)',
        ),
    ),
)

STATES = Edits(
    "decay/saved_state.py",
    (
        "tests/decay/test_saved_state.py",
        "tests/decay/test_attached.py",
    ),
    (
        M(
            "saved groups bring their decay",
            '{*group, "initial_lr"} - OWN_KEYS',
            '{*group, "initial_lr"} - {"params", "param_names"}',
        ),
        M("names twice pass", "if name in origin:\n", "if False:\n"),
        M(
            "states in place",
            'new[key] = deepcopy(agreed(values, key, group["param_names"]))',
            'group[key] = new[key] = agreed(values, key, group["param_names"])',
        ),
        M("missing parameters pass", "if name not in origin]:\n", "if False]:\n"),
        M(
            "loose states are dropped",
            'state = {number.get(key, key): value for key, value in saved["state"].items()}',
            'state = {number[key]: saved["state"][key] for key in number if key in saved["state"]}',
        ),
        M("progress is lost", "return new | progress(list(sources.values()))", "return new"),
        M("a state is kept by place", "{number.get(key, key): value", "{key: value"),
    ),
)

JOINED = Edits(
    "decay/joined.py",
    (
        "tests/decay/test_saved_state.py",
        "tests/decay/test_attached.py",
    ),
    (
        M(
            "different rates are merged",
            "if not all(same(first, other) for other in others):",
            "if False:",
        ),
        M(
            "what is due is dropped",
            "            found[key] = deepcopy(values[0])\n",
            "            pass\n",
        ),
    ),
)

LAYOUT = Edits(
    "decay/stock_layout.py",
    ("tests/decay/test_stock_layout.py",),
    (
        M("the layout stays", 'result["param_groups"] = result.pop(OURS)', "result.pop(OURS)"),
        M("other parameters fit a layout", "if sorted(order) != sorted(origin):", "if False:"),
        M("our decay in their layout", '"weight_decay": decay, "params"', '"params"'),
        M(
            "our keys in their layout",
            "if key not in OWN_KEYS",
            "if key not in ('params', 'param_names')",
        ),
    ),
)

SCHEDULERS = Edits(
    "decay/scheduler_state.py",
    ("tests/decay/test_scheduler_state.py",),
    (
        M("schedulers keep rates of old groups", '"base_lrs", "_last_lr"', '"_last_lr"'),
        M("parts of schedulers are left", 'if key == "_schedulers":', "if False:"),
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

EFFECT = Edits(
    "decay/effect.py",
    ("tests/decay/test_effect.py",),
    (
        M(
            "frozen gains have an effect",
            "if name in trained and policy.multiplier(",
            "if policy.multiplier(",
        ),
        M(
            "every silence equals none",
            "if multiplier != none.multiplier(name, what):",
            "if False:",
        ),
        M(
            "modes are equal",
            "if policy.mode != none.mode:",
            "if False:",
        ),
        M(
            "schedules are equal",
            "if multiplier and policy.schedule_of(",
            "if False and (lambda *_, **__: LR)(",
        ),
        M(
            "presets' kinds are the user's",
            "if any(policy.kinds is preset.kinds",
            "if False and any(policy.kinds is preset.kinds",
        ),
        M("said twice", "not default and not said:", "not default:"),
        M(
            "spared weights count",
            "normalized=name in normalized)\n        for",
            "normalized=False)\n        for",
        ),
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
    DOSE, OPTIMIZER_DOSES, LAWS, ROUNDED, MOMENTUM, ROUNDING, PLANNED, KNOWN, ASSIGN, GROUPS,
    GROUP_KEYS, POLICY, POLICY_KEYS, PRESETS, PEER_RULES, HOOK, FOREACH, NESTED, DEFERRED,
    SCHEDULES, OPTIMIZER, DECIDED, ATTACHED, ADDED_LATER, LOADING, STATES, JOINED, LAYOUT,
    SCHEDULERS, PLAN, PRECISION, EFFECT, UNTRAINED, ANNOUNCE, WRAPPERS,
)  # fmt: skip
