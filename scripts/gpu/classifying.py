"""The training speed of one side of SST-2, with a model of the size of BERT-base."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import transformers
from parts import Note, Settings, need
from table import Row
from translating import chosen, words
from windows import measure, windows_of

SIDES = {
    "graphs": ("ours, graphs", {"graphs": "on"}, {"batch_shapes": "few"}),
    "eager": ("ours, eager", {}, {"graphs": "off"}),
}
SIZES = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
SIZES |= {"intermediate_size": 3072, "max_position_embeddings": 512}
TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
TINY |= {"intermediate_size": 32, "max_position_embeddings": 128}
BATCH, PAD_TO = 32, 128
PACKAGES = ("accelerate", "datasets", "evaluate", "matplotlib", "yaml")


def run(settings: Settings, note: Note, side: str) -> None:
    """Train one side until its speed is steady, and note a row."""
    need(*PACKAGES)
    windows = windows_of(settings, 50)
    name = "Trainer, padding to 128" if side == "stock" else SIDES[side][0]
    measure(windows, _stock(settings) if side == "stock" else _ours(settings, side))
    per_second = BATCH / windows.step
    peak = "" if windows.peak is None else f", at most {windows.peak / 2**30:.1f} GiB"
    figures = {
        "side": name,
        "per_second": per_second,
        "steady": windows.steady,
        "quick": settings.quick,
        **dataclasses.asdict(windows),
    }
    detail = f"{per_second:,.0f} sentences/s{peak}; {windows.told()}"
    note(Row(name, f"{1e3 * windows.step:.3g} ms", "", None, detail, figures))


def _ours(settings: Settings, side: str) -> Any:
    import yaml

    from gamma_nlp.tasks.glue.arguments import FinetuneArguments, read_arguments
    from gamma_nlp.tasks.glue.train import finetune

    _, needed, welcome = SIDES[side]
    options = chosen(FinetuneArguments, needed, welcome, cuda=settings.cuda)
    content = {
        "task": "sst2",
        "data": "opinions",
        "model_config": {"model_type": "bert", **(TINY if settings.quick else SIZES)},
        "train_sampling_strategy": "group_by_length",
        "weight_decay": 0.01,
        "precision": "bf16" if settings.cuda else "fp32",
        "compile": "off",
        "use_cpu": not settings.cuda,
        "max_steps": 100_000,
        "per_device_train_batch_size": BATCH,
        "eval_strategy": "no",
        "save_strategy": "no",
        "logging_steps": 500,
        "report_to": "none",
        "disable_tqdm": True,
        "output_dir": str(Path(settings.work) / "sst2"),
    }
    path = Path(settings.work) / "sst2.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    recipe, args = read_arguments([str(path), *words(options)])
    return lambda: finetune(recipe, args, quiet=True)


def _stock(settings: Settings) -> Any:
    """Return what trains as run_glue.py of transformers does: every sentence padded to 128."""
    from gamma_nlp.tasks.glue.data import load_glue
    from gamma_nlp.tasks.glue.tokenizer import train_tokenizer

    rows = load_glue("sst2", "opinions")["train"]
    tokenizer = train_tokenizer(rows["sentence"][:], 8000)
    columns = tokenizer(
        rows["sentence"][:], padding="max_length", truncation=True, max_length=PAD_TO
    )
    columns["labels"] = rows["label"][:]
    data = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    sizes = TINY if settings.quick else SIZES
    config = transformers.BertConfig(vocab_size=len(tokenizer), **sizes)
    args = transformers.TrainingArguments(
        output_dir=str(Path(settings.work) / "stock"),
        max_steps=100_000,
        per_device_train_batch_size=BATCH,
        weight_decay=0.01,
        bf16=settings.cuda,
        use_cpu=not settings.cuda,
        dataloader_pin_memory=settings.cuda,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    model = transformers.BertForSequenceClassification(config)

    def train() -> None:  # makes the Trainer inside, where it is given the clock
        transformers.Trainer(model=model, args=args, train_dataset=data).train()

    return train
