"""Tables of GLUE's tasks."""

from __future__ import annotations

from pathlib import Path

from tests.support.fuzz.kind import Kind

GLUE = {
    "sst2-train.tsv": b"sentence\tlabel\na good film\t1\na bad one\t0\nso so\t1\n",
    "cola-train.tsv": b"x\t1\t\tA dog sees.\nx\t0\t*\tDog a.\n",
    "stsb-train.tsv": b"index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\t"
    b"sentence2\tscore\n0\ta\tb\tc\td\te\tf\ta dog\tthe dog\t4.5\n",
    "qqp-train.tsv": b"id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n1\t2\t3\ta?\tb?\t0\n",
}


def _glue(folder: Path) -> None:
    from gamma_nlp.tasks.glue.data import read_tsv
    from gamma_nlp.tasks.glue.tasks import glue_task

    for file in folder.iterdir():
        read_tsv(file, glue_task(file.name.partition("-")[0]))


GLUE_TABLES = Kind(good=lambda: tuple({k: v} for k, v in GLUE.items()), read=_glue, share=4)
