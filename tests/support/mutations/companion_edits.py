"""Mutations of :mod:`gamma_nlp.companions`."""

from __future__ import annotations

from . import Mutation as M
from .files import Edits

RATE = Edits(
    "companions/effective_rate/rate.py",
    (
        "tests/companions/effective_rate/test_dampening.py",
        "tests/companions/effective_rate/test_rate.py",
    ),
    (
        M("SGD's equilibrium", "(2 * shrink)) ** 0.25)", "(2 * shrink)) ** 0.5)"),
        M("coupled Adam's equilibrium", "/ (2 * decay)) ** (1 / 3))", "/ (2 * decay)) ** 0.5)"),
        M("AdamW's equilibrium", "elements / (2 * lr * decay)", "elements / (lr * decay)"),
        M("momentum does not shrink", '(step if mode == "coupled" else lr) * decay', "lr * decay"),
        M("one power", 'power = 2 if kind == "sgd" else 1', "power = 1"),
        M(
            "dampening is left out",
            '1 - float(group.get("dampening", 0.0)) if momentum else 1.0',
            "1.0",
        ),
        M("no decay settles", "if decay == 0 or lr == 0:", "if lr == 0:"),
        M("nesterov is momentum", 'if group.get("nesterov"):', "if False:"),
        M("nesterov's first step is one", "squares = (1 + momentum) ** 2", "squares = 1"),
        M("nesterov's second step is left out", "+ momentum**4 /", "+ momentum**6 /"),
        M("Adam's steps are independent", "math.sqrt((1 - beta) / (1 + beta))", "1.0"),
        M("dampening leaves the angle", "kept**2 / (1 - momentum**2)", "1 / (1 - momentum**2)"),
        M(
            "the hook's mode is not seen",
            'group.get("gamma_mode") or native_mode(type(optimizer), group)',
            "native_mode(type(optimizer), group)",
        ),
        M("moments begin at their mean", " / _debias(optimizer, w, state)", ""),
    ),
)

RULES = Edits(
    "companions/strong/rules.py",
    ("tests/companions/strong/test_rules.py", "tests/companions/strong/test_steps.py"),
    (
        M(
            "delayed without a delay",
            'if self.rule == "delayed" and not self.delay_steps:',
            "if False:",
        ),
        M("g alone, not g + r", "loss_square + 2 * dot + penalty_square", "penalty_square"),
        M("direction of g and r", "((loss_square + dot) /", "(dot /"),
        M("a loss at rest is coherent", ".nan_to_num(0.0, 0.0, 0.0)", ".nan_to_num(1.0, 0.0, 0.0)"),
        M("the ratio is not squared", "settings.ratio**2", "settings.ratio"),
        M("no delay", "act = act & started", "pass"),
        M(
            "tensors decide together",
            'act[:-1] if settings.scope == "tensor" else act[-1:].expand(len(found))',
            "act[-1:].expand(len(found))",
        ),
    ),
)

STEPS = Edits(
    "companions/strong/steps.py",
    (
        "tests/companions/strong/test_rules.py",
        "tests/companions/strong/test_steps.py",
        "tests/companions/strong/test_metric.py",
    ),
    (
        M(
            "the step ends at the weights",
            "_foreach_sub(start, after[some])",
            "_foreach_sub(w, after[some])",
        ),
        M(
            "r has no rate",
            "torch.cat([torch.ones_like(lr), lr, lr.square()], dim=1)",
            "torch.ones(3)",
        ),
        M("no rate squared", "lr, lr.square()]", "lr, lr]"),
        M(
            "one rate for all",
            'rates = [group["lr"] for group in groups]',
            'rates = [groups[0]["lr"] for _ in groups]',
        ),
        M("the metric is not used", 'if settings.metric == "euclidean":', "if True:"),
        M("AdamW's decay is a step", 'native_mode(cls, group) == "decoupled"', "False"),
        M("Adam's decay is no step", 'native_mode(cls, group) == "decoupled"', "True"),
        M("SGD's decay is a step", 'apart = not group["momentum"]', "apart = False"),
        M("SGD's decay is never a step", 'apart = not group["momentum"]', "apart = True"),
        M(
            "unknown classes are known",
            '(name in NATIVE and native_mode(cls, group) == "decoupled")',
            'native_mode(cls, group) == "decoupled"',
        ),
        M("Muon's decay is a step", "name == MUON or", ""),
        M("decay without a rate", 'w * (1 - group["lr"] * decay)', "w * (1 - decay)"),
        M(
            "zeros have a loss",
            "loss_square = _norms(signs).square()",
            "loss_square = _norms(steps).square()",
        ),
        M("no cross term", "    if l1 and l2:\n", "    if False:\n"),
        M("half a cross term", "2 * l1 * l2 *", "l1 * l2 *"),
        M("L2 has no square", "l2**2 * _norms(weights)", "l2 * _norms(weights)"),
        M("zeros have a loss in a metric", "g * w.sign().abs() if l1 else g", "g"),
        M("zeros have no loss under L2", "g * w.sign().abs() if l1 else g", "g * w.sign().abs()"),
        M("half precision is summed", "wide = _wide(first[0])", "wide = first[0].dtype"),
        M("norms in half precision", "order, dtype=_wide(tensors[0])", "order"),
        M("signs are summed in half precision", "one.sum(dtype=_wide(one))", "one.sum()"),
        M("float64 is rounded", "if tensor.dtype == torch.float64 else", "if False else"),
    ),
)

SHRINK = Edits(
    "companions/strong/shrink.py",
    ("tests/companions/strong/test_shrink.py", "tests/companions/strong/test_steps.py"),
    (
        M("types are mixed", "if i > start and (not alike or", "if i > start and (False or"),
        M("bundles have no end", " or size + tensor.numel() > TOGETHER", ""),
        M("bundles never start anew", "start, size = i, 0", "start, size = i, size"),
        M(
            "the last bundle is lost",
            "    if tensors:\n        yield",
            "    if len(tensors) > 1:\n        yield",
        ),
        M("L2 in the metric is explicit", "/ (1 + l2 * reach)", "* (1 - l2 * reach)"),
        M("L2 has no metric", "/ (1 + l2 * reach)", "/ (1 + l2)"),
        M("no L1 in a metric", "w - w.clamp(-l1 * reach, l1 * reach)) /", "w) /"),
        M("signs turn at once", "w.mul_(max(1 - l2 * dose, 0.0))", "w.mul_(1 - l2 * dose)"),
        M("signs turn unseen", "(1 - l2 * due).clamp(min=0).unbind()", "(1 - l2 * due).unbind()"),
        M("all act unseen", "doses = doses * acts\n", "pass\n"),
        M(
            "all act in a metric",
            "torch.where(act.to(w.device), proximal(w, reach, l1, l2), w)",
            "proximal(w, reach, l1, l2)",
        ),
        M("zeros move in between", "w.masked_fill_(marked & ~act, 0.0)", "pass"),
        M("zeros never move", "w.masked_fill_(marked & ~act, 0.0)", "w.masked_fill_(marked, 0.0)"),
        M(
            "marks add up",
            "torch.where(act, w == 0, marked)",
            "torch.where(act, (w == 0) | marked, marked)",
        ),
        M("marks are made anew in between", "torch.where(act, w == 0, marked)", "w == 0"),
        M("zeros move in between at once", "w.masked_fill_(zeros[i], 0.0)", "pass"),
        M(
            "marks are never made at once",
            "if zeros is not None and act:\n            torch.eq(w, 0, out=zeros[i])",
            "if zeros is not None and act:\n            pass",
        ),
    ),
)

METRIC = Edits(
    "companions/strong/metric.py",
    ("tests/companions/strong/test_metric.py",),
    (
        M(
            "momentum adds nothing up",
            "/ (1 - momentum) if momentum else 1.0",
            "if momentum else 1.0",
        ),
        M("dampening is left out", '(1 - float(group["dampening"])) /', "1 /"),
        M(
            "dampening without momentum",
            ") / (1 - momentum) if momentum else 1.0",
            ") / (1 - momentum)",
        ),
        M(
            "amsgrad is not seen",
            '"max_exp_avg_sq" if group.get("amsgrad") else "exp_avg_sq"',
            '"exp_avg_sq"',
        ),
        M("no bias correction", "(square / debias).sqrt()", "square.sqrt()"),
        M("no root", "(square / debias).sqrt()", "(square / debias)"),
        M(
            "Adam's eps is left out",
            '(square / debias).sqrt() + group["eps"])',
            "(square / debias).sqrt())",
        ),
        M("RMSprop is not centred", 'if group["centered"]:', "if False:"),
        M("RMSprop has no momentum", ' * (1 - float(group["momentum"])))', ")"),
        M(
            "Adagrad never slows",
            'slowed = 1 + (state["step"] - 1) * group["lr_decay"]',
            "slowed = 1",
        ),
        M("Adagrad slows a step early", '(state["step"] - 1) *', 'state["step"] *'),
        M("half precision is divided in", "torch.promote_types(w.dtype, torch.float32)", "w.dtype"),
        M("no gradient holds a weight", "posinf=MOST", "posinf=0.0"),
        M(
            "no rate",
            'factor(optimizer, group, group["params"][index]) * rate',
            'factor(optimizer, group, group["params"][index])',
        ),
    ),
)

MULTIPLIERS = Edits(
    "companions/batch_norm/multipliers.py",
    ("tests/companions/batch_norm/test_multipliers.py",),
    (
        M(
            "batches count alike",
            "examples = sum(len(one) for one in used) / len(used)",
            "examples = 1",
        ),
        M(
            "calls are examples",
            "sum(len(one) for one in used) / len(used)",
            "sum(len(one) for one in used)",
        ),
        M("slopes count alike", "- examples * slope_along", "- slope_along"),
        M("variances count alike", "+ examples * part", "+ part"),
        M("the mean pulls too", "centred = centred - centred.mean(1, keepdim=True)", "pass"),
        M(
            "variances of calls add up",
            " / sum(one[:, 0].numel() for one in used)",
            " / z[:, 0].numel()",
        ),
        M("only the last batch", "dot.get(name, 0) - examples", "0 - examples"),
        M("modes stay", "module.train(training)", "pass"),
        M("buffers stay", "buffer.copy_(value)", "pass"),
        M(
            "in the model's mode",
            "            module.train()\n        yield",
            "            pass\n        yield",
        ),
        M("in place passes through", "return z.clone()", "return z"),
        M(
            "no variance is a number",
            "torch.where(variance[name] > 0, dot[name] / variance[name], torch.nan)",
            "dot[name] / variance[name].clamp(min=1e-30)",
        ),
    ),
)

COMPANIONS = (RATE, RULES, STEPS, SHRINK, METRIC, MULTIPLIERS)
