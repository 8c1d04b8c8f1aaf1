"""What cannot be trained is refused in words before a step, and leaves no folder."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from gamma_nlp.errors import GammaError
from tests.support.translation_runs import MARIAN, PRENORM, experiment, train

EMPTY = "EMPTY"  # stands for null, since experiment() leaves out what is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": None}, "data is missing: give --data FOLDER"),
        ({"data": "nowhere"}, "nowhere is not a prepared folder"),
        ({"source_language": "fr"}, "has de and en, not fr and en"),
        ({"model_config": None}, "model_config is missing"),
        ({"model_config": {"d_model": 8}}, "model_type is missing"),
        ({"model_config": {"model_type": "no-such"}}, "cannot build 'no-such'"),
        ({"model_config": {"model_type": "bert"}}, "cannot build 'bert'"),
        ({"model_config": MARIAN | {"model_type": "m2m_100"}}, "m2m_100 does not make decoder in"),
        ({"model_config": MARIAN | {"layers": 3}}, "marian has no field 'layers'"),
        ({"model_config": MARIAN | {"encoder_layer": 2}}, "did you mean 'encoder_layers'"),
        ({"model_config": "{model_type: mariann}"}, "did you mean 'marian'"),
        ({"per_device_eval_batch_size": 0}, "per_device_eval_batch_size must be at least 1"),
        ({"report_to": "wandbb"}, "no log is called 'wandbb'"),
        ({"optim_args": "x=1"}, "optim_args 'x=1' has no effect"),
        ({"resume": True}, "--resume: .* holds no checkpoint, so there is nothing to resume"),
        ({"model_config": MARIAN | {"vocab_size": 3}}, "vocab_size follows from the data"),
        (
            {"model_config": MARIAN | {"max_position_embeddings": 4}},
            r"a sentence of train has \d+ tokens, more than the 4 positions",
        ),
        (
            {"model_config": PRENORM, "joint_vocabulary": False},
            "joint_vocabulary: false needs model_type marian, not pegasus",
        ),
        ({"max_tokens": 5}, r"more than max_tokens=5"),
        ({"beams": 0}, "beams must be at least 1, not 0"),
        ({"beams": 1001}, "beams must be at most 1000, not 1001"),
        ({"average_last": 0}, "average_last must be at least 1, not 0"),
        ({"average_last": EMPTY}, "average_last is empty"),
        ({"length_penalty": EMPTY}, "length_penalty is empty"),
        ({"metric_for_best_model": "accuracy"}, "must be bleu or loss, not accuracy"),
        ({"load_best_model_at_end": True}, "load_best_model_at_end has no effect"),
        ({"save_strategy": "best"}, "save_strategy best would leave out the last checkpoints"),
        ({"resume_from_checkpoint": "x"}, "resume_from_checkpoint has no effect here; give --res"),
        ({"num_train_epochs": 0}, "no step to train: num_train_epochs is 0"),
        ({"patience": 2, "eval_strategy": "no"}, "patience needs evaluations"),
        ({"lr_scheduler_type": "reduce_lr_on_plateau"}, "plateau follows the score"),
        ({"lr_scheduler_type": "cosine_with_min_lr"}, "cannot be made: .*lr_scheduler_kwargs"),
        ({"decay_policy": "nothing"}, "unknown policy 'nothing'"),
        ({"dose": None, "weight_decay": 0.0}, "weight_decay is 0"),
    ],
)
def test_bad_input_is_an_error_before_any_step(
    changes: dict[str, Any], message: str, tmp_path: Path, data: Path
) -> None:
    argv = experiment(tmp_path, **({"data": data} | changes))
    file = Path(argv[0])
    file.write_text(file.read_text().replace(EMPTY, "null"))
    with pytest.raises(GammaError, match=message):
        train(argv)
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_no_number_ends_the_run_without_a_score(data: Path, tmp_path: Path) -> None:
    none = {"decay_policy": "none", "dose": None, "weight_decay": 0.0, "warmup_steps": 0}
    argv = experiment(tmp_path, data, learning_rate="1e38", **none)
    with pytest.raises(GammaError, match=r"not a finite number .* at step 2 of \d+: training has"):
        train(argv)
    assert not (tmp_path / "run" / "results.json").exists()


def test_text_that_the_vocabulary_does_not_know_is_refused(data: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(data, tmp_path / "copy")
    (copy / "vocab").write_text("zebra 1\n")
    with pytest.raises(GammaError, match="of the training text in de is unknown to the vocabul"):
        train(experiment(tmp_path, copy))


def test_sides_of_different_length_are_named(data: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(data, tmp_path / "copy")
    with (copy / "test.en").open("a") as file:
        file.write("one more\n")
    with pytest.raises(GammaError, match=r"test\.de has 7 lines, but .*test\.en has 8"):
        train(experiment(tmp_path, copy))


def test_an_empty_test_set_is_named(data: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(data, tmp_path / "copy")
    for path in copy.rglob("test.*"):
        path.write_text("")
    with pytest.raises(GammaError, match=r"test\.de is empty; .* remove this test set"):
        train(experiment(tmp_path, copy))


@pytest.mark.parametrize(
    ("package", "extra"), [("matplotlib", "recipes"), ("sacrebleu", "translation")]
)
def test_a_missing_package_is_named_before_anything_is_written(
    package: str, extra: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = experiment(tmp_path, data)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(GammaError, match=rf"needs {package}: pip install 'gamma_nlp\[{extra}\]'"):
        train(argv)
    assert not (tmp_path / "run").exists()
