"""Command lines."""

from __future__ import annotations

from pathlib import Path

from gamma_nlp.errors import GammaError
from tests.support.fuzz.kind import Kind


def _launch(folder: Path) -> None:
    from gamma_nlp.cli import main
    from gamma_nlp.tasks.glue.arguments import read_arguments

    words = (folder / "argv").read_bytes().decode("utf-8", "surrogateescape").split("\n")
    words = [word.replace("\0", "") for word in words if word][:40]
    if words[:1] == ["recipe"]:
        read_arguments(words[1:])
    elif main.main(words) == 2:
        raise GammaError("refused by the command line")


def _launch_files() -> tuple[dict[str, bytes], ...]:
    lines = (
        "table no/model --method graph --dtype float32 --json", "audit x --json",
        "probe x --text a",
        "score a b --tokenize 13a", "score --fairseq-log x --detokenize en", "diagnose x --json",
        "translate x y -o z --beams 3 --length-penalty 1.0 --max-tokens 5 --threads 1",
        "prepare x y --languages de en --merges 10 --max-ratio 1.5 --valid-every 5",
        "report x --metric a --baseline none --smallest-difference 0.5", "draw x -o y.svg",
        "study x.yaml --set a=1", "recipe --task sst2 --data x --dose 0.1 --model y --seed 3",
        "recipe x.yaml --learning_rate 1e-3 --max_steps 4 --output_dir out --decay_policy none",
    )  # fmt: skip
    return tuple({"argv": line.replace(" ", "\n").encode()} for line in lines)


LAUNCH_WORDS = Kind(good=_launch_files, read=_launch, share=2)
