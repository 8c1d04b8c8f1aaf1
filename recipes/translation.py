"""Train a translation model with categorised weight decay of its normalisation gains.

    bash scripts/prepare_iwslt14 MULTI30K_FOLDER data/multi30k
    accelerate launch recipes/translation.py recipes/multi30k_de_en.yaml
    accelerate launch recipes/translation.py recipes/multi30k_de_en.yaml --decay_policy all --seed 2
    torchrun --nproc_per_node 2 recipes/translation.py recipes/iwslt14_de_en.yaml

The YAML file is the experiment; every key of it, and every other field of
Seq2SeqTrainingArguments, can be given on the command line, which wins. ``--help`` lists them. A run
writes its checkpoints, the mean of the last ones (``averaged/``), ``translations/`` of every test
set, ``gain_table.json``, ``results.json`` and ``training.png`` into its ``output_dir`` and never
into one that holds another run. ``gamma-nlp translate OUTPUT_DIR`` then translates text.
"""

from __future__ import annotations

import sys

from gamma_nlp.tasks.run.main import run
from gamma_nlp.tasks.translation.__main__ import main

if __name__ == "__main__":
    sys.exit(run(main, extra="recipes,translation"))
