"""Mutations of what stays with an optimizer, its saved states, and names under wrappers."""

from __future__ import annotations

from . import Mutation as M
from .files import Edits

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
        M("changes are not told", "if known and before != now:", "if False:"),
        M(
            "old states had no decay",
            'group.get("gamma_decay", group.get("weight_decay", 0.0))',
            'group.get("weight_decay", 0.0)',
        ),
    ),
)

SAVED = Edits(
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

WRAPPERS = Edits(
    "wrappers.py",
    ("tests/test_wrappers.py",),
    (
        M("one holder is left out", "while plain and all(", "if plain and all("),
        M("any name module is a holder", "while plain and all(", "while plain and any("),
        M("two names become one", "if len(set(plain.values())) < len(plain):", "if False:"),
    ),
)

STATES = (
    OPTIMIZER, DECIDED, ATTACHED, ADDED_LATER, LOADING, SAVED, JOINED, LAYOUT, SCHEDULERS,
    UNTRAINED, WRAPPERS,
)  # fmt: skip
