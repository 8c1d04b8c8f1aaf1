"""Translations and references, and fairseq's log."""

from __future__ import annotations

import gzip
from pathlib import Path

from gamma_nlp.errors import GammaError
from tests.support.fuzz.kind import Kind

LOG = "".join(f"S-{n}\tein Hund {n}\nT-{n}\ta dog {n}\nH-{n}\t-0.5\ta dog {n}\n" for n in range(4))
LOG += "Generate test with beam=5: BLEU4 = 100.00, 100.0/100.0/100.0/100.0 (BP=1.000)\n"


def _score(folder: Path) -> None:
    from gamma_nlp.cli import main, score
    from gamma_nlp.tasks.translation.score_files import read_pairs

    files = sorted(folder.iterdir())
    if len(files) == 1:
        code = main.main(["score", "--fairseq-log", str(files[0])])
    else:
        pairs = read_pairs(*files[:2])  # raises what the command prints
        score.of_pairs(score.whole_words(pairs), language="en", tokenize="13a", lowercase=False)
        code = main.main(["score", *map(str, files[:2])])
    if code == 2:
        raise GammaError("refused by the command line")


def _score_files() -> tuple[dict[str, bytes], ...]:
    text = "".join(f"a dog sees {n} balls .\n" for n in range(5)).encode()
    return (
        {"generate.log": LOG.encode()},
        {"hyp.txt": text, "ref.txt": text},
        {"hyp.gz": gzip.compress(text), "ref.gz": gzip.compress(text)},
    )


SCORES = Kind(good=_score_files, read=_score, share=2)
