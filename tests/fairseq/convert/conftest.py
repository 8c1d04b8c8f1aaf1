"""A small corpus for the tests of this folder, as fairseq-preprocess binarises it."""

from __future__ import annotations

import pytest

from gamma_nlp.fairseq import commands
from tests.support.fairseq_models import Corpus, binarised
from tests.support.fairseq_runs import quiet
from tests.support.translation_runs import prepared_corpus


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("convert")
    with quiet():
        commands.prepare("fairseq_cli.preprocess")
    return binarised(prepared_corpus(folder), folder)
