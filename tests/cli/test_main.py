from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

import gamma_nlp
from gamma_nlp.cli import main

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
    assert "say --lr and --steps" in capsys.readouterr().out


def test_full_table_has_one_row_per_gain(model: str, capsys: Capture) -> None:
    assert main.main(["table", model, "--full"]) == 0
    assert "bert.encoder.layer.1.output.LayerNorm.weight" in capsys.readouterr().out


def test_table_json_is_pure_and_complete(model: str, capsys: Capture) -> None:
    assert main.main(["table", model, "--json", "--lr", "1e-3", "--steps", "10"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["policy"] == "guidelines"
    assert len(data["gains"]) == 8
    assert {"name", "category", "reason", "coefficient", "dose"} <= set(data["gains"][0])


def test_dtype_changes_the_dose(model: str, capsys: Capture) -> None:
    options = ["--policy", "all", "--lr", "1e-5", "--steps", "300", "--weight-decay", "3"]
    assert main.main(["table", model, "--dtype", "bfloat16", *options]) == 0
    assert "0 (bf16 rounding)" in capsys.readouterr().out


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
        (["table", "MODEL", "--weight-decay", "-1"], "weight_decay"),
        (["table", "MODEL", "--weight-decay", "0"], "weight_decay is 0"),
        (["table", "MODEL", "--lr", "1e-3"], "--steps is missing"),
        (["table", "MODEL", "--steps", "5"], "--lr is missing"),
        (["table", "MODEL", "--lr", "0", "--steps", "5"], "--lr must be"),
        (["table", "MODEL", "--lr", "1", "--steps", "5", "--warmup", "6"], "--warmup"),
    ],
)
def test_user_errors_exit_2_without_output(
    words: list[str], message: str, model: str, capsys: Capture
) -> None:
    assert main.main([model if word == "MODEL" else word for word in words]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("gamma-nlp: ")
    assert message in output.err


def test_unknown_command_exits_2(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as stop:
        main.main(["tabel"])
    assert stop.value.code == 2


def test_version_is_the_packages(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as stop:
        main.main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.strip() == f"gamma-nlp {gamma_nlp.__version__}"


def test_demo_gets_its_own_options(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(main, "run_demo", lambda words: seen.append(list(words)))
    assert main.main(["demo", "--out", "x", "--help"]) == 0
    assert seen == [["--out", "x", "--help"]]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("linear", [0.0, 0.5, 1.0, 0.75, 0.5, 0.25]),
        ("constant", [0.0, 0.5, 1.0, 1.0, 1.0, 1.0]),
        ("cosine", [0.0, 0.5, 1.0, 0.8535534, 0.5, 0.1464466]),
    ],
)
def test_schedules_are_those_of_transformers(schedule: str, expected: list[float]) -> None:
    import torch
    from transformers import get_scheduler

    words = ["table", "m", "--lr", "1", "--steps", "6", "--warmup", "2", "--schedule", schedule]
    lrs = main.learning_rates(main.parser().parse_args(words))
    assert lrs == pytest.approx(expected)

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    name = "constant_with_warmup" if schedule == "constant" else schedule
    scheduler = get_scheduler(name, optimizer, num_warmup_steps=2, num_training_steps=6)
    theirs = []
    for _ in range(6):
        theirs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert lrs == pytest.approx(theirs)


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


def test_closed_pipe_is_no_error(model: str) -> None:
    command = f'"{sys.executable}" -m gamma_nlp.cli.main table "{model}" --full | true'
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert done.stderr == ""
