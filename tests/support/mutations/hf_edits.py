"""Mutations of what :mod:`gamma_nlp.hf` adds to the Trainer."""

from __future__ import annotations

from . import Mutation as M
from .files import Edits

LOSS = Edits(
    "hf/loss_scale.py",
    ("tests/hf/test_loss_scale.py",),
    (
        M("everything follows", "if abs(share) <= 1e-3:", "if False:"),
        M("everything ignores", "if abs(share) <= 1e-3:", "if abs(share) <= 2.0:"),
        M("parts follow", "if abs(1 - share) <= max(1e-4, rounding):", "if True:"),
        M(
            "any curve is a part",
            "fits = abs(four - (1 - 0.75 * share)) <= max(1e-3, rounding)",
            "fits = True",
        ),
        M("in evaluation", "model.train()  #", "model.eval()  #"),
        M("modes stay", "if module.training != training:", "if False:"),
        M("buffers stay", "buffer.copy_(value)", "pass"),
        M("draws count", "random.setstate(drawn[0])", "pass"),
        M("no items settle it", "if not float(items) > 0:", "if False:"),
    ),
)

ACCUMULATION = Edits(
    "hf/accumulation.py",
    ("tests/hf/test_loss_scale.py",),
    (
        M(
            "the whole count for each batch",
            "return count / (len(batch_samples) * self._processes())",
            "return count",
        ),
        M(
            "asked once",
            "return follows and self.state.global_step >= self._ask_loss_at",
            "return False",
        ),
        M(
            "asked in every step",
            "self._ask_loss_at = max(10 * self.state.global_step, 1)",
            "self._ask_loss_at = 0",
        ),
        M(
            "declarations are not read",
            "return not own or self.loss_is_scaled_for_ga is None or",
            "return True or",
        ),
        M(
            "functions are not declared",
            "is not Trainer.compute_loss or self.compute_loss_func",
            "is not Trainer.compute_loss",
        ),
        M(
            "means are summed",
            "self.loss_is_scaled_for_ga = False if apart else self._declared",
            "pass",
        ),
        M("settings are kept", "self.args.average_tokens_across_devices = before\n", "pass\n"),
        M("one batch is in doubt", "args.n_gpu) == 1:", "args.n_gpu) == 0:"),
    ),
)

TRAINER = Edits(
    "hf/trainer.py",
    ("tests/hf/test_trainer.py", "tests/hf/test_trainer_optimizers.py"),
    (
        M("any order of bases", "order.index(Trainer) < order.index(GammaTrainerMixin)", "False"),
        M("any scheduler", "_check_scheduler(self.lr_scheduler, self.optimizer)", "pass"),
        M("no policy", 'if "policy" not in vars(self):', "if False:"),
        M("foreign groups pass", "or _ids(made.param_groups) != _ids(groups):", "or False:"),
        M(
            "given optimizers pass",
            "    if not made_here(optimizer):\n        raise",
            "    if False:\n        raise",
        ),
        M(
            "decay is checked late",
            "if self.train_dataset is not None and self.model_init",
            "if False and self.model_init",
        ),
    ),
)

TABLE = Edits(
    "hf/table.py",
    ("tests/hf/test_trainer.py", "tests/hf/test_trainer_optimizers.py"),
    (
        M(
            "dtypes need not fit",
            'return all(f"torch.{gain.dtype}" == str(dtypes[plain[gain.name]]) for gain in table)',
            "return True",
        ),
        M(
            "names need not fit",
            "if set(plain.values()) != set(present.values()):\n        return False",
            "",
        ),
        M(
            "norms in evaluation",
            'if self.gain_table is not None and ("loss" in logs or "train_loss" in logs):',
            "if self.gain_table is not None:",
        ),
        M("no norms at the end", '("loss" in logs or "train_loss" in logs)', '("loss" in logs)'),
        M(
            "inputs are not used",
            "self.gain_table = table_for(model, self._inputs, None, self.policy)",
            "self.gain_table = table_for(model, None, None, self.policy)",
        ),
    ),
)

CHOICE = Edits(
    "hf/optimizer.py",
    ("tests/hf/test_optimizer.py",),
    (
        M("layerwise passes", 'if optim.endswith("layerwise"):', "if False:"),
        M("missing parameters are trained", "if index >= 0:", "if True:"),
        M(
            "outside ones do not train",
            "if id(parameter) not in inside and parameter.requires_grad",
            "if False",
        ),
        M("outside ones lose their decay", 'float(group.get("weight_decay", 0.0))', "0.0"),
        M(
            "frozen outside ones train",
            "not in inside and parameter.requires_grad",
            "not in inside",
        ),
        M(
            "one mesh",
            "split_by(fitted, mesh_of)",
            "split_by(fitted, lambda parameter: None)",
        ),
        M(
            "rates are lost",
            'decay = ("params", "param_names", "weight_decay")',
            'decay = ("params", "param_names", "weight_decay", "lr")',
        ),
    ),
)

RESUME = Edits(
    "hf/resume.py",
    ("tests/hf/test_optimizer.py", "tests/hf/test_resume.py"),
    (
        M("loading stays changed", "delattr(target, name)", "pass"),
        M(
            "schedulers are loaded as they are",
            "return load(fit_scheduler_state(state, bare, saved_names or None))",
            "return load(state)",
        ),
        M("sizes need not fit", "if sizes != expected:", "if False:"),
        M("shapes need not fit", "    _check_shapes(state, named, optimizer)\n", ""),
        M("foreign loaders win", "        groups[number].update(now)\n", ""),
        M("groups need not fit", "if len(groups) != len(present):", "if False:"),
    ),
)

SCHEDULE = Edits(
    "hf/schedule.py",
    ("tests/hf/test_schedule.py",),
    (
        M("a dose is a sum", "return -math.log1p(-dose) / total", "return dose / total"),
        M(
            "partial steps are lost",
            "epoch = max(math.ceil(batches / args.gradient_accumulation_steps), 1)",
            "epoch = max(batches // args.gradient_accumulation_steps, 1)",
        ),
        M(
            "no epoch is too short",
            "args.gradient_accumulation_steps), 1)",
            "args.gradient_accumulation_steps), 0)",
        ),
        M(
            "epochs win",
            "args.max_steps if args.max_steps > 0 else",
            "args.max_steps if args.max_steps > 1e9 else",
        ),
        M(
            "sampled",
            "rates_of_scheduler(schedule, steps, most=steps)",
            "rates_of_scheduler(schedule, steps)",
        ),
        M(
            "the last batch counts",
            "examples // together if args.dataloader_drop_last else math",
            "math",
        ),
        M("one process", "args.train_batch_size * args.world_size", "args.train_batch_size"),
        M("any dose", "if not 0.0 < dose < 1.0:", "if False:"),
    ),
)

STOCK = Edits(
    "hf/trainer.py",
    ("tests/hf/test_stock_trainer.py",),
    (
        M("nan learns", 'check_rate(self.args.learning_rate, "learning_rate")', "pass"),
        M(
            "one peak for all groups",
            "fit_groups(groups, trainer_groups, model, lr)",
            "fit_groups(groups, trainer_groups, model)",
        ),
    ),
)

RECORD = Edits(
    "hf/table.py",
    ("tests/hf/test_stock_trainer.py",),
    (
        M(
            "the record is the arguments'",
            "policy=made.policy if made else self.policy",
            "policy=self.policy",
        ),
    ),
)

RATES = Edits(
    "hf/planned_rates.py",
    ("tests/hf/test_stock_trainer.py",),
    (
        M("no steps are planned", "        self._steps = values[-1]\n", ""),
        M("own schedules are the arguments'", "if known else None\n", "if True else None\n"),
    ),
)

CHECKPOINTS = Edits(
    "hf/checkpoints.py",
    ("tests/hf/test_stock_trainer.py",),
    (
        M(
            "saved as it is",
            "with resume.stock_saving(self.optimizer, self.lr_scheduler, self._stock):",
            "if True:",
        ),
    ),
)

HF = (
    LOSS,
    ACCUMULATION,
    TRAINER,
    TABLE,
    CHOICE,
    RESUME,
    SCHEDULE,
    STOCK,
    RECORD,
    RATES,
    CHECKPOINTS,
)
