from __future__ import annotations

import re
from pathlib import Path

import pytest

from gamma_nlp.errors import GammaError
from gamma_nlp.study.found import find
from gamma_nlp.study.report.findings import findings
from gamma_nlp.study.report.page import as_html, model_picture
from tests.support.chromium import look
from tests.support.findings import hand_made
from tests.support.studies import Fake, change, fail, write_bare

PLOTS = (
    *("Every seed", "Differences from the baseline", "Dose against metric", "Training loss"),
    *("Accuracy over training", "Gains per category"),
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """All that a page can have: doses, an A/A arm, an arm that stands for another, a failure."""
    fake = Fake(
        arms={"none": 0.0, "all": -0.4, "iwd": 0.0, "an arm of many words_and_underscores": 0.0},
        doses=(0.1, 0.5), seeds=(1, 2, 3), items=60, aa=True, same_as={"iwd": "none"},
    )  # fmt: skip
    folder = fake.write(tmp_path_factory.mktemp("page") / "study")
    fail(folder, "all-10pct-seed3")
    change(folder, "all-50pct-seed2", versions__torch="2.12.0")
    (folder / "model.svg").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 10 10" width="900" height="300">'
        '<title>stream</title><circle id="dot" r="3"/></svg>'
    )
    return as_html(findings(find(folder)))


def test_verdicts_come_first_then_plots_then_numbers(page: str) -> None:
    heads = re.findall(r"<h2>(.*?)</h2>", page)
    assert heads == ["Verdicts", "Plots", "Numbers", "Gains and doses", "Runs"]
    assert page.index("runs/all-50pct-seed2/results.json: versions.torch") < page.index("Plots")
    assert re.findall(r"<figcaption><b>(.*?)\.</b>", page) == list(PLOTS)


def test_a_page_needs_nothing_else(page: str) -> None:
    assert "<script" not in page and "@import" not in page
    assert not re.findall(r"(?:src|href)=[\"'](?!#|data:,)[^\"']*", page)
    assert not re.findall(r"url\((?!#)", page)
    addresses = set(re.findall(r"https?://[^\"'< ]*", page))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert len(page.encode()) < 1_000_000


def test_ids_are_unique_and_lead_somewhere(page: str) -> None:
    ids = re.findall(r"(?<![\w-])id=[\"']([^\"']*)", page)
    assert len(set(ids)) == len(ids) > 100
    assert set(re.findall(r"(?:href=[\"']#|url\(#)([^\"')]*)", page)) <= set(ids)


def test_every_picture_says_what_it_shows(page: str) -> None:
    pictures = re.findall(r"<svg[^>]*>\s*<title>", page)
    assert len(pictures) == len(PLOTS) + 1
    assert page.count('role="img" aria-label="Every seed:') == 1
    assert "<text" in page and "currentColor" in page


def test_a_page_is_the_same_byte_by_byte_every_time(tmp_path: Path) -> None:
    results = findings(find(Fake(items=30, seeds=(1, 2)).write(tmp_path)))
    assert as_html(results) == as_html(results)


def test_names_of_the_users_are_shown_and_not_run(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>$x_1$"
    scores = {"none": [0.8, 0.81, 0.79], "b": [0.7, 0.72, 0.71]}
    folder = write_bare(tmp_path, scores)
    record = (folder / "study.json").read_text()
    record = record.replace('"name": "b"', f'"name": "{evil}"').replace(
        '"arm": "b"', '"arm": "<i>"'
    )
    (folder / "study.json").write_text(record.replace('"cell": "b"', f'"cell": "{evil}"'))
    page = as_html(findings(find(folder)))
    assert "<script" not in page and "<i>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;$x_1$" in page


def test_foreign_runs_have_a_page_that_says_what_is_not_drawn(tmp_path: Path) -> None:
    page = as_html(hand_made(tmp_path))
    assert (
        "Not drawn, since no run tells it at two steps or more: training loss, "
        "scores over training, gains over training." in page
    )
    assert "<h2>Gains and doses</h2>" not in page


@pytest.mark.parametrize(
    "content",
    [
        "<p>no picture</p>",
        "<svg><script>alert(1)</script></svg>",
        '<svg onload="alert(1)"></svg>',
        '<svg><image href="https://example.org/x.png"/></svg>',
        "<svg><style>@import 'x.css'</style></svg>",
        '<svg><a xlink:href="javascript:alert(1)"/></svg>',
        "<svg><foreignObject/></svg>",
    ],
)
def test_a_picture_of_the_model_that_would_act_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "model.svg").write_text(content)
    with pytest.raises(GammaError, match=r"model\.svg.*gamma-nlp draw"):
        model_picture(tmp_path / "model.svg")


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_a_browser_shows_it_at_the_width_of(
    width: int, height: int, page: str, tmp_path: Path
) -> None:
    seen = look(page, tmp_path, width=width, height=height)
    assert seen.logged == []
    assert (seen.scroll, seen.outside) == (0, 0)
    assert seen.plots == len(PLOTS) + 1
    for text in (*PLOTS, "Verdicts", "all@50%", "Settings that differ", "CUDA out of memory"):
        assert text in seen.text


def test_what_a_page_logs_and_where_it_is_too_wide_is_seen(tmp_path: Path) -> None:
    bad = "<script>console.error('oh no')</script><p style='width:2000px'>x</p>"
    seen = look(bad, tmp_path, width=390, height=844)
    assert "oh no" in seen.logged[0]
    assert seen.scroll > 1000 and seen.outside == 1
