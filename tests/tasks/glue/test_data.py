"""The strict reader: the official layouts, and an error with file and line for anything else."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from gamma_nlp.errors import GammaError
from gamma_nlp.tasks.glue.data import find_folder, load_glue, read_tsv
from gamma_nlp.tasks.glue.tasks import TASKS, glue_task

SST2 = "sentence\tlabel\na fine film \t1\na dull one \t0\n"
LAYOUTS = {
    "sst2": (SST2, {"sentence": "a fine film ", "label": 1}),
    "cola": ("gj04\t1\t\tBirds sing.\ngj04\t0\t*\tSing birds the.\n", {"sentence": "Birds sing."}),
    "mrpc": (
        "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
        '1\t10\t11\t" He said so .\tSo he said .\n',
        {"sentence1": '" He said so .', "sentence2": "So he said .", "label": 1},
    ),
    "rte": (
        "index\tsentence1\tsentence2\tlabel\n0\tIt rains.\tIt is dry.\tnot_entailment\n",
        {"sentence1": "It rains.", "sentence2": "It is dry.", "label": 1},
    ),
    "qnli": (
        "index\tquestion\tsentence\tlabel\n0\tWho?\tShe did.\tentailment\n",
        {"question": "Who?", "sentence": "She did.", "label": 0},
    ),
    "wnli": (
        "index\tsentence1\tsentence2\tlabel\n0\tIt fell.\tIt broke.\t1\n",
        {"sentence1": "It fell.", "label": 1},
    ),
    "qqp": (
        "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n1\t2\t3\tWhy?\tWhat for?\t1\n",
        {"question1": "Why?", "question2": "What for?", "label": 1},
    ),
    "stsb": (
        "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n"
        "0\tnews\tf\t2012\t1\ta\tb\tA man runs.\tA man is running.\t4.750\n",
        {"sentence1": "A man runs.", "label": 4.75},
    ),
    "mnli": (
        "index\tpromptID\tpairID\tgenre\tsentence1\tsentence2\tlabel1\tgold_label\n"
        "0\t1\t1n\tfiction\tIt rains.\tIt is wet.\tentailment\tneutral\n",
        {"premise": "It rains.", "hypothesis": "It is wet.", "label": 1},
    ),
}


def write(
    folder: Path, text: str | bytes = SST2, names: tuple[str, ...] = ("train", "dev")
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        data = text if isinstance(text, bytes) else text.encode()
        (folder / f"{name}.tsv").write_bytes(data)
    return folder


def read(tmp_path: Path, text: str | bytes, task: str = "sst2") -> dict[str, list[object]]:
    path = write(tmp_path, text, ("train",)) / "train.tsv"
    return read_tsv(path, glue_task(task))


@pytest.mark.parametrize("task", TASKS)
def test_each_official_layout_is_read(task: str, tmp_path: Path) -> None:
    text, expected = LAYOUTS[task]
    names = tuple(name.removesuffix(".tsv") for name in TASKS[task].files.values())
    write(tmp_path / TASKS[task].folder, text, names)
    data = load_glue(task, tmp_path)
    assert tuple(data) == ("train", *TASKS[task].evaluation_splits)
    row = data["train"][0]
    assert row["idx"] == 0
    assert {key: row[key] for key in expected} == expected


def test_the_task_folder_itself_and_a_glue_folder_inside_are_found(tmp_path: Path) -> None:
    task = glue_task("sst2")
    inner = write(tmp_path / "glue" / "SST-2")
    assert find_folder(task, tmp_path) == inner
    assert find_folder(task, inner) == inner


def test_quotation_marks_and_odd_line_separators_are_text(tmp_path: Path) -> None:
    rows = read(tmp_path, 'sentence\tlabel\n"open quote\t1\nline\u2028break\x85 "\t0\n')
    assert rows["sentence"] == ['"open quote', 'line\u2028break\x85 "']


def test_windows_line_ends_and_a_missing_last_newline_are_fine(tmp_path: Path) -> None:
    rows = read(tmp_path, "sentence\tlabel\r\ngood\t1\r\nbad\t0")
    assert (rows["sentence"], rows["label"]) == (["good", "bad"], [1, 0])


def test_rows_without_labels_get_minus_one(tmp_path: Path) -> None:
    write(tmp_path / "SST-2", "index\tsentence\n0\tunseen\n", ("test",))
    data = load_glue("sst2", tmp_path, splits=["test"])
    assert data["test"][0] == {"sentence": "unseen", "label": -1, "idx": 0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("text\tlabel\na\t1\n", r"train\.tsv:1: no column 'sentence' .* has text, label"),
        ("sentence\na\n", r"train\.tsv:1: no column 'label'"),
        ("sentence\tlabel\na\t1\nb\t2\n", r"train\.tsv:3: label '2', expected '0' or '1'"),
        ("sentence\tlabel\na\t\n", r"train\.tsv:2: label ''"),
        ("sentence\tlabel\na\t1\nb\n", r"train\.tsv:3: 1 tab-separated field\(s\), expected 2"),
        ("sentence\tlabel\na\tb\t1\n", r"train\.tsv:2: 3 tab-separated"),
        ("sentence\tlabel\na\t1\n\nb\t1\n", r"train\.tsv:3: 1 tab-separated"),
        ("", r"train\.tsv is empty"),
        ("\n \n", r"train\.tsv is empty"),
        ("sentence\tlabel\n", r"train\.tsv holds no examples, only a header row"),
        (
            b"sentence\tlabel\na\t1\ncaf\xe9\t1\n",
            r"train\.tsv:3: byte 0xe9 at offset 22 is not UTF-8",
        ),
        (b"\xef\xbb\xbfsentence\tlabel\n\xff\t1\n", r"train\.tsv:2: byte 0xff at offset 18"),
    ],
)
def test_bad_files_are_errors_with_file_and_line(
    text: str | bytes, message: str, tmp_path: Path
) -> None:
    with pytest.raises(GammaError, match=message):
        read(tmp_path, text)


def test_a_score_must_be_a_number_from_0_to_5(tmp_path: Path) -> None:
    head = LAYOUTS["stsb"][0]
    for bad in ("5.1", "nan", "x"):
        with pytest.raises(GammaError, match=rf"train\.tsv:2: score '{bad}'"):
            read(tmp_path, head.replace("4.750", bad), "stsb")


def test_rows_cut_in_two_are_left_out_of_qqp_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    head, row = LAYOUTS["qqp"][0].splitlines()
    rows = read(tmp_path, f"{head}\n{row}\n1\t2\t3\tbroken\n{row}\n", "qqp")
    assert len(rows["label"]) == 2
    assert "left out 1 cut row(s): line 3" in caplog.text
    with pytest.raises(GammaError, match=r"train\.tsv:22: 2 tab-separated"):
        read(tmp_path, f"{head}\n" + "1\t2\n" * 21, "qqp")


def test_a_missing_file_or_folder_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(GammaError, match="does not exist; give the folder that holds SST-2/"):
        load_glue("sst2", tmp_path / "nowhere")
    with pytest.raises(GammaError, match=r"looked for train\.tsv and dev\.tsv in .*SST-2"):
        load_glue("sst2", tmp_path)
    write(tmp_path / "SST-2", SST2, ("train",))
    with pytest.raises(GammaError, match=r"SST-2 lacks dev\.tsv"):
        load_glue("sst2", tmp_path)
    with pytest.raises(GammaError, match="is a file, not a folder"):
        load_glue("sst2", tmp_path / "SST-2" / "train.tsv")


def test_unknown_tasks_and_splits_are_refused(tmp_path: Path) -> None:
    with pytest.raises(GammaError, match="'sst' is not a GLUE task; choose one of sst2, cola"):
        glue_task("sst")
    assert glue_task("SST-2") is TASKS["sst2"]
    with pytest.raises(GammaError, match="sst2 has no split 'dev'"):
        load_glue("sst2", tmp_path, splits=["dev"])


def test_an_unreachable_hub_is_an_error_that_names_the_way_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import datasets
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    with pytest.raises(GammaError, match=re.escape("--data FOLDER")):
        load_glue("sst2")


@pytest.mark.parametrize(
    ("task", "train", "dev"),
    [("sst2", 67349, 872), ("cola", 8551, 1043), ("mrpc", 3668, 408), ("rte", 2490, 277)],
)
def test_the_official_files_have_their_official_sizes(
    real_data: Callable[[str], Path], task: str, train: int, dev: int
) -> None:
    data = load_glue(task, str(real_data("glue").parent))
    assert (len(data["train"]), len(data["validation"])) == (train, dev)
    assert set(data["train"]["label"]) == {0, 1}


def test_the_generated_corpus_needs_no_files_and_is_for_sst2() -> None:
    data = load_glue("sst2", "opinions")
    assert {split: len(rows) for split, rows in data.items()} == {"train": 4000, "validation": 1000}
    assert not set(data["train"]["sentence"]) & set(data["validation"]["sentence"])
    with pytest.raises(GammaError, match="'opinions' is made for sst2 only, not for cola"):
        load_glue("cola", "opinions")
