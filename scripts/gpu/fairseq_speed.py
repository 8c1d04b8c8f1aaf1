"""fairseq's training speed, from the windows that it logs itself."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from parts import Settings
from windows import Windows

from gamma_nlp.errors import GammaError

SIZES = {"quick": ("16", "32", "1", "2"), "base": ("512", "1024", "6", "4")}


def train(settings: Settings, data: Path, tokens: int, windows: Windows) -> Windows:
    """Binarise the text, train with ``--fp16`` on a GPU, and fill the windows.

    The model, the schedule and stock Adam are those of the published IWSLT14 command. fairseq runs
    in forks of this process, which has not started CUDA.
    """
    work = Path(settings.work) / "fairseq"
    work.mkdir(parents=True, exist_ok=True)
    binary, log = work / "data", work / "train.log"
    one, two = json.loads((data / "manifest.json").read_text(encoding="utf-8"))["languages"]
    languages = ["--source-lang", one, "--target-lang", two]
    files = ["--trainpref", str(data / "train"), "--validpref", str(data / "valid")]
    workers = str(min(8, os.cpu_count() or 1))
    step = ["preprocess", *languages, *files, "--joined-dictionary"]
    _finish(_start([*step, "--destdir", str(binary), "--workers", workers], work / "data.log"))
    pid = _start(_words(settings, binary, languages, tokens, windows.steps), log)
    try:
        while not windows.enough:
            time.sleep(0.1)
            ended, status = os.waitpid(pid, os.WNOHANG)
            _fill(windows, log)
            if ended and not windows.enough:
                code = os.waitstatus_to_exitcode(status)
                raise GammaError(f"fairseq-train ended with {code}: {_last_line(log)}")
            if settings.seconds_left() < 0 and not windows.seconds:
                raise GammaError(f"fairseq made no window of {windows.steps} steps in time")
    finally:
        _stop(pid)
    return windows


def _words(
    settings: Settings, binary: Path, languages: Sequence[str], tokens: int, steps: int
) -> list[str]:
    width, wide, layers, heads = SIZES["quick" if settings.quick else "base"]
    sizes = [
        word
        for side in ("encoder", "decoder")
        for option, value in (
            ("embed-dim", width), ("ffn-embed-dim", wide), ("layers", layers),
            ("attention-heads", heads),
        )
        for word in (f"--{side}-{option}", value)
    ]  # fmt: skip
    precision = ["--fp16"] if settings.cuda else ["--cpu"]
    return [
        *("train", str(binary), *languages, *precision, "--arch", "transformer_iwslt_de_en"),
        *(*sizes, "--share-all-embeddings", "--dropout", "0.1"),
        *("--optimizer", "adam", "--adam-betas", "(0.9, 0.98)", "--weight-decay", "0.0001"),
        *("--clip-norm", "1.0", "--lr", "5e-4", "--lr-scheduler", "inverse_sqrt"),
        *("--warmup-updates", "4000", "--criterion", "label_smoothed_cross_entropy"),
        *("--label-smoothing", "0.1", "--max-tokens", str(tokens), "--max-update", "100000"),
        *("--skip-invalid-size-inputs-valid-test", "--disable-validation", "--no-save"),
        *("--no-progress-bar", "--log-format", "json", "--log-interval", str(steps)),
        *("--num-workers", "0" if settings.quick else "2", "--seed", "1"),
        *("--save-dir", str(binary.parent / "checkpoints")),
    ]


def _fill(windows: Windows, log: Path) -> None:
    """Read the windows from the log: tokens of an update over tokens a second."""
    text = log.read_text(encoding="utf-8", errors="replace")
    lines = [json.loads(line) for line in re.findall(r"\| train_inner \| (\{.*\})\n", text)]
    counted = [line for line in lines if float(line["wps"]) > 0]
    windows.seconds = [windows.steps * float(line["wpb"]) / float(line["wps"]) for line in counted]
    batches = re.search(r"iterator.*?grouped total_num_itrs = (\d+)", text)
    windows.steps_per_epoch = int(batches.group(1)) if batches else 0


def _start(words: Sequence[str], log: Path) -> int:
    """Run a command of fairseq in a fork of this process; return its id."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setpgid(0, 0)
        target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(target, 1)
        os.dup2(target, 2)
        sys.stdout, sys.stderr = (os.fdopen(fd, "w", 1, closefd=False) for fd in (1, 2))
        from gamma_nlp.fairseq import commands

        sys.argv = [f"gamma-fairseq-{words[0]}", *words[1:]]
        code = commands.run(words[0])
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _finish(pid: int) -> None:
    _, status = os.waitpid(pid, 0)
    if code := os.waitstatus_to_exitcode(status):
        raise GammaError(f"fairseq-preprocess ended with {code}")


def _stop(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "no output")[:300]
