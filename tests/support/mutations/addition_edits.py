"""Mutations of what :mod:`gamma_nlp.gains.rule` counts as a residual addition."""

from __future__ import annotations

from . import Mutation

REACH = (
    Mutation(
        "choices carry the signal",
        "for parent in () if node.op is Op.CHOICE else node.parents:",
        "for parent in node.parents:",
    ),
    Mutation(
        "contractions are weights between nodes",
        "weight, norm = node.op is Op.WEIGHT, node.op is Op.NORM",
        "weight, norm = node.op in (Op.WEIGHT, Op.CONTRACT), node.op is Op.NORM",
    ),
    Mutation(
        "softmaxes are weights between nodes",
        "weight, norm = node.op is Op.WEIGHT, node.op is Op.NORM",
        "weight, norm = node.op in (Op.WEIGHT, Op.SOFTMAX), node.op is Op.NORM",
    ),
    Mutation(
        "nonlinear operations are weights between nodes",
        "weight, norm = node.op is Op.WEIGHT, node.op is Op.NORM",
        "weight, norm = node.op in (Op.WEIGHT, Op.NONLINEAR), node.op is Op.NORM",
    ),
    Mutation(
        "linear operations are weights between nodes",
        "weight, norm = node.op is Op.WEIGHT, node.op is Op.NORM",
        "weight, norm = node.op in (Op.WEIGHT, Op.LINEAR), node.op is Op.NORM",
    ),
    Mutation(
        "sums are weights between nodes",
        "weight, norm = node.op is Op.WEIGHT, node.op is Op.NORM",
        "weight, norm = node.op in (Op.WEIGHT, Op.ADD), node.op is Op.NORM",
    ),
    Mutation(
        "a node does not reach itself",
        "self.all.append(everything | here)",
        "self.all.append(everything)",
    ),
    Mutation(
        "weights end every path",
        "self.all.append(everything | here)",
        "self.all.append(here if weight else everything | here)",
    ),
    Mutation(
        "free paths cross weights",
        "self.free.append(here if weight or norm else free | here)",
        "self.free.append(here if norm else free | here)",
    ),
    Mutation(
        "free paths cross norms",
        "self.free.append(here if weight or norm else free | here)",
        "self.free.append(here if weight else free | here)",
    ),
    Mutation(
        "free paths start nowhere but behind a weight or a norm",
        "self.free.append(here if weight or norm else free | here)",
        "self.free.append(here if weight or norm else free)",
    ),
    Mutation(
        "free paths do not start at a weight or a norm",
        "self.free.append(here if weight or norm else free | here)",
        "self.free.append(0 if weight or norm else free | here)",
    ),
    Mutation(
        "weightless paths cross weights",
        "self.weightless.append(here if weight else weightless | here)",
        "self.weightless.append(weightless | here)",
    ),
    Mutation(
        "weightless paths cross no norm",
        "self.weightless.append(here if weight else weightless | here)",
        "self.weightless.append(here if weight or norm else weightless | here)",
    ),
    Mutation(
        "weightless paths start at weights only",
        "self.weightless.append(here if weight else weightless | here)",
        "self.weightless.append(here if weight else weightless)",
    ),
    Mutation(
        "weightless paths do not start at a weight",
        "self.weightless.append(here if weight else weightless | here)",
        "self.weightless.append(0 if weight else weightless | here)",
    ),
)

ADDITIONS = (
    Mutation(
        "products count as sums",
        "if node.op is not Op.ADD or scores[index]:",
        "if len(node.parents) != 2 or scores[index]:",
    ),
    Mutation(
        "sums that enter a softmax count",
        "if node.op is not Op.ADD or scores[index]:",
        "if node.op is not Op.ADD:",
    ),
    Mutation(
        "the first sum is settled first",
        "for index in reversed(range(len(graph.nodes))):\n        node = graph.nodes[index]\n"
        "        if node.op is not Op.ADD",
        "for index in range(len(graph.nodes)):\n        node = graph.nodes[index]\n"
        "        if node.op is not Op.ADD",
    ),
    Mutation(
        "every later addition is around a sum",
        "around = [outer for outer in counted if _inside(index, outer, reach)]",
        "around = list(counted)",
    ),
    Mutation(
        "no addition is around a sum",
        "around = [outer for outer in counted if _inside(index, outer, reach)]",
        "around: list[Addition] = []",
    ),
    Mutation(
        "no identity shortcut counts",
        "found = _identity(index, node.parents, reach)",
        "found: Addition | None = None",
    ),
    Mutation(
        "no projection shortcut counts",
        "if found is None and not around:",
        "if False:",
    ),
    Mutation(
        "projection shortcuts count inside branches",
        "if found is None and not around:",
        "if found is None:",
    ),
    Mutation(
        "projection shortcuts count inside branches only",
        "if found is None and not around:",
        "if found is None and around:",
    ),
    Mutation(
        "identity shortcuts count inside branches only",
        "if found is None and not around:",
        "if not around:",
    ),
    Mutation(
        "every sum inside a branch counts",
        "if found is not None and all(_spans(found, outer, reach) for outer in around):",
        "if found is not None:",
    ),
    Mutation(
        "no sum inside a branch counts",
        "if found is not None and all(_spans(found, outer, reach) for outer in around):",
        "if found is not None and not around:",
    ),
    Mutation(
        "a sum spans one of the branches around it",
        "if found is not None and all(_spans(found, outer, reach) for outer in around):",
        "if found and (not around or any(_spans(found, outer, reach) for outer in around)):",
    ),
    Mutation(
        "a sum that starts a branch is inside it",
        "        node != outer.start\n        and _has(reach.all[node], outer.start)",
        "        _has(reach.all[node], outer.start)",
    ),
    Mutation(
        "a sum that the start does not reach is inside the branch",
        "        and _has(reach.all[node], outer.start)\n",
        "",
    ),
    Mutation(
        "a sum that does not reach the end is inside the branch",
        "        and _has(reach.all[outer.branch], node)\n",
        "",
    ),
    Mutation(
        "an inner skip need not run from the start",
        "return _has(reach.weightless[inner.skip], outer.start) and _has(",
        "return _has(",
    ),
    Mutation(
        "an inner skip may cross a weight after the start",
        "return _has(reach.weightless[inner.skip], outer.start) and _has(",
        "return _has(reach.all[inner.skip], outer.start) and _has(",
    ),
    Mutation(
        "an inner skip may cross no norm after the start",
        "return _has(reach.weightless[inner.skip], outer.start) and _has(",
        "return _has(reach.free[inner.skip], outer.start) and _has(",
    ),
    Mutation(
        "an inner branch stands for its skip",
        "return _has(reach.weightless[inner.skip], outer.start) and _has(",
        "return _has(reach.weightless[inner.branch], outer.start) and _has(",
    ),
    Mutation(
        "an inner sum need not run to the end",
        "and _has(\n        reach.weightless[outer.branch], inner.node\n    )",
        "",
    ),
    Mutation(
        "an inner sum may cross a weight before the end",
        "        reach.weightless[outer.branch], inner.node\n",
        "        reach.all[outer.branch], inner.node\n",
    ),
    Mutation(
        "an inner sum may cross no norm before the end",
        "        reach.weightless[outer.branch], inner.node\n",
        "        reach.free[outer.branch], inner.node\n",
    ),
)
