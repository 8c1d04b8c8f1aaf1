"""A short study through ``gamma-nlp study``: its runs find the device, and finish."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from parts import Note, Settings, need
from table import Row

from gamma_nlp.errors import GammaError

PACKAGES = ("accelerate", "datasets", "evaluate", "matplotlib", "yaml", "scipy")


def run(settings: Settings, note: Note) -> None:
    """Compare two policies on a tiny BERT over two seeds, and note what the runs say."""
    need(*PACKAGES)
    import yaml

    from gamma_nlp.cli.main import main

    folder = Path(settings.work)
    output = folder / "study"
    recipe = {
        "task": "sst2",
        "data": "opinions",
        "model_config": {
            "model_type": "bert",
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 128,
            "max_position_embeddings": 64,
        },
        "vocab_size": 1000,
        "max_length": 64,
        "max_train_examples": 128 if settings.quick else 4000,
        "num_train_epochs": 1 if settings.quick else 2,
        "per_device_train_batch_size": 64,
        "learning_rate": 2e-3,
        "compile": "off",
        "train_sampling_strategy": "group_by_length",
        "eval_strategy": "no",
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": not settings.cuda,
    }
    study: dict[str, Any] = {
        "name": "check",
        "recipe": {"engine": "glue", "file": "recipe.yaml"},
        "arms": {"none": {"policy": "none"}, "all": {"policy": "all"}},
        "baseline": "none",
        "doses": [0.1],
        "seeds": 2,
        "metric": "eval_accuracy",
        "threads": 1,
    }
    for name, content in (("recipe", recipe), ("study", study)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    start = time.monotonic()
    code = main(["study", str(folder / "study.yaml"), "--output", str(output)])
    seconds = time.monotonic() - start
    found = [json.loads(path.read_text("utf-8")) for path in output.rglob("results.json")]
    devices = {run["hardware"].get("gpu", run["hardware"]["device"]) for run in found}
    scores = ", ".join(
        f"{run['policy']['name']} {run['final']['eval_accuracy']:.3f}" for run in found
    )
    planned = 2 * study["seeds"]
    fine = code == 0 and len(found) == planned
    detail = (
        f"{len(found)} of {planned} runs on {', '.join(sorted(devices)) or 'nothing'}: {scores}"
    )
    figures = {"test": True, "seconds": seconds, "code": code, "runs": len(found)}
    note(Row("study, tiny BERT", f"{seconds:.0f} s", "all runs", fine, detail, figures))
    if code:
        raise GammaError(f"gamma-nlp study ended with {code}; see log.txt")
