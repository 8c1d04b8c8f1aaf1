"""Draw where the gains of a post-norm, a pre-norm and a sandwich-norm model sit, side by side.

python scripts/stream_picture.py [FILE]; the default is scripts/stream.svg. It takes some seconds.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from transformers import BertConfig, BertModel, Gemma2Config, Gemma2Model, GPT2Config, GPT2Model

from gamma_nlp.draw.drawing import draw, save


def picture(path: Path) -> None:
    """Draw the picture: models of the sizes that their configs have by themselves, no weights."""
    with torch.device("meta"):
        models = {
            "post-norm (BERT)": BertModel(BertConfig(), add_pooling_layer=False),
            "pre-norm (GPT-2)": GPT2Model(GPT2Config()),
            "sandwich (Gemma 2)": Gemma2Model(Gemma2Config()),
        }
    save([draw(model).titled(title) for title, model in models.items()], path)


if __name__ == "__main__":
    picture(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("stream.svg"))
