"""Mutations of policies, and of the groups that express them."""

from __future__ import annotations

from . import Mutation as M
from .files import Edits

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
            "if parameter.requires_grad and name not in found:",
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
            "alike.setdefault(tuple(keys.items()),",
            "alike.setdefault((name,),",
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

POLICIES = (
    ASSIGN, GROUPS, GROUP_KEYS, POLICY, POLICY_KEYS, PRESETS, PEER_RULES, EFFECT,
)  # fmt: skip
