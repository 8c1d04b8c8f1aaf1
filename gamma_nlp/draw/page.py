"""The picture as a page of its own: no other file, no network; light and dark.

Pointing at a dot, tapping it or going to it by keyboard tells what is known of its gains. The same
is in a table below the picture, for readers without a pointer and for a browser's search.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from gamma_nlp.draw.facts import Entry
from gamma_nlp.draw.legend import colours, signs
from gamma_nlp.draw.sheet import lay_out
from gamma_nlp.draw.svg import MARK, css_name, to_svg

if TYPE_CHECKING:
    from gamma_nlp.draw.drawing import Drawing

_STYLE = """\
:root{color-scheme:light dark;--page:#fff;--text:#1f2430;--dim:#5b6472;--rule:#dde2e9;\
--card:#f6f8fa}
@media (prefers-color-scheme:dark){:root{--page:#16191f;--text:#e8ebf0;--dim:#a6afbd;\
--rule:#343b48;--card:#1f242d}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--text);\
font:15px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1200px;margin:0 auto;padding:16px}
h1{font-size:1.25rem;margin:0 0 4px}
p{margin:10px 0;color:var(--dim);max-width:70ch}
ul{list-style:none;margin:12px 0;padding:0;display:flex;flex-wrap:wrap;gap:4px 20px}
li svg{vertical-align:-1px;margin-right:6px}
.views{display:flex;gap:24px;align-items:flex-start}
.picture{overflow-x:auto;min-width:0;flex:0 1 auto}
.picture svg{display:block;max-width:none}
#told{position:sticky;top:12px;flex:1 1 320px;min-width:280px;max-width:460px;padding:12px 14px;\
background:var(--card);border:1px solid var(--rule);border-radius:8px;font-size:14px}
#told code,td code{font:12.5px ui-monospace,Menlo,Consolas,monospace;overflow-wrap:anywhere}
dl{display:grid;grid-template-columns:auto 1fr;gap:2px 12px;margin:6px 0 10px}
dt{color:var(--dim)}dd{margin:0;overflow-wrap:anywhere}
details{margin-top:20px}summary{cursor:pointer}
.rows{overflow-x:auto}
table{border-collapse:collapse;margin-top:8px;font-size:13px}
th,td{text-align:left;padding:4px 12px 4px 0;border-bottom:1px solid var(--rule);vertical-align:top}
@media (max-width:760px){.views{display:block}\
#told{position:fixed;left:8px;right:8px;bottom:8px;top:auto;max-width:none;max-height:42vh;\
overflow:auto;box-shadow:0 4px 18px #0004}main{padding-bottom:46vh}}
"""

_SCRIPT = """\
(function(){
var told=JSON.parse(document.getElementById("gn-told").textContent);
var panel=document.getElementById("told"),fixed=null;
function add(parent,tag,text){var e=document.createElement(tag);e.textContent=text;\
parent.appendChild(e);return e}
function show(dot){
  document.querySelectorAll(".gn-on").forEach(function(e){e.classList.remove("gn-on")});
  dot.classList.add("gn-on");panel.textContent="";
  told[+dot.dataset.dot].forEach(function(entry){
    add(panel,"code",entry[0]);var list=add(panel,"dl","");
    entry[1].forEach(function(fact){add(list,"dt",fact[0]);add(list,"dd",fact[1])})})}
document.querySelectorAll(".gn-dot").forEach(function(dot){
  dot.addEventListener("mouseenter",function(){if(!fixed)show(dot)});
  dot.addEventListener("focus",function(){show(dot)});
  dot.addEventListener("click",function(event){fixed=dot;show(dot);event.stopPropagation()})});
document.addEventListener("click",function(event){if(!panel.contains(event.target))fixed=null});
})();
"""

_HINT = "Point at a dot, or tap it: what is known of its gains shows here."


def to_html(drawing: Drawing) -> str:
    """Return the page of one drawing."""
    dots = drawing.dots()
    told = [drawing.entries(dot) for dot in dots]
    number = {id(dot): i for i, dot in enumerate(dots)}
    sheet = lay_out([drawing.picture])
    svg = to_svg(
        sheet,
        lambda dot: told[number[id(dot)]][0].gain,
        number=lambda dot: number[id(dot)],
    )
    title = escape(drawing.picture.model or "model")
    count = sum(drawing.counts().values())
    notes = [" ".join(signs(sheet.shapes)), *drawing.notes(), drawing.about]
    if unused := drawing.unused():
        notes.append(f"Not drawn, as the forward pass never reaches them: {', '.join(unused)}.")
    data = json.dumps(
        [[[entry.gain, list(entry.facts.items())] for entry in entries] for entries in told],
        ensure_ascii=False,
        separators=(",", ":"),
    ).replace("<", "\\u003c")
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n{MARK}\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}: where its gains sit</title>\n<style>\n{_STYLE}</style>\n</head>\n"
        f'<body class="gn">\n<main>\n<h1>{title}: {count} gain{"" if count == 1 else "s"}</h1>\n'
        f"<ul>{_legend(drawing)}</ul>\n"
        f'<div class="views"><div class="picture">\n{svg}</div>\n'
        f'<div id="told" aria-live="polite">{_HINT}</div></div>\n'
        + "".join(f"<p>{escape(note)}</p>\n" for note in notes if note)
        + "<details><summary>All gains as a table</summary>\n"
        f'<div class="rows">{_rows(told)}</div></details>\n'
        "</main>\n"
        f'<script type="application/json" id="gn-told">{data}</script>\n'
        f"<script>\n{_SCRIPT}</script>\n</body>\n</html>\n"
    )


def _legend(drawing: Drawing) -> str:
    return "".join(
        '<li><svg width="13" height="13" aria-hidden="true">'
        f'<circle class="gn-{css_name(category)}" cx="6.5" cy="6.5" r="6"/></svg>'
        f"{escape(text)}</li>"
        for category, text in colours(drawing.counts())
    )


def _rows(told: Sequence[Sequence[Entry]]) -> str:
    lines = [entry for entries in told for entry in entries]
    columns = list(dict.fromkeys(what for entry in lines for what in entry.facts))
    head = "".join(f"<th>{escape(what)}</th>" for what in ["gain", *columns])
    body = "".join(
        f"<tr><td><code>{escape(entry.gain)}</code></td>"
        + "".join(f"<td>{escape(entry.facts.get(what, ''))}</td>" for what in columns)
        + "</tr>"
        for entry in lines
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
