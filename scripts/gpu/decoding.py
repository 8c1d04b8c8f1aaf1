"""The speed of beam search in batches, as an evaluation decodes."""

from __future__ import annotations

import torch
from parts import Note, Settings
from table import Row, now
from translating import prepared


def run(settings: Settings, note: Note) -> None:
    """Decode sentences with one beam and with five; random weights go on to the length limit."""
    from translators import build, read_text

    from gamma_nlp.tasks.translation.data import load_splits
    from gamma_nlp.tasks.translation.decode import Search, decode

    folder = prepared(settings)
    text = read_text(folder)
    model = build("quick" if settings.quick else "base", text).to(settings.device)
    count = 4 if settings.quick else 200
    sources = [ids.tolist() for ids in load_splits(folder, text)["valid"].source[:count]]
    for beams in (1, 5):
        search = Search(beams=beams)
        decode(model, sources[:8], search)  # warms up
        if settings.cuda:
            torch.cuda.reset_peak_memory_stats()
        start = now()
        tokens = sum(len(ids) + 1 for ids in decode(model, sources, search))
        seconds = now() - start
        peak = torch.cuda.max_memory_allocated() if settings.cuda else None
        memory = "" if peak is None else f", at most {peak / 2**30:.1f} GiB"
        detail = (
            f"{tokens / seconds:,.0f} tokens/s, {len(sources)} sentences in batches of "
            f"{search.max_tokens:,} tokens, random weights, full length, fp32{memory}"
        )
        figures = {"seconds": seconds, "tokens": tokens, "sentences": len(sources), "peak": peak}
        what, measured = f"decode, beam {beams}", f"{len(sources) / seconds:.1f} sentences/s"
        note(Row(what, measured, "", None, detail, figures))
