"""Small runs of the installed fairseq, in this process or, as a script, in several."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from gamma_nlp.fairseq import commands, shims
from gamma_nlp.tasks.translation.prepare.cleaning import Cleaning, Preparation
from gamma_nlp.tasks.translation.prepare.prepare import prepare, read_corpus
from tests.support.parallel_corpora import make_folder

OPTIONS = """
    --arch transformer_iwslt_de_en --encoder-layers 2 --decoder-layers 2 --encoder-embed-dim 16
    --decoder-embed-dim 16 --encoder-ffn-embed-dim 16 --decoder-ffn-embed-dim 16 --dropout 0
    --encoder-attention-heads 2 --decoder-attention-heads 2 --share-decoder-input-output-embed
    --encoder-normalize-before --decoder-normalize-before --criterion label_smoothed_cross_entropy
    --label-smoothing 0.1 --max-tokens 40 --lr 0.01 --lr-scheduler fixed --clip-norm 0
    --num-workers 0 --log-format json --log-interval 1 --max-update 20 --fp16-scale-window 100
"""
TINY = OPTIONS.split()
ADAM = ["--optimizer", "gamma_adam", "--weight-decay", "1"]
PRECISIONS = {
    "float32": [],
    "amp": ["--amp"],
    "memory-efficient": ["--memory-efficient-fp16"],
    "unflattened": ["--fp16", "--fp16-no-flatten-grads"],
    "flat": ["--fp16"],
    "bf16": ["--bf16"],
    "memory-efficient-bf16": ["--memory-efficient-bf16"],
}
LANGUAGE_MODEL = """
    --task language_modeling --arch transformer_lm --decoder-layers 2 --decoder-embed-dim 16
    --decoder-ffn-embed-dim 16 --decoder-attention-heads 2 --decoder-normalize-before
    --tokens-per-sample 16 --criterion cross_entropy --max-tokens 40 --lr 0.01 --num-workers 0
    --max-update 20
""".strip()


def need_fairseq() -> None:
    """Skip the test file that calls this where fairseq is not installed."""
    if importlib.util.find_spec("fairseq") is None:
        pytest.skip(f"fairseq is not installed: {shims.INSTALL}", allow_module_level=True)


def is_gain(name: str) -> bool:
    return "layer_norm" in name and name.endswith("weight")


@contextmanager
def quiet() -> Iterator[None]:
    """Ignore what fairseq and hydra warn about in their own code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def call(command: str, *words: object) -> int:
    """Run a command as its entry point would."""
    before = sys.argv
    sys.argv = [f"gamma-fairseq-{command}", *map(str, words)]
    # fairseq keeps a run's best score here: the run before must not be better than this one.
    if saving := sys.modules.get("fairseq.checkpoint_utils"):
        vars(saving.save_checkpoint).pop("best", None)
    try:
        with quiet():
            return commands.run(command)
    finally:
        sys.argv = before


def make_data(folder: Path) -> Path:
    """Prepare and binarise a few sentence pairs; return the binary folder.

    The folder ``monolingual`` beside it has their German side alone.
    """
    text = folder / "prepared"
    prepare(
        read_corpus(make_folder(folder), ("de", "en")),
        Preparation(merges=7, cleaning=Cleaning()),
        text,
    )
    languages = ["--source-lang", "de", "--target-lang", "en", "--joined-dictionary"]
    files = ["--trainpref", text / "train", "--validpref", text / "valid"]
    assert call("preprocess", *languages, *files, "--destdir", folder / "binary") == 0
    files = ["--trainpref", text / "train.de", "--validpref", text / "valid.de"]
    assert call("preprocess", "--only-source", *files, "--destdir", folder / "monolingual") == 0
    return folder / "binary"


@dataclass
class Session:
    """A trainer of fairseq with the batches of its first epochs."""

    trainer: Any
    batches: list[Any]

    @property
    def model(self) -> Any:
        return self.trainer._model

    @property
    def optimizer(self) -> Any:
        return self.trainer.optimizer

    def train(self, updates: int, *, silent: bool = False) -> None:
        """Make updates; silent ones have gradients of exactly zero."""
        step = self.trainer.task.train_step

        def mute(*args: Any, **kwargs: Any) -> Any:
            return step(*args, **{**kwargs, "ignore_grad": True})

        if silent:
            self.trainer.task.train_step = mute
        with quiet():
            for _ in range(updates):
                done = self.trainer.get_num_updates()
                self.trainer.train_step([self.batches[done % len(self.batches)]])
        self.trainer.task.train_step = step

    def weights(self) -> dict[str, torch.Tensor]:
        return {name: p.detach().clone().float() for name, p in self.model.named_parameters()}


def session(data: Path, folder: Path, *words: object, options: Sequence[str] = TINY) -> Session:
    """Build what fairseq-train builds, up to its first update."""
    commands.prepare("fairseq_cli.train")
    from fairseq import options as parsing
    from fairseq import tasks, utils
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf
    from fairseq.trainer import Trainer

    folder.mkdir(parents=True, exist_ok=True)
    typed = [str(data), *options, "--save-dir", str(folder), *map(str, words)]
    with quiet():
        args = parsing.parse_args_and_arch(parsing.get_training_parser(), input_args=typed)
        args.tpu = False  # which --bf16 asks for
        cfg = convert_namespace_to_omegaconf(args)
        utils.set_torch_seed(1)
        task = tasks.setup_task(cfg.task)
        model, criterion = task.build_model(cfg.model), task.build_criterion(cfg.criterion)
        task.load_dataset("valid")
        trainer = Trainer(cfg, task, model, criterion)
        epoch = trainer.get_train_iterator(1)
        trainer.begin_epoch(1)
        batches = list(epoch.next_epoch_itr(shuffle=False))
        trainer.optimizer  # noqa: B018  builds it
    return Session(trainer=trainer, batches=batches)


if __name__ == "__main__":
    sys.exit(call("train", *sys.argv[1:]))
