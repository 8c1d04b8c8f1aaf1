"""Every README's code runs as printed, and every command is one that works.

Blocks run in a folder that holds small stand-ins under the names that READMEs use
(``support/stand_ins.py``). A command that is too long even then is checked word for word: its
program, its files and its options exist.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
import runpy
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from gamma_nlp.cli.main import main as gamma_nlp_command
from gamma_nlp.tasks.run.main import run as run_main
from tests.support.paths import ROOT
from tests.support.readmes import Command, blocks, commands, name, readmes
from tests.support.stand_ins import furnish

WITH_CODE = [path for path in readmes() if any(b.language == "python" for b in blocks(path))]
SMALL = {
    "sst2": ["--use_cpu", "true", "--disable_tqdm", "true", "--max_steps", "2"],
    "translation": ["--use_cpu", "true", "--disable_tqdm", "true", "--max_steps", "2"],
}
_SWEPT: set[tuple[str, ...]] = set()
COMMANDS = [command for path in readmes() for command in commands(path)]


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """A folder with the stand-ins, and what each placeholder of a command stands for."""

    folder: Path
    places: dict[str, Path]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    folder = tmp_path_factory.mktemp("workspace")
    return Workspace(folder=folder, places=furnish(folder))


@pytest.fixture(autouse=True)
def _in_the_workspace(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(workspace.folder)
    with torch.random.fork_rng(), warnings.catch_warnings():
        # What other libraries say to a user is not a README's fault; a name of ours that is old is.
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", category=DeprecationWarning, module="readme")
        yield


@pytest.mark.parametrize("path", WITH_CODE, ids=name)
def test_code_runs_as_printed(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space: dict[str, object] = {"__name__": "readme"}
    found = blocks(path)
    for block, following in zip(found, [*found[1:], None], strict=True):
        if block.language != "python":
            continue
        text = "\n" * (block.line - 1) + block.text  # errors name the README's own line
        capsys.readouterr()
        exec(compile(text, str(path), "exec"), space)
        printed = capsys.readouterr().out.rstrip()
        if printed and following is not None and following.language == "":
            assert printed == following.text.rstrip(), f"{name(path)}:{following.line}"


def run_gamma_nlp(words: Sequence[str], out: Path | None = None) -> None:
    assert gamma_nlp_command(list(words[1:])) == 0


def run_prepare(words: Sequence[str], out: Path) -> None:
    source, _ = words[2:]
    few = ["--merges", "7"]
    if source.endswith(".tgz"):
        few += ["--any-counts", "--valid-every", "3"]
    run_gamma_nlp(["gamma-nlp", "prepare", source, str(out), *few])


def run_sweep(words: Sequence[str], out: Path) -> None:
    """One small type stands for all, and of commands that differ in types alone one is run."""
    sweep = words[: 3 if "--all" in words else 2]
    if tuple(sweep) in _SWEPT:
        check_options(help_of(lambda more: gamma_nlp_command([words[1], *more])), words)
        return
    _SWEPT.add(tuple(sweep))
    run_gamma_nlp([*sweep, "--types", "bert", "--jobs", "1"])


def run_recipe(words: Sequence[str], out: Path) -> None:
    script = next(word for word in words if word.endswith(".py"))
    yaml, *options = words[words.index(script) + 1 :]
    options = [{"$policy": "guidelines", "$seed": "1"}.get(word, word) for word in options]
    module = importlib.import_module(script.removesuffix(".py").replace("/", "."))
    small = SMALL[Path(script).stem]
    assert (
        run_main(module.main, [str(ROOT / yaml), *small, *options, "--output_dir", str(out)]) == 0
    )


def run_engine(words: Sequence[str], out: Path) -> None:
    engine, yaml, *options = words[2:]
    module = importlib.import_module(f"{engine}.__main__")
    small = SMALL[{"glue": "sst2"}.get(engine.rpartition(".")[2], "translation")]
    assert (
        run_main(module.main, [str(ROOT / yaml), *small, *options, "--output_dir", str(out)]) == 0
    )


def check_options(text: str, words: Sequence[str]) -> None:
    """Every option of a command must stand in its help."""
    for word in words:
        if word.startswith("--"):
            assert re.search(rf"(?<![\w-]){word}(?![\w-])", text), word


def help_of(main: Callable[[list[str]], object]) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        main(["--help"])
    return printed.getvalue()


def check_demo(words: Sequence[str], out: Path) -> None:
    check_options(help_of(lambda words: gamma_nlp_command(["demo", *words])), words)


def check_study(words: Sequence[str], out: Path) -> None:
    """The YAML file of a shipped study is a study, and the options exist; the study is not run."""
    from gamma_nlp.study.design.config import read_study

    check_options(help_of(lambda more: gamma_nlp_command(["study", *more])), words)
    assert len(read_study(ROOT / words[2], out).arms) > 1


def check_report(words: Sequence[str], out: Path) -> None:
    check_options(help_of(lambda more: gamma_nlp_command(["report", *more])), words)


def check_experiment(words: Sequence[str], out: Path) -> None:
    module = importlib.import_module(words[2])
    check_options(help_of(module.main), words)


def check_benchmark(words: Sequence[str], out: Path) -> None:
    script = ROOT / words[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(script.parent)
        check_options(help_of(runpy.run_path(str(script))["main"]), words)


def check_script(words: Sequence[str], out: Path) -> None:
    assert (ROOT / words[1]).is_file()


def check_extras(words: Sequence[str], out: Path) -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for extra in re.findall(r"[\w]+", words[-1].partition("[")[2]):
        assert re.search(rf"^{extra} = \[", project, re.MULTILINE), extra


def check_conversion(words: Sequence[str], out: Path) -> None:
    from gamma_nlp.fairseq.convert import commands as conversions

    name = words[0].removeprefix("gamma-fairseq-").replace("-", "_")
    check_options(help_of(getattr(conversions, name)), words)


def check_fairseq(words: Sequence[str], out: Path) -> None:
    if importlib.util.find_spec("fairseq") is None:
        pytest.skip("fairseq is not installed")
    from gamma_nlp.fairseq import commands as fairseq_commands

    fairseq_commands.prepare()
    fairseq_commands.prepare("gamma_nlp.fairseq.optimizer")
    options = importlib.import_module("fairseq.options")
    start = next(i for i, word in enumerate(words) if word.startswith("DATA"))
    parsed = options.parse_args_and_arch(options.get_training_parser(), list(words[start:]))
    assert parsed.optimizer == "gamma_adam"


Run = Callable[[Sequence[str], Path], None]
RULES: tuple[tuple[str, Run], ...] = (
    (r"gamma-nlp (coverage|audit --all)", run_sweep),
    (r"gamma-nlp demo", check_demo),  # tests/study/quickstart runs it
    (r"gamma-nlp study (gamma_nlp|recipes)/", check_study),
    (r"gamma-nlp report runs/", check_report),
    (r"gamma-nlp ", run_gamma_nlp),
    (r"bash scripts/prepare_iwslt14 ", run_prepare),
    (r"(accelerate launch|torchrun .*) recipes/\w+\.py ", run_recipe),
    (r"python -m gamma_nlp\.tasks\.", run_engine),
    (r"python -m recipes\.", check_experiment),  # tests/recipes run them with --smoke
    (r"python scripts/benchmarks/", check_benchmark),  # tests/benchmarks run them with --quick
    (r"bash (scripts|recipes)/", check_script),
    (r"pip install -e ", check_extras),
    (r"gamma-fairseq-(to|from)-transformers ", check_conversion),
    (r"gamma-fairseq-train |torchrun .* -m gamma_nlp.fairseq train ", check_fairseq),
)


def once(found: Sequence[Command]) -> list[Command]:
    """Each command at the first place where it stands."""
    return list({str(command): command for command in reversed(found)}.values())[::-1]


@pytest.mark.parametrize("command", once(COMMANDS), ids=lambda command: command.place)
def test_command_works(command: Command, workspace: Workspace, tmp_path: Path) -> None:
    rules = [rule for pattern, rule in RULES if re.match(pattern, str(command))]
    assert rules, f"{command.place}: no rule says how to try {command}"
    out = tmp_path / "out"
    words = [str({**workspace.places, "OUT": out}.get(word, word)) for word in command.words]
    rules[0](words, out)


def test_the_first_table_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    shown = blocks(ROOT / "README.md")[1].text
    run_gamma_nlp(commands(ROOT / "README.md")[0].words)
    assert capsys.readouterr().out.startswith(shown)
