"""The training speed of one side of translation, and its share of the matrix rate."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest import mock

import numpy as np
import torch
import transformers
from corpus import write_corpus
from parts import Note, Settings, Skip, need
from products import operations
from table import Row
from windows import Windows, measure, windows_of

SIDES = {
    "graphs": ("ours, graphs", {"graphs": "on"}, {"batch_shapes": "few"}),
    "eager": ("ours, eager", {}, {"graphs": "off"}),
    "any": ("ours, eager, any shapes", {"batch_shapes": "any"}, {"graphs": "off"}),
}
"""Names, options that a side needs, and those that it takes where the recipe has them."""

MOST_SECONDS = 0.012
"""Of a step of 4,096 tokens in graphs."""

LEAST_SHARE = 0.25
"""Of the matrix rate, at 32,000 tokens in graphs."""


def run(settings: Settings, note: Note, tokens: str, side: str, kind: str = "") -> None:
    """Train one side until its speed is steady, and note a row."""
    bench = _Bench(settings, int(tokens))
    name, windows = {
        "ours": bench.ours,
        "stock": bench.stock,
        "fairseq": bench.fairseq,
    }[side](kind)
    for row in bench.rows(name, windows, judged=kind == "graphs"):
        note(row)


class _Bench:
    """Data, sizes and budget, the same for all sides."""

    def __init__(self, settings: Settings, tokens: int) -> None:
        self.settings, self.large = settings, tokens > 4096
        self.tokens = 200 if settings.quick else tokens
        self.size = "quick" if settings.quick else "base"
        self.steps = 20 if self.large else 50
        self.work = Path(settings.work)
        self.data = prepared(settings)

    def windows(self) -> Windows:
        return windows_of(self.settings, self.steps)

    # The sides --------------------------------------------------------------------------------

    def ours(self, kind: str) -> tuple[str, Windows]:
        from gamma_nlp.tasks.translation import train
        from gamma_nlp.tasks.translation.arguments import TranslationArguments, read_arguments

        name, needed, welcome = SIDES[kind]
        options = chosen(TranslationArguments, needed, welcome, cuda=self.settings.cuda)
        recipe, args = read_arguments([str(self._yaml()), *words(options)])
        windows = self.windows()
        # What it asks for scores and prepares text, neither of which happens before the clock ends.
        with mock.patch.object(train, "need_installed"):
            measure(windows, lambda: train.train_translation(recipe, args, quiet=True))
        return name, windows

    def stock(self, kind: str) -> tuple[str, Windows]:
        from pair_batches import sentences_like
        from translators import SMOOTHING, build, read_text

        from gamma_nlp.hf.batches.budget import TokenBudget
        from gamma_nlp.hf.batches.by_tokens import TokenBatches
        from gamma_nlp.tasks.translation.data import load_splits

        text = read_text(self.data)
        data = load_splits(self.data, text)["train"]
        lengths = np.array(data.lengths).T
        budget = TokenBudget(max_tokens=self.tokens, skip_long=True)
        ours = [lengths[batch] for batch in TokenBatches(*lengths.T, budget).order()]
        sentences = sentences_like(lengths, float(np.mean([len(b) * b.max() for b in ours])))
        model = build(self.size, text)
        args = transformers.Seq2SeqTrainingArguments(
            output_dir=str(self.work / "stock"),
            max_steps=100_000,
            per_device_train_batch_size=sentences,
            label_smoothing_factor=SMOOTHING,
            learning_rate=5e-4,
            weight_decay=1e-4,
            bf16=self.settings.cuda,
            use_cpu=not self.settings.cuda,
            dataloader_pin_memory=self.settings.cuda,
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        lists = [{name: ids.tolist() for name, ids in pair.items()} for pair in data]
        collate = transformers.DataCollatorForSeq2Seq(text.source, model=model)

        def train() -> None:  # makes the Trainer inside, where it is given the clock
            transformers.Seq2SeqTrainer(model, args, collate, lists).train()

        return "Seq2SeqTrainer", measure(self.windows(), train)

    def fairseq(self, kind: str) -> tuple[str, Windows]:
        need("fairseq")
        from fairseq_speed import train

        return "fairseq", train(self.settings, self.data, self.tokens, self.windows())

    def _yaml(self) -> Path:
        import yaml
        from translators import model_fields

        content = {
            "data": str(self.data),
            "model_config": {**model_fields(self.size), "dropout": 0.1},
            "weight_decay": 0.1,
            "max_tokens": self.tokens,
            "skip_long": True,
            "precision": "bf16" if self.settings.cuda else "fp32",
            "compile": "off",
            "use_cpu": not self.settings.cuda,
            "output_dir": str(self.work / "ours"),
            "max_steps": 100_000,
            "learning_rate": 5e-4,
            "warmup_steps": 4000,
            "lr_scheduler_type": "inverse_sqrt",
            "label_smoothing_factor": 0.1,
            "max_grad_norm": 1.0,
            "eval_strategy": "no",
            "save_strategy": "no",
            "logging_steps": 500,
            "report_to": "none",
            "disable_tqdm": True,
        }
        path = self.work / "ours.yaml"
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        return path

    # Their rows -------------------------------------------------------------------------------

    def rows(self, name: str, windows: Windows, *, judged: bool) -> Iterator[Row]:
        """Yield a row for the time of a step and, with large batches, one for the matrix rate."""
        per_second, share, best = self._rates(windows)
        peak = "" if windows.peak is None else f", at most {windows.peak / 2**30:.1f} GiB"
        detail = (
            f"{per_second:,.0f} target tokens/s, {share:.1%} of the matrix rate of "
            f"{best / 1e12:.3g} Tflop/s{peak}; {windows.told()}"
        )
        figures = {
            "side": name,
            "per_second": per_second,
            "steady": windows.steady,
            "quick": self.settings.quick,
            "share": share,
            "matmul_per_second": best,
            **dataclasses.asdict(windows),
        }
        goals = (f"<= {1e3 * MOST_SECONDS:g} ms", f">= {LEAST_SHARE:.0%}") if judged else ("", "")
        most, least = goals
        judged = judged and windows.steady
        what, measured = f"{name}, {self.tokens:,} tokens", f"{1e3 * windows.step:.3g} ms"
        if not self.large:
            passed = windows.step <= MOST_SECONDS if judged else None
            yield Row(what, measured, most, passed, detail, figures)
            return
        yield Row(what, measured, "", None, detail, figures)
        passed = share >= LEAST_SHARE if judged else None
        why = "operations of the model without padding, over those of a large product"
        yield Row(f"{name}, matrix rate", f"{share:.1%}", least, passed, why, {"share": share})

    def _rates(self, windows: Windows) -> tuple[float, float, float]:
        """Return target tokens a second, the share of the matrix rate, and that rate."""
        from flops import matmul_rate
        from translators import build, read_text

        from gamma_nlp.tasks.translation.data import load_splits

        text = read_text(self.data)
        source, target = load_splits(self.data, text)["train"].lengths
        with torch.device("meta"):
            config = build(self.size, text).config
        epoch = windows.step * windows.steps_per_epoch
        size, repeats = (128, 2) if self.settings.quick else (8192, 20)
        best = matmul_rate(self.settings.device, size, repeats)
        return sum(target) / epoch, operations(config, source, target) / epoch / best, best


def prepared(settings: Settings) -> Path:
    """Return the folder with the text, made here unless the user gave one."""
    if settings.data is not None:
        return Path(settings.data)
    folder = Path(settings.work).parent / "text"
    return folder if folder.exists() else write_corpus(folder, quick=settings.quick)


def chosen(
    kind: type, needed: dict[str, str], welcome: dict[str, str], *, cuda: bool = True
) -> dict[str, str]:
    """Return the options of a side that the recipe has.

    Raises:
        Skip: It lacks one that the side needs, or the device does.
    """
    if needed.get("graphs") == "on" and not cuda:
        raise Skip("only a GPU has CUDA graphs")
    known = {field.name for field in dataclasses.fields(kind)}
    for option in needed:
        if option not in known:
            raise Skip(f"not available: the recipe has no option {option}")
    return needed | {option: value for option, value in welcome.items() if option in known}


def words(options: dict[str, str]) -> Sequence[str]:
    """Spell options as a command line does."""
    return [word for option, value in options.items() for word in (f"--{option}", value)]
