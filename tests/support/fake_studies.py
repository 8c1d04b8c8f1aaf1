"""Studies of a script that only pretends to train: it takes a moment and writes its results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

SCRIPT = '''
"""Pretend to train; `events` tells when it started and ended."""
import argparse, json, os, pathlib, sys, time

parser = argparse.ArgumentParser()
for name in ("seed", "arm", "out", "seconds", "how"):
    parser.add_argument(f"--{name}")
given = parser.parse_args()
out = pathlib.Path(given.out)
root = pathlib.Path(__file__).parent


def event(what):
    line = f"{what} {given.arm} {given.seed} {os.getpid()} {time.time():.3f}\\n"
    with open(root / "events", "a") as file:
        file.write(line)


event("start")
print(f"threads {os.environ.get('OMP_NUM_THREADS')} gpu {os.environ.get('CUDA_VISIBLE_DEVICES')}")
print(f"found {sorted(p.name for p in out.iterdir())}", flush=True)
if given.how == "fails" and not (root / "mended").exists():
    (out / "rubbish").write_text("half")
    sys.exit("out of luck")
if given.how == "killed":
    os.kill(os.getpid(), 9)
time.sleep(float(given.seconds))
value = {"nan": float("nan"), "percent": 91.0}.get(given.how, 0.5 + int(given.seed) / 100)
results = {"seed": int(given.seed), "final": {"accuracy": value}}
if given.how == "silent":
    sys.exit(0)
if given.how == "other-seed":
    results["seed"] += 100
if given.how == "no-score":
    results["final"] = {"loss": 1.0}
text = json.dumps(results)
if given.how == "cut":
    text = text[:-5]
(out / "draft").write_text(text)
event("end")
os.replace(out / "draft", out / "results.json")
if given.how == "late":
    sys.exit("plotting failed")
'''

COMMAND = ["python", "SCRIPT", "--seed", "{seed}", "--arm", "{arm}", "--out", "{folder}"]
COMMAND += ["--seconds", "{seconds}", "--how", "{how}"]


def config(folder: Path, **changes: Any) -> Path:
    """Write the script and the YAML file of a study of two arms and three seeds.

    Args:
        folder: Where to write them.
        changes: Keys of the file; ``None`` leaves one out.
    """
    script = folder / "train.py"
    script.write_text(SCRIPT, encoding="utf-8")
    content: dict[str, Any] = {
        "command": COMMAND,
        "set": {"seconds": 0.01, "how": "well"},
        "arms": {"none": {}, "all": {"set": {"seconds": 0.02}}},
        "baseline": "none",
        "seeds": 3,
        "metric": "final.accuracy",
        "smallest_difference": 0.5,
        "output": str(folder / "out"),
    }
    kept = {key: value for key, value in (content | changes).items() if value is not None}
    if isinstance(kept.get("command"), list):
        kept["command"] = [str(script) if word == "SCRIPT" else word for word in kept["command"]]
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(kept, sort_keys=False), encoding="utf-8")
    return path


def events(folder: Path) -> list[tuple[str, str]]:
    """What the runs told, in order: ``start`` or ``end``, and ``ARM SEED``."""
    try:
        lines = (folder / "events").read_text().splitlines()
    except FileNotFoundError:
        return []
    words = [line.split() for line in lines]
    return [(what, f"{arm} {seed}") for what, arm, seed, *_ in words]


def results(folder: Path) -> dict[str, Any]:
    """The results of all runs of the study in ``folder``, by the name of their folder."""
    found = sorted((folder / "out" / "runs").glob("*/results.json"))
    return {path.parent.name: json.loads(path.read_text()) for path in found}
