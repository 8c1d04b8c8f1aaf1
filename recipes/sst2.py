"""Fine-tune a model on a GLUE task with categorised weight decay of its normalisation gains.

    accelerate launch recipes/sst2.py recipes/sst2.yaml
    accelerate launch recipes/sst2.py recipes/sst2.yaml --decay_policy none --seed 1
    accelerate launch recipes/sst2.py recipes/sst2.yaml --task cola --data FOLDER --model FOLDER
    torchrun --nproc_per_node 2 recipes/sst2.py recipes/sst2.yaml

The YAML file is the experiment; every key of it, and every other field of TrainingArguments, can
be given on the command line, which wins. ``--help`` lists them. A run writes its checkpoints (the
best and the last), ``gain_table.json``, ``results.json`` and ``training.png`` into its
``output_dir`` and never into one that holds another run.
"""

from __future__ import annotations

import sys

from gamma_nlp.tasks.glue.__main__ import main
from gamma_nlp.tasks.run.main import run

if __name__ == "__main__":
    sys.exit(run(main))
