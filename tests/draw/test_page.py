"""What a page, an SVG and a PNG say, and that they work by themselves in a real browser."""

from __future__ import annotations

import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import torch
from torch import nn

from gamma_nlp.draw.drawing import MARKS, Drawing, draw, save, svg_of
from gamma_nlp.errors import GammaError
from gamma_nlp.files.output import check_file
from tests.support.families import FAMILIES
from tests.support.pre_norm import Block

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
LAYER = "{0-1}.norm.weight x2"


@pytest.fixture
def drawing() -> Drawing:
    model = nn.Sequential(Block(), Block(), nn.LayerNorm(4), nn.Linear(4, 2))
    with torch.no_grad():
        model[0].norm.weight.fill_(2.0)
    one = draw(model, torch.randn(3, 4))
    names = [gain.name for gain in one.table]
    return one.with_decay(dict.fromkeys(names, 0.1), dict.fromkeys(names, 0.25), "A plan.")


def test_a_dot_tells_all_that_is_known_of_its_gains(drawing: Drawing) -> None:
    first, head = (drawing.entries(dot)[0] for dot in drawing.dots())
    assert first.gain == LAYER
    assert first.facts == {
        "category": "branch_inner",
        "kind": "layer_norm",
        "offset": "0",
        "dtype": "float32",
        "coefficient": "0.1",
        "dose": "25 %",
        "root mean square": "1 to 2",
        "why": "feeds, through a weight, the branch of the addition in {0-1}",
    }
    assert (head.gain, head.facts["category"]) == ("2.weight", "head")


def test_gains_of_a_fold_that_differ_are_told_apart(drawing: Drawing) -> None:
    one = drawing.with_decay({"0.norm.weight": 0.1, "1.norm.weight": 0.0, "2.weight": 0.0})
    told = one.entries(one.dots()[0])
    assert [(entry.gain, entry.facts["coefficient"]) for entry in told] == [
        ("0.norm.weight", "0.1"),
        ("1.norm.weight", "0"),
    ]


def test_without_weights_no_size_is_told() -> None:
    with torch.device("meta"):
        model = nn.Sequential(Block())
    one = draw(model, torch.randn(3, 4, device="meta"))
    assert "root mean square" not in one.entries(one.dots()[0])[0].facts


def test_an_offset_counts_in_the_size() -> None:
    model = FAMILIES["gemma"].build()  # its gains are 1 + w, and w starts at 0
    one = draw(model, FAMILIES["gemma"].inputs())
    facts = one.entries(one.dots()[0])[0].facts
    assert (facts["offset"], facts["root mean square"]) == ("1", "1")


def test_a_gain_that_several_uses_share_says_so() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.map = nn.LayerNorm(4), nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.norm(x + self.map(self.norm(x)))
            return out

    one = draw(Shared(), torch.randn(2, 4))
    here = [entry.facts.get("here") for dot in one.dots() for entry in one.entries(dot)]
    assert here == ["branch_inner: another use of the same parameter decides", None]
    assert [dot.category.value for dot in one.dots()] == ["head", "head"]


def test_svg_is_whole_and_needs_nothing_else(drawing: Drawing) -> None:
    text = drawing.to_svg()
    root = ET.fromstring(text)
    classes = {name for e in root.iter() for name in e.get("class", "").split()}
    assert classes and all(name.startswith("gn") for name in classes)
    assert not [e for e in root.iter() if e.get("id")]
    assert not re.search(r"url\(|href|@import|<script", text)
    assert text.count('class="gn-dot"') == len(drawing.dots())
    assert LAYER in text
    assert "branch_inner (2): feeds residual branches only" in text


def test_a_picture_explains_the_signs_that_it_has_and_no_others(drawing: Drawing) -> None:
    svg, page = drawing.to_svg(), drawing.to_html()
    for text in ("Thick line: the residual stream.", "Box: weights.", "Frame with \u00d7 n"):
        assert text in svg and text in page
    for text in ("Dashed arrow", "Small point", "round ends"):
        assert text not in svg and text not in page
    both = svg_of([drawing, draw(FAMILIES["t5"].build(), FAMILIES["t5"].inputs())])
    assert "Dashed arrow" in both and "round ends" in both


def test_a_drawing_may_have_a_title_of_its_own(drawing: Drawing) -> None:
    assert ">pre-norm &lt;mine&gt;</text>" in drawing.titled("pre-norm <mine>").to_svg()
    assert "<h1>pre-norm: 3 gains</h1>" in drawing.titled("pre-norm").to_html()


def test_names_of_modules_are_text_and_never_markup() -> None:
    class Tag(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.add_module("<b>&", Block())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.get_submodule("<b>&")(x)
            return out

    Tag.__name__ = "</script><x>"
    one = draw(Tag(), torch.randn(2, 4))
    ET.fromstring(one.to_svg())
    page = one.to_html()
    assert "<b>" not in page and "<x>" not in page
    assert page.count("</script>") == 2


@pytest.mark.needs("matplotlib")
def test_png_is_a_picture_that_is_known_as_ours(drawing: Drawing, tmp_path: Path) -> None:
    drawing.save(tmp_path / "model.png")
    data = (tmp_path / "model.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    check_file(tmp_path / "model.png", MARKS, "us")
    (tmp_path / "other.png").write_bytes(data.replace(b"gamma-nlp draw", b"another  thing"))
    with pytest.raises(GammaError, match="was not written by us"):
        check_file(tmp_path / "other.png", MARKS, "us")


@pytest.mark.parametrize("name", ["model.pdf", "model", "model.jpeg"])
def test_a_name_that_says_no_format_is_refused(drawing: Drawing, tmp_path: Path, name: str) -> None:
    with pytest.raises(GammaError, match=r"must end in \.html, \.svg or \.png"):
        drawing.save(tmp_path / name)


def test_a_page_of_two_models_is_refused(drawing: Drawing, tmp_path: Path) -> None:
    with pytest.raises(GammaError, match="a page shows one model"):
        save([drawing, drawing], tmp_path / "two.html")
    save([drawing, drawing], tmp_path / "two.svg")
    assert (tmp_path / "two.svg").read_text(encoding="utf-8").count("gn-title") == 3  # a rule too


PROBE = """
<script>
addEventListener("load", function () {
  var dots = document.querySelectorAll(".gn-dot"), said = [];
  dots.forEach(function (dot) {
    dot.dispatchEvent(new MouseEvent("%s", {bubbles: true}));
    said.push(document.getElementById("told").textContent);
  });
  document.title = "dots " + dots.length + " | " + said.join(" | ");
});
addEventListener("error", function (event) { document.title = "failed: " + event.message; });
</script>
"""


@pytest.mark.skipif(BROWSER is None, reason="no browser")
@pytest.mark.parametrize("event", ["mouseenter", "click"])
def test_pointing_at_a_dot_in_a_browser_shows_what_is_known(
    drawing: Drawing, tmp_path: Path, event: str
) -> None:
    page = drawing.to_html().replace("</body>", PROBE % event + "</body>")
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    command = [
        str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", f"file://{tmp_path}/page.html",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    title = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)
    assert title is not None
    count, first, head = title[1].split(" | ")
    assert count == "dots 2"
    for text in (LAYER, "branch_inner", "25 %", "1 to 2", "the branch of the addition in {0-1}"):
        assert text in first
    assert "2.weight" in head and "no residual addition after it" in head
