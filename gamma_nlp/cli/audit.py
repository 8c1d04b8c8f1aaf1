"""``gamma-nlp audit``: a library's rule over one model, or the stock one over every model type."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from gamma_nlp.cli.common import (
    CONTRADICTED,
    add_command,
    add_model_arguments,
    add_sweep_arguments,
    load_table,
    need_transformers,
    print_json,
    sweep_options,
    with_progress,
)
from gamma_nlp.errors import GammaError

STOCK = "hugging_face"
ONE_MODEL_ONLY = {"method": "auto", "dtype": "auto", "trust_remote_code": False, "rule": STOCK}
"""Options that go with a MODEL only, with their defaults."""

EXAMPLES = """\
  gamma-nlp audit gpt2
  gamma-nlp audit path/to/config.json --rule llama_factory --fail-on accident --json
  gamma-nlp audit --all --types gemma2,t5"""


def add_parser(commands: Any) -> None:
    """Add the command to the subparsers of ``gamma-nlp``."""
    parser = add_command(commands, "audit", run=run, examples=EXAMPLES)
    add_model_arguments(parser, nargs="?")
    parser.add_argument(
        "--rule", metavar="NAME", default=STOCK,
        help="whose rule: hugging_face (the installed Trainer), llama_factory, axolotl, "
        "torchtitan, megatron, olmo_core, timm or fairseq (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--fail-on", choices=("accident",),
        help="exit with 1 if anything decays or is spared by accident, for tests",
    )  # fmt: skip
    group = parser.add_argument_group("all models")
    group.add_argument(
        "--all", action="store_true",
        help="in place of MODEL: every model type of transformers, each built small",
    )  # fmt: skip
    add_sweep_arguments(group)


def run(arguments: argparse.Namespace) -> int:
    """Print what the rule gets wrong."""
    check(arguments)
    need_transformers("audit")
    if arguments.all:
        return _run_all(arguments)
    from gamma_nlp.check.audit.compare import audit
    from gamma_nlp.check.audit.rules import check_rule

    check_rule(arguments.rule)
    found = audit(*load_table(arguments), rule=arguments.rule)
    if arguments.json:
        print_json(found.to_json())
    else:
        print(found)
    return _code(arguments, len(found.accidents))


def _code(arguments: argparse.Namespace, accidents: int) -> int:
    return CONTRADICTED if arguments.fail_on and accidents else 0


def check(arguments: argparse.Namespace) -> None:
    """Insist on either MODEL or ``--all``, and on options that go with it.

    Raises:
        GammaError: Both or neither, or an option of the other.
    """
    if arguments.all and arguments.model is not None:
        raise GammaError(
            f"audit takes a MODEL or --all, not both: leave out {arguments.model!r} or --all"
        )
    if not arguments.all and arguments.model is None:
        raise GammaError("audit needs a MODEL (hub name, folder or config.json) or --all")
    sweep = argparse.ArgumentParser()
    add_sweep_arguments(sweep)
    defaults = ONE_MODEL_ONLY if arguments.all else vars(sweep.parse_args([]))
    for name, value in defaults.items():
        if getattr(arguments, name) != value:
            option = "--" + name.replace("_", "-")
            raise GammaError(f"{option} goes with {'a MODEL' if arguments.all else '--all'} only")


def _run_all(arguments: argparse.Namespace) -> int:
    import transformers

    from gamma_nlp.check.sweep import audit_types, small_models

    version = str(transformers.__version__)
    options = sweep_options(arguments)
    sweep = with_progress(audit_types.sweep(**options))
    if arguments.json:
        found = [one for classes in sweep for one in classes]
        data = [{**asdict(one), "clean": not one.problem and not one.accidents} for one in found]
        print_json({"transformers": version, "models": data})
        if any(one.cut for one in found):
            return CONTRADICTED
        return _code(arguments, sum(one.accidents for one in found))
    width = max(map(len, options["types"] or small_models.types_of(arguments.kind)))
    print(f"# transformers {version}: gamma-nlp audit --all")
    print(audit_types.head(width))
    done = []
    for classes in sweep:
        done.append(classes)
        print(audit_types.line(classes, width), flush=True)
    print(audit_types.summary(done))
    found = [one for classes in done for one in classes]
    if any(one.cut for one in found):
        return CONTRADICTED
    return _code(arguments, sum(one.accidents for one in found))
