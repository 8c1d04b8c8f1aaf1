"""Check and time everything on a GPU, in stages, most important first.

    bash scripts/gpu_check OUT [--minutes 8] [--only STAGE ...] [--device cpu|cuda] [--data FOLDER]

Every stage has its share of the minutes; what one leaves goes to the next. Its parts run in
processes of their own, which are killed at their limit. OUT gets a JSON file for each stage,
README.md with one table, and log.txt with what the parts printed; all are written as soon as a
part ends. What is not installed is skipped with a word.

Exit code: 1 if a test of the stage `correctness` failed or did not come to its end, else 0.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from parts import Part, Settings, Stage, perform_words
from processes import Ended, run_part
from report import LOG, TABLE, Report
from stages import limit, share, stages

from gamma_nlp.errors import GammaError, close_to, is_installed
from gamma_nlp.tasks.run.main import run
from gamma_nlp.tasks.run.parser import Parser
from gamma_nlp.tasks.run.versions import versions

PRELOADED = (
    *("torch", "transformers", "accelerate", "datasets", "evaluate", "pytest"),
    *("gamma_nlp.hf.trainer", "gamma_nlp.tasks.translation.train", "gamma_nlp.tasks.glue.train"),
    *("core", "flops", "pair_batches", "translators"),
)
"""What most parts import: here once, for all of them. None starts CUDA."""

PACKAGES = ("torch", "transformers", "accelerate", "datasets", "fairseq", "deepspeed", "pytest")
SPARE = 5.0
"""Seconds that are kept for the end: killing, writing, removing."""

QUICK = "tiny (`--quick`): they show that everything runs; no figure here is a measurement"

LEAST = 1.0
"""Seconds under which a part is not worth starting."""


def main(argv: Sequence[str]) -> int:
    started = time.monotonic() - seconds_until_now()
    options, chosen = arguments(argv)
    if options.part:
        return perform_words(options.part)
    if options.device == "cpu":  # threads that spin while they wait slow shared cores down
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    if not is_installed("torch"):
        raise GammaError("torch is not installed for this Python; set PYTHON to one that has it")
    with tempfile.TemporaryDirectory(prefix="gpu-check-", ignore_cleanup_errors=True) as work:
        settings = Settings(
            device=options.device, quick=options.quick, data=options.data, work=work
        )
        device = find_device(settings)
        options.out.mkdir(parents=True, exist_ok=True)
        preload(options.out / LOG)
        head = {
            "device": device,
            "versions": ", ".join(f"{name} {v}" for name, v in versions(PACKAGES).items()),
            "commit": commit(),
            "command": " ".join(["bash scripts/gpu_check", *argv]),
        }
        if options.quick:
            head["sizes"] = QUICK
        report = Report(options.out, head, chosen)
        seconds = 60 * options.minutes
        run_all(chosen, settings, report, started + seconds - min(SPARE, seconds / 10))
    print(f"\nwritten: {options.out / TABLE}, after {time.monotonic() - started:.0f} s")
    return int(report.failed("correctness"))


def arguments(argv: Sequence[str]) -> tuple[argparse.Namespace, tuple[Stage, ...]]:
    """Return the options and the stages that they choose.

    Raises:
        GammaError: They cannot be used.
    """
    raw = argparse.RawDescriptionHelpFormatter
    parser = Parser(prog="gpu_check", description=__doc__, formatter_class=raw)
    known = stages()
    names = [stage.name for stage in known]
    add = parser.add_argument
    add("out", nargs="?", metavar="OUT", type=Path, help="folder for the results")
    add("--minutes", type=float, default=8.0, help="for all together (default: %(default)g)")
    add("--only", nargs="+", default=[], metavar="STAGE", help=f"of: {', '.join(names)}")
    add("--device", choices=("cuda", "cpu"), default="cuda", help="default: cuda")
    add("--quick", action="store_true", help="tiny sizes; only the tests are judged")
    add("--data", metavar="FOLDER", help="text that scripts/prepare_iwslt14 wrote; else made up")
    add("--part", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.part:
        return options, ()
    if options.out is None:
        raise GammaError("give a folder for the results: bash scripts/gpu_check OUT")
    if not (math.isfinite(options.minutes) and options.minutes > 0):
        raise GammaError(f"--minutes must be a number above 0, not {options.minutes:g}")
    for name in options.only:
        if name not in names:
            hint = close_to(name, names)
            raise GammaError(f"--only knows no stage {name!r}{hint}; there are {', '.join(names)}")
    if options.data is not None and not (Path(options.data) / "manifest.json").is_file():
        raise GammaError(
            f"--data {options.data} is no prepared folder (it has no manifest.json); make one "
            "with: bash scripts/prepare_iwslt14 INPUT OUTPUT"
        )
    check_folder(options.out, names)
    return options, tuple(one for one in known if not options.only or one.name in options.only)


def check_folder(out: Path, names: Sequence[str]) -> None:
    """Refuse a folder that holds results, or cannot be one."""
    if out.exists() and not out.is_dir():
        raise GammaError(f"OUT {out} is a file; give a folder")
    for name in (TABLE, *(f"{stage}.json" for stage in names)):
        if (out / name).exists():
            raise GammaError(f"OUT {out} holds results already ({name}); give another folder")


def run_all(chosen: Sequence[Stage], settings: Settings, report: Report, ends: float) -> None:
    """Run all parts of all stages in the time that is left, and print what comes out."""
    for index, stage in enumerate(chosen):
        print(f"\n{stage.name}: {stage.about}", flush=True)
        now = time.monotonic()
        stage_ends = now + share(ends - now, stage, chosen[index + 1 :])
        for number, part in enumerate(stage.parts):
            left = limit(stage_ends - time.monotonic(), len(stage.parts) - number)
            if left < LEAST:
                report.leave_out(stage, "not run: no time was left")
                print(f"  {report.state(stage)}", flush=True)
                break
            own = Path(settings.work) / f"{stage.name}-{number}"
            own.mkdir()
            alone = dataclasses.replace(settings, work=str(own))
            ended = run_part(part, alone, left, report.folder / LOG)
            report.add(stage, part, ended)
            show(stage, part, ended)
        for row in report.compared.get(stage.name, []):
            print(f"  {row['what']}: {row['measured']} {row['goal']}".rstrip(), flush=True)


def show(stage: Stage, part: Part, ended: Ended) -> None:
    """Print a line for a part, and one for each row that is worth it."""
    why = f", {ended.why}" if ended.why else ""
    print(f"  {part.name}: {ended.state}{why} ({ended.seconds:.1f} s)", flush=True)
    for row in ended.rows:
        if not stage.tests or row["passed"] is False:
            verdict = {True: "pass", False: "FAIL", None: ""}[row["passed"]]
            text = f"    {row['what']}: {row['measured']} {row['goal']} {verdict}  {row['detail']}"
            print(text.rstrip(), flush=True)


def find_device(settings: Settings) -> str:
    """Return the device in words, asked in a process of its own, so that none here starts CUDA.

    Raises:
        GammaError: CUDA was asked for, and there is none.
    """
    if not settings.cuda:
        return f"CPU, {os.cpu_count()} cores, {platform.machine()}"
    ended = run_part(Part(name="device", module="device"), settings, 120, Path(os.devnull))
    if ended.state != "done":
        why = ended.why.removeprefix("RuntimeError: ")
        raise GammaError(f"there is no CUDA device ({why}); to try the command: --device cpu")
    return str(ended.rows[0]["measured"])


def preload(log: Path) -> None:
    """Import what parts share; a part that needs what fails here fails by itself."""
    before = os.dup(2)
    with log.open("a", encoding="utf-8") as file:
        os.dup2(file.fileno(), 2)
        try:
            for module in PRELOADED:
                try:
                    importlib.import_module(module)
                except Exception as error:
                    print(f"import of {module}: {type(error).__name__}: {error}", file=file)
        finally:
            os.dup2(before, 2)
            os.close(before)


def commit() -> str:
    home = Path(__file__).resolve().parents[2]
    command = ["git", "-C", str(home), "rev-parse", "--short", "HEAD"]
    with contextlib.suppress(OSError):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0:
            return done.stdout.strip()
    return "unknown"


def seconds_until_now() -> float:
    """Return how long ago the command was typed, as scripts/gpu_check notes it."""
    noted = os.environ.get("GPU_CHECK_STARTED", "").replace(",", ".")  # as some languages write it
    started = float(noted) if noted else time.time()
    return max(0.0, time.time() - started)


if __name__ == "__main__":
    ended = run(main)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(ended)  # taking so many packages down takes seconds
