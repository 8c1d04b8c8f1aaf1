"""The kinds of input, one for each reader: good files to damage, and the way a user meets them."""

from __future__ import annotations

from collections.abc import Mapping

from tests.support.fuzz.kind import Kind
from tests.support.fuzz.kinds.answers import ANSWERS
from tests.support.fuzz.kinds.batches import BATCHES
from tests.support.fuzz.kinds.checkpoints import CHECKPOINTS, GAIN_TABLES
from tests.support.fuzz.kinds.compressed import COMPRESSED
from tests.support.fuzz.kinds.corpora import ARCHIVES, PARALLEL_TEXT
from tests.support.fuzz.kinds.fairseq_checkpoints import FAIRSEQ
from tests.support.fuzz.kinds.glue import GLUE_TABLES
from tests.support.fuzz.kinds.images import IMAGES
from tests.support.fuzz.kinds.items import ITEMS
from tests.support.fuzz.kinds.launch_words import LAUNCH_WORDS
from tests.support.fuzz.kinds.model_configs import MODEL_CONFIGS
from tests.support.fuzz.kinds.policies import POLICIES
from tests.support.fuzz.kinds.recipes import RECIPES, TRANSLATION
from tests.support.fuzz.kinds.scores import SCORES
from tests.support.fuzz.kinds.studies import LOOSE_RUNS, RESULTS, STUDIES
from tests.support.fuzz.kinds.translation_runs import TRANSLATION_RUNS

KINDS: Mapping[str, Kind] = {
    "policies": POLICIES,
    "recipes": RECIPES,
    "translation recipes": TRANSLATION,
    "studies": STUDIES,
    "glue": GLUE_TABLES,
    "parallel text": PARALLEL_TEXT,
    "gain tables": GAIN_TABLES,
    "results": RESULTS,
    "loose runs": LOOSE_RUNS,
    "checkpoints": CHECKPOINTS,
    "translation runs": TRANSLATION_RUNS,
    "model configs": MODEL_CONFIGS,
    "archives": ARCHIVES,
    "compressed files": COMPRESSED,
    "scores": SCORES,
    "answers": ANSWERS,
    "items": ITEMS,
    "batches": BATCHES,
    "images": IMAGES,
    "launch words": LAUNCH_WORDS,
    "fairseq checkpoints": FAIRSEQ,
}
