"""A labelled corpus made by a grammar: short opinions with negation, contrast and distractors.

It needs no download, and it is hard enough to tell models apart: counting good and bad words is
not enough, because negation reverses them, the clause after *but* outweighs the one
before, the opinion of others does not count, and some words praise one thing and damn another.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable
from pathlib import Path

NEGATIVE, POSITIVE = 0, 1


def _words(text: str) -> list[str]:
    return text.split()


_GOOD = _words("""
brilliant charming clever compelling confident crisp delightful elegant engaging exquisite
fine fresh funny generous gorgeous gripping heartfelt honest inspired intelligent inventive
lively lovely luminous masterful memorable moving nimble original playful poignant polished
powerful precise radiant refreshing resonant rich satisfying sharp sincere skilful spirited
splendid stirring stylish superb tender thoughtful thrilling touching vivid warm witty wonderful
""")
_BAD = _words("""
amateurish awkward banal bland bloated boring careless cheap clumsy confused contrived crude
derivative dismal disjointed dreary dull empty erratic feeble flat forced forgettable hollow
inept insipid joyless laboured lazy leaden lifeless limp mawkish messy muddled murky pointless
predictable pretentious ragged repetitive ridiculous shallow shoddy silly sloppy stale stilted
stupid tedious tiresome trite uninspired vapid wooden
""")
# The same word is praise for one thing and blame for another.
_FICKLE = {
    "unpredictable": ("plot", "camera"),
    "quiet": ("score", "villain"),
    "slow": ("romance", "thriller"),
    "cold": ("villain", "romance"),
    "small": ("budget", "story"),
    "dark": ("humour", "picture"),
    "long": ("dance", "speech"),
    "light": ("comedy", "drama"),
}
_THINGS = _words("""
acting camera cast comedy dance debut dialogue direction drama editing ending film humour music
opening performance photography picture plot premise romance scene score screenplay script
sequel setting soundtrack staging story thriller villain
""")
_OTHERS = ("critics", "my friends", "the posters", "the audience", "the reviewers", "some people")
_CLAIMS = ("say", "think", "insist", "promise", "claim")
_ADVERBS = ("very", "truly", "deeply", "quite", "oddly", "surprisingly", "almost", "rather")
_NOTHING = (
    "it runs for two hours", "it was shot in one winter", "i saw it on a rainy sunday",
    "it is set in a small town", "the director is from the north", "there are three songs",
    "it is the second part", "we sat in the last row", "the tickets were sold out",
)  # fmt: skip
_PLEASED = ("i loved", "i enjoyed", "i would see again", "you should not miss", "i admired")
_ANNOYED = ("i hated", "i could not stand", "i slept through", "you can skip", "i regret")


def opinions(count: int, *, seed: int = 0, noise: float = 0.02) -> list[tuple[str, int]]:
    """Make labelled sentences.

    Args:
        count: How many.
        seed: The same seed gives the same sentences, on every machine.
        noise: Share of labels that are flipped, as if by a careless annotator.

    Returns:
        (sentence, label) pairs, label 1 for a positive opinion, in random order; both labels are
        equally likely, and no sentence occurs twice.

    Example:
        >>> opinions(1, seed=1)[0][1] in (0, 1)
        True
    """
    rng = random.Random(f"gamma_nlp opinions {seed}")
    seen: set[str] = set()
    made: list[tuple[str, int]] = []
    while len(made) < count:
        label = rng.randrange(2)
        sentence = _sentence(rng, label)
        if sentence not in seen:
            seen.add(sentence)
            made.append((sentence, 1 - label if rng.random() < noise else label))
    return made


def write_sst2(
    folder: str | os.PathLike[str], *, train: int = 4000, dev: int = 1000, seed: int = 0
) -> Path:
    """Write a corpus as SST-2's official files, ``train.tsv`` and ``dev.tsv``.

    No dev sentence is in the training file; dev labels carry no noise.

    Returns:
        The folder, for :func:`gamma_nlp.tasks.glue.data.load_glue`.
    """
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    training = opinions(train, seed=seed)
    known = {sentence for sentence, _ in training}
    fresh = opinions(2 * dev, seed=seed + 10_000, noise=0.0)
    unseen = [pair for pair in fresh if pair[0] not in known][:dev]
    for name, rows in (("train.tsv", training), ("dev.tsv", unseen)):
        (path / name).write_text(_tsv(rows), encoding="utf-8")
    return path


def _tsv(rows: Iterable[tuple[str, int]]) -> str:
    return "sentence\tlabel\n" + "".join(f"{sentence}\t{label}\n" for sentence, label in rows)


def _sentence(rng: random.Random, label: int) -> str:
    shape = rng.choices(
        (_plain, _contrast, _distracted, _hearsay, _verdict, _neither), (6, 4, 4, 1, 4, 1)
    )[0]
    return shape(rng, label)


def _plain(rng: random.Random, label: int) -> str:
    return f"{_judgement(rng, label)} ."


def _contrast(rng: random.Random, label: int) -> str:
    this, other = _judgement(rng, label), _judgement(rng, 1 - label)
    return rng.choice(
        (
            f"{other} , but {this} .",
            f"although {other} , {this} .",
            f"{this} , even though {other} .",
            f"{other} ; still , {this} .",
        )
    )


def _distracted(rng: random.Random, label: int) -> str:
    parts = [_judgement(rng, label), rng.choice(_NOTHING)]
    rng.shuffle(parts)
    return f"{parts[0]} and {parts[1]} ."


def _hearsay(rng: random.Random, label: int) -> str:
    claim = f"{rng.choice(_OTHERS)} {rng.choice(_CLAIMS)} that {_judgement(rng, 1 - label)}"
    return rng.choice((f"{claim} , but {_judgement(rng, label)} .", f"{claim} ; they are wrong ."))


def _verdict(rng: random.Random, label: int) -> str:
    verb = rng.choice(_PLEASED if label == POSITIVE else _ANNOYED)
    word = rng.choice(_word_list(label if rng.random() < 0.5 else 1 - label))
    if rng.random() < 0.5:
        return f"{verb} every minute of the {rng.choice(_THINGS)} ."
    return f"{verb} this {word} {rng.choice(_THINGS)} ."


def _neither(rng: random.Random, label: int) -> str:
    one, two = rng.sample(_word_list(1 - label), 2)
    return f"the {rng.choice(_THINGS)} is neither {one} nor {two} ."


def _judgement(rng: random.Random, label: int) -> str:
    if rng.random() < 0.08:
        word, (praised, blamed) = rng.choice(sorted(_FICKLE.items()))
        return f"the {praised if label == POSITIVE else blamed} is {word}"
    thing, adverb = rng.choice(_THINGS), rng.choice(_ADVERBS)
    if rng.random() < 0.2:
        word = rng.choice(_word_list(1 - label))
        denial = rng.choice(("is not", "is never", "is hardly", "is anything but", "is far from"))
        return f"the {thing} {denial} {word}"
    word = rng.choice(_word_list(label))
    return rng.choice((f"the {thing} is {word}", f"the {thing} is {adverb} {word}"))


def _word_list(label: int) -> list[str]:
    return _GOOD if label == POSITIVE else _BAD
