"""The files of a report: all are made before the first is written, so none is there alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from gamma_nlp.errors import GammaError
from gamma_nlp.study.report.data_files import as_json, comparisons_csv, runs_csv
from gamma_nlp.study.report.findings import Findings
from gamma_nlp.study.report.page import as_html
from gamma_nlp.study.report.pictures import NAMES, as_files, pictures
from gamma_nlp.study.report.text import as_latex, as_markdown, as_text

FILES: Mapping[str, Callable[[Findings], str]] = {
    "report.txt": as_text,
    "results.csv": runs_csv,
    "comparisons.csv": comparisons_csv,
    "comparisons.tex": as_latex,
}

FORMATS: Mapping[str, Callable[[Findings], str]] = {
    "text": as_text,
    "markdown": as_markdown,
    "csv": comparisons_csv,
    "latex": as_latex,
    "json": as_json,
}


def write_report(results: Findings, folder: Path) -> list[Path]:
    """Write all files of a report into a folder, over those of an earlier report.

    An error leaves the earlier files as they were; what else the folder holds stays.

    Raises:
        GammaError: The folder is a file.
        OSError: A file cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise GammaError(f"output {folder} is not a folder; give another name")
    drawn = pictures(results)
    texts = {name: make(results) for name, make in FILES.items()}
    texts |= {"report.html": as_html(results, drawn), "report.md": as_markdown(results, drawn)}
    contents = {name: text.encode("utf-8") for name, text in {**texts, **as_files(drawn)}.items()}
    new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    drafts = {folder / name: folder / f".{name}.{os.getpid()}" for name in contents}
    try:
        for path, draft in drafts.items():
            try:
                draft.write_bytes(contents[path.name])
            except OSError as error:
                error.filename = os.fspath(path)  # a full device names none
                raise
        for path, draft in drafts.items():
            os.replace(draft, path)
        for name in NAMES:  # of an earlier report that had more to draw
            if f"{name}.svg" not in contents:
                (folder / f"{name}.svg").unlink(missing_ok=True)
    finally:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)
        if new and not any(folder.iterdir()):
            folder.rmdir()
    return list(drafts)
