"""Both commands, and the commands they tell the user to type next."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest
import torch

from gamma_nlp.cli import main as cli
from gamma_nlp.fairseq import __main__ as main
from tests.support.fairseq_models import (
    PRENORM,
    SHARING,
    TINY,
    Corpus,
    load,
    our_run,
)
from tests.support.fairseq_runs import call, need_fairseq, quiet

need_fairseq()


def command(*words: object) -> int:
    """``python -m gamma_nlp.fairseq ...``."""
    with quiet(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["gamma_nlp.fairseq", *map(str, words)])
        return main.main()


def hypotheses(output: str) -> list[str]:
    """What fairseq-generate printed, in the order of the input."""
    lines = [line.split("\t") for line in output.splitlines() if line.startswith("H-")]
    return [line[2] for line in sorted(lines, key=lambda line: int(line[0][2:]))]


@pytest.mark.slow
@pytest.mark.parametrize("norm", [[], PRENORM], ids=["postnorm", "prenorm"])
def test_a_trained_model_translates_the_same_there_here_and_back_there(
    corpus: Corpus, tmp_path: Path, norm: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    model = [*TINY, *norm, *SHARING["all"], "--encoder-embed-dim", "32"]
    model += ["--decoder-embed-dim", "32", "--dropout", "0"]
    training = ["--criterion", "label_smoothed_cross_entropy", "--optimizer", "adam", "--lr"]
    training += ["0.01", "--max-tokens", "600", "--num-workers", "0", "--disable-validation"]
    training += ["--cpu", "--no-epoch-checkpoints"]
    save_dir = ["--save-dir", tmp_path / "there"]
    assert call("train", corpus.joined, *model, *training, *save_dir, "--max-update", 60) == 0
    checkpoint = tmp_path / "there" / "checkpoint_last.pt"
    words = ["--data", corpus.joined, "--prepared", corpus.prepared, "--output", tmp_path / "run"]
    assert command("to-transformers", checkpoint, *words) == 0
    out = tmp_path / "out"
    capsys.readouterr()
    assert command("from-transformers", tmp_path / "run", "--output", out) == 0
    output = capsys.readouterr().out
    # What the command tells to do next, with the folders filled in.
    filled = output.replace("PREPARED/TEST", "PREPARED/test")
    filled = filled.replace("PREPARED", str(corpus.prepared)).replace("DATA_BIN", f"{tmp_path}/bin")
    steps = [line.split() for line in filled.splitlines() if line.startswith("  gamma-fairseq-")]
    preprocess, generate, train = (step[1:] for step in steps)
    assert call("preprocess", *preprocess) == 0
    raw = corpus.prepared / "raw" / "test.de"
    for beams in (1, 4):
        search = ["--gen-subset", "test", "--beam", beams, "--remove-bpe", "--cpu"]
        capsys.readouterr()
        assert call("generate", corpus.joined, "--path", checkpoint, *search) == 0
        there = hypotheses(capsys.readouterr().out)
        beam = ["--beam", str(beams), "--cpu"]
        assert call("generate", *generate, *beam) == 0
        back = hypotheses(capsys.readouterr().out)
        ours = ["translate", str(tmp_path / "run"), str(raw), "--tokens", "--beams", str(beams)]
        assert cli.main(ours) == 0
        assert capsys.readouterr().out.splitlines() == there == back
        assert len(there) == 7 and len(set(there)) > 1
    # The rest of the last line is the user's own.
    save_dir = ["--save-dir", tmp_path / "on", "--max-update", 1]
    assert call("train", *train[:-1], *training, *save_dir) == 0
    resets = [f"--reset-{what}" for what in ("optimizer", "dataloader", "meters", "lr-scheduler")]
    restored = [tmp_path / "bin", *train[3:-1], "--restore-file", out / "checkpoint.pt", *resets]
    save_dir = ["--save-dir", tmp_path / "restored", "--max-update", 1]
    assert call("train", *restored, *training, *save_dir) == 0
    first, second = (
        load(tmp_path / name / "checkpoint_last.pt", tmp_path / "bin").state_dict()
        for name in ("on", "restored")
    )
    assert all(torch.equal(first[n], second[n]) for n in first if "_float_tensor" not in n)


def test_commands_that_are_printed_can_be_pasted(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = our_run(corpus, tmp_path / "my run", "marian", joint=True), tmp_path / "my out"
    assert command("from-transformers", run, "--output", out) == 0
    lines = [shlex.split(line) for line in capsys.readouterr().out.splitlines()[2:5]]
    assert [line[-1] for line in lines] == ["DATA_BIN", "--remove-bpe", "..."]
    assert f"{out}/dict.de.txt" in lines[0] and f"{out}/dict.en.txt" in lines[0]
    assert all(f"{out}/checkpoint.pt" in line for line in lines[1:])
    back = tmp_path / "and back"
    words = ["--data", out, "--prepared", corpus.prepared, "--output", back]
    assert command("to-transformers", out / "checkpoint.pt", *words) == 0
    output = shlex.split(capsys.readouterr().out.splitlines()[1])
    assert output == ["gamma-nlp", "translate", str(back), "FILE"]


def test_learned_positions_are_announced(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = our_run(corpus, tmp_path / "run", "marian", joint=True)
    assert command("from_transformers", run, "--output", tmp_path / "out") == 0
    output = capsys.readouterr().out
    assert "--encoder-learned-pos --decoder-learned-pos" in output
    assert "which fairseq trains further" in output


def test_an_error_of_the_commands_has_no_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data", tmp_path, "--prepared", tmp_path, "--output", tmp_path / "out"]
    assert command("to-transformers", tmp_path / "no.pt", *words) == 2
    assert command("from-transformers", tmp_path, "--output", tmp_path / "out") == 2
    errors = capsys.readouterr().err.splitlines()
    assert [line.startswith("error: ") for line in errors] == [True, True]
    assert command("nonsense") == 2
    assert "to-transformers, from-transformers" in capsys.readouterr().err


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("--help") == 0
    output = capsys.readouterr().out
    assert all(name in output for name in ("preprocess", "hydra-train", "from-transformers"))


def test_without_transformers_both_name_the_extra_and_write_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    words = ["--data", tmp_path, "--prepared", tmp_path, "--output", tmp_path / "out"]
    assert command("to-transformers", tmp_path / "no.pt", *words) == 2
    assert command("from-transformers", tmp_path, "--output", tmp_path / "out") == 2
    assert capsys.readouterr().err.splitlines() == [
        f"error: gamma-fairseq-{name} needs transformers: pip install 'gamma_nlp[hf]'"
        for name in ("to-transformers", "from-transformers")
    ]
    assert not (tmp_path / "out").exists()
