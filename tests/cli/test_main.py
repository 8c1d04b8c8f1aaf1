from __future__ import annotations

import argparse
import io
import json
import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

import gamma_nlp
from gamma_nlp.cli import demo, main, planned

BERT = {
    "model_type": "bert",
    "architectures": ["BertForMaskedLM"],
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_attention_heads": 2,
    "num_hidden_layers": 3,
    "vocab_size": 16,
}


@pytest.fixture
def model(tmp_path: Path) -> str:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(BERT), encoding="utf-8")
    return str(path)


Capture = pytest.CaptureFixture[str]


def test_table_shows_category_coefficient_and_dose(model: str, capsys: Capture) -> None:
    options = ["--policy", "all", "--weight-decay", "1", "--lr", "1e-3", "--steps", "200"]
    assert main.main(["table", model, *options]) == 0
    text = capsys.readouterr().out
    row = next(line for line in text.splitlines() if "{0-2}.attention.output" in line)
    assert "shortcut" in row
    assert "9.56 %" in row  # 1 - exp(-0.1005), the sum of a linear schedule from 1e-3
    assert "policy all, weight decay 1" in text


def test_table_without_a_plan_has_no_dose_and_says_how_to_get_one(
    model: str, capsys: Capture
) -> None:
    assert main.main(["table", model]) == 0
    assert "add --lr and --steps" in capsys.readouterr().out


def test_table_says_where_a_policy_does_nothing(
    model: str, tmp_path: Path, capsys: Capture
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("base: all\nkinds: {qk_norm: 2}\n", encoding="utf-8")
    for options in ([], ["--policy", "input_only", "--json"]):
        assert main.main(["table", model, *options]) == 0
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("note: policy ")
        assert "decays no gain of this model: it trains 6 shortcut, 2 head" in line
        assert line.endswith("here it equals the policy 'none'")
    assert main.main(["table", model, "--policy", str(file)]) == 0
    assert "sets 'qk_norm' under kinds, which has no effect" in capsys.readouterr().err
    for policy in ("all", "none"):
        assert main.main(["table", model, "--policy", policy]) == 0
        assert capsys.readouterr().err == ""


@pytest.mark.parametrize("policy", ["timm", "hugging_face", "iwd", "qwen3_next"])
def test_table_takes_every_sort_of_preset(model: str, policy: str, capsys: Capture) -> None:
    assert main.main(["table", model, "--policy", policy, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["policy"] == policy
    coefficients = {gain["coefficient"] for gain in printed["gains"]}
    assert coefficients == ({0.01} if policy == "qwen3_next" else {0.0})


def test_table_takes_a_schedule_for_weights_that_a_norm_follows(
    model: str, tmp_path: Path, capsys: Capture
) -> None:
    """A name table knows the model, so nothing else would ask for a forward pass."""
    path = tmp_path / "adamc.json"
    path.write_text('{"schedules": {"normalized": "lr_squared"}}', encoding="utf-8")
    assert main.main(["table", model, "--policy", str(path)]) == 0
    assert "policy adamc" in capsys.readouterr().out


def test_full_table_has_one_row_per_gain(model: str, capsys: Capture) -> None:
    assert main.main(["table", model, "--full"]) == 0
    assert "bert.encoder.layer.1.output.LayerNorm.weight" in capsys.readouterr().out


def test_table_json_is_pure_and_complete(model: str, capsys: Capture) -> None:
    assert main.main(["table", model, "--json", "--lr", "1e-3", "--steps", "10"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["policy"] == "guidelines"
    assert len(data["gains"]) == 8
    assert {"name", "category", "reason", "coefficient", "dose"} <= set(data["gains"][0])


def test_dtype_changes_the_dose(model: str, tmp_path: Path, capsys: Capture) -> None:
    options = ["--policy", "all", "--lr", "1e-5", "--steps", "300", "--weight-decay", "3"]
    assert main.main(["table", model, "--dtype", "bfloat16", *options]) == 0
    printed = capsys.readouterr().out
    assert " % (deferred)" in printed and "from a gain of 1" in printed
    policy = tmp_path / "keep.yaml"
    policy.write_text("base: all\nrounding: keep\ntarget: start\n", encoding="utf-8")
    options[1] = str(policy)
    assert main.main(["table", model, "--dtype", "bfloat16", *options]) == 0
    printed = capsys.readouterr().out
    assert "0 (bf16 rounding)" in printed and "toward" in printed and "start" in printed
    assert main.main(["table", model, "--dtype", "bfloat16", "--json", *options]) == 0
    (decay,) = {(g["target"], g["deferred"]) for g in json.loads(capsys.readouterr().out)["gains"]}
    assert decay == ("start", False)


def test_audit_prints_and_dumps(model: str, capsys: Capture) -> None:
    assert main.main(["audit", model]) == 0
    assert "decayed by accident: none" in capsys.readouterr().out
    assert main.main(["audit", model, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["decayed_by_accident"] == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["table", "./nope"], "no model './nope'"),
        (["audit", "./nope"], "no model './nope'"),
        (["table", "MODEL", "--policy", "guidlines"], "guidelines"),
        (
            ["table", "MODEL", "--weight-decay", "-1"],
            "--weight-decay must be a number >= 0, not -1",
        ),
        (["table", "MODEL", "--weight-decay", "nan"], "--weight-decay must be a number >= 0"),
        (["table", "MODEL", "--weight-decay", "inf"], "--weight-decay must be a number >= 0"),
        (
            ["table", "MODEL", "--policy", "all", "--weight-decay", "0"],
            "--weight-decay is 0",
        ),
        (["table", "MODEL", "--warmup", "5"], "--warmup goes with --lr and --steps"),
        (["table", "MODEL", "--warmup", "0"], "--warmup goes with --lr and --steps"),
        (["table", "MODEL", "--schedule", "cosine"], "--schedule goes with --lr and --steps"),
        (["table", "MODEL", "--lr", "1", "--steps", "9" * 12], "--steps must be at most"),
        (["table", ""], "MODEL is empty"),
        (["table", "  "], "MODEL is empty"),
        (["table", "~nobody-of-this-name/x"], "no model '~nobody"),
        (["table", "MODEL", "--policy", ""], "unknown policy ''"),
        (["coverage", "--types", ""], "'' is not a model type"),
        (["coverage", "--types", "brt"], "did you mean 'bert'"),
        (["audit", "--all", "--types", "bert,"], "'' is not a model type"),
        (["table", "MODEL", "--lr", "1e-3"], "--steps is missing"),
        (["table", "MODEL", "--steps", "5"], "--lr is missing"),
        (["table", "MODEL", "--lr", "0", "--steps", "5"], "--lr must be"),
        (["table", "MODEL", "--lr", "1", "--steps", "5", "--warmup", "6"], "--warmup"),
        (
            ["table", "MODEL", "--lr", "1e-8", "--steps", "5", "--schedule", "polynomial"],
            "--schedule polynomial --lr 1e-08 cannot be planned: lr_end (1e-07) must be",
        ),
        (
            [
                "table",
                "MODEL",
                "--lr",
                "1",
                "--steps",
                "5",
                "--warmup",
                "1",
                "--schedule",
                "constant",
            ],
            "give --schedule constant_with_warmup",
        ),
    ],
)
def test_user_errors_exit_2_without_output(
    words: list[str], message: str, model: str, capsys: Capture
) -> None:
    assert main.main([model if word == "MODEL" else word for word in words]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("error: ")
    assert message in output.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "required: COMMAND; for help type: gamma-nlp --help"),
        (["tabel"], "no command 'tabel'; did you mean 'table'?"),
        (["xyz"], "no command 'xyz'; the commands are table, audit, probe,"),
        (["table"], "required: MODEL; for help type: gamma-nlp table --help"),
        (["table", "m", "--jsno"], "gamma-nlp table takes no '--jsno'; did you mean '--json'?"),
        (["--jsno", "table", "m"], "gamma-nlp table takes no '--jsno'; did you mean '--json'?"),
        (["--jsno", "tabel", "m"], "no command 'tabel'; did you mean 'table'?"),
        (["table", "m", "--lr", "high"], "--lr: invalid float value: 'high'; for help type: "),
        (["score", "a", "b", "c"], "takes no 'c'; for help type: gamma-nlp score --help"),
        (["demo", "--epoch", "x"], "invalid float value: 'x'; for help type: gamma-nlp demo"),
    ],
)
def test_wrong_use_exits_2_and_says_what_to_type(
    words: list[str], message: str, capsys: Capture
) -> None:
    assert main.main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert message in captured.err


def test_version_is_the_packages(capsys: Capture) -> None:
    assert main.main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"gamma-nlp {gamma_nlp.__version__}"


def test_help_names_every_command_with_its_question(capsys: Capture) -> None:
    assert main.main(["--help"]) == 0
    text = capsys.readouterr().out
    for name, question in main.COMMANDS.items():
        assert f"  {name:11}{question}\n" in text
    assert max(map(len, text.splitlines())) < 80


@pytest.mark.parametrize("command", main.COMMANDS)
def test_help_of_a_command_ends_with_examples_that_parse(command: str, capsys: Capture) -> None:
    assert main.main([command, "--help"]) == 0
    text, _, examples = capsys.readouterr().out.partition("\nexamples:\n")
    assert main.COMMANDS[command] in text
    lines = examples.splitlines()
    assert 2 <= len(lines) <= 3
    for line in lines:
        words = shlex.split(line.partition("| ")[2] or line)
        assert words[:2] == ["gamma-nlp", command]
        main.parser().parse_args(words[1:])


def test_help_and_version_import_no_torch() -> None:
    code = """
import sys
from gamma_nlp.cli import main
for words in [["--version"], ["--help"], ["tabel"], *([c, "--help"] for c in main.COMMANDS)]:
    main.main(words)
    heavy = {"torch", "transformers", "numpy"} & set(sys.modules)
    assert not heavy, (words, heavy)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_interrupted_command_exits_with_130(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def stop(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo.demo, "run", stop)
    assert main.main(["demo"]) == 130
    assert capsys.readouterr().err == "error: interrupted\n"


def test_an_output_folder_below_a_file_is_one_line(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "file").touch()
    assert main.main(["demo", "--output", str(tmp_path / "file" / "out")]) == 2
    error = f"error: cannot use {tmp_path / 'file' / 'out'}: Not a directory; check the path\n"
    assert capsys.readouterr().err == error


def test_demo_hands_its_options_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[argparse.Namespace] = []

    def record(arguments: argparse.Namespace, note: object) -> int:
        seen.append(arguments)
        return 1

    monkeypatch.setattr(demo.demo, "run", record)
    assert main.main(["demo", "--output", "x", "--dose", "0.2"]) == 1
    assert (str(seen[0].output), seen[0].dose) == ("x", 0.2)


def rates(schedule: str, warmup: int = 2) -> list[float] | None:
    words = f"table m --lr 1 --steps 6 --warmup {warmup} --schedule {schedule}".split()
    return planned.learning_rates(main.parser().parse_args(words))


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [
        ("linear", 2, [0.0, 0.5, 1.0, 0.75, 0.5, 0.25]),
        ("constant", 0, [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ("constant_with_warmup", 2, [0.0, 0.5, 1.0, 1.0, 1.0, 1.0]),
        ("cosine", 2, [0.0, 0.5, 1.0, 0.8535534, 0.5, 0.1464466]),
    ],
)
def test_schedules_are_those_of_transformers(
    schedule: str, warmup: int, expected: list[float]
) -> None:
    import torch
    from transformers import get_scheduler

    lrs = rates(schedule, warmup)
    assert lrs == pytest.approx(expected)

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = get_scheduler(schedule, optimizer, num_warmup_steps=warmup, num_training_steps=6)
    theirs = []
    for _ in range(6):
        theirs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert lrs == pytest.approx(theirs)


def test_every_schedule_that_lr_steps_and_warmup_determine_is_offered() -> None:
    import torch
    from torch.optim.lr_scheduler import LambdaLR
    from transformers import SchedulerType, get_scheduler

    made = []
    for kind in SchedulerType:
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        try:
            scheduler = get_scheduler(kind, optimizer, num_warmup_steps=2, num_training_steps=6)
        except (TypeError, ValueError):  # wants more, such as a smallest learning rate
            continue
        if isinstance(scheduler, LambdaLR):  # the others follow the score
            made.append(kind.value)
    assert sorted(planned.SCHEDULES) == sorted(made)
    assert all(len(rates(name, 0 if name == "constant" else 2) or []) == 6 for name in made)


class NotFound(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_response(404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub_without_models() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), NotFound)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gamma_nlp.cli.main", *words],
        env={**os.environ, "NO_PROXY": "127.0.0.1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_unknown_hub_name_is_one_line_of_error(hub_without_models: str, tmp_path: Path) -> None:
    environment = {"HF_ENDPOINT": hub_without_models, "HF_HOME": str(tmp_path)}
    done = run("table", "owner/none", HF_HUB_OFFLINE="0", TRANSFORMERS_OFFLINE="0", **environment)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert hub_without_models in done.stderr
    assert "404" in done.stderr


def shell(command: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command with what a shell can do to its output."""
    whole = shlex.join([sys.executable, "-m", "gamma_nlp.cli.main", *words])
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {whole} {command}"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("words", [("--help",), ("score", "MODEL", "MODEL")])
def test_a_full_device_is_one_line(words: tuple[str, ...], model: str) -> None:
    done = shell("> /dev/full", *(model if word == "MODEL" else word for word in words))
    assert done.returncode == 2
    assert done.stderr == "error: the output cannot be written: No space left on device\n"


def test_a_closed_output_is_one_line(model: str) -> None:
    done = shell(">&-", "table", model)
    assert done.returncode == 2
    assert done.stderr.startswith("error: standard output is closed")
    assert done.stderr.count("\n") == 1


def test_an_error_counts_even_where_it_cannot_be_told() -> None:
    assert shell("2> /dev/full", "tabel").returncode == 2


def test_an_output_that_cannot_show_a_letter_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    log = tmp_path / "log"
    log.write_text("T-0\ta\nH-0\t-1\ta\nGenerate t\u00e9st with beam=5: BLEU4 = 1\n", "utf-8")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
        assert main.main(["score", "--fairseq-log", str(log)]) == 2
    expected = "error: standard output, which is ascii, cannot show '\u00e9'; set PYTHONIOENCODING"
    assert capsys.readouterr().err.startswith(expected)


def test_closed_pipe_is_not_an_error(model: str) -> None:
    command = (
        f'"{sys.executable}" -m gamma_nlp.cli.main table "{model}" --full --policy none | true'
    )
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert done.stderr == ""
