from __future__ import annotations

import torch
from torch import Tensor, nn

from gamma_nlp.gains.placement import categorize
from tests.support.pre_norm import Block


class Net(nn.Module):
    """Two blocks, a final norm or none, and an output layer that may share the embedding."""

    def __init__(self, *, final: bool = True, tied: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.blocks = nn.Sequential(Block(), Block())
        self.final = nn.LayerNorm(4) if final else nn.Identity()
        self.head = nn.Linear(4, 7, bias=False)
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.final(self.blocks(self.embed(ids))))


IDS = torch.tensor([[1, 2, 3]])
INSIDE = {f"blocks.{i}.{part}.weight" for i in (0, 1) for part in ("up", "down")}


def test_a_final_norm_follows_all_weights_but_the_output_layer() -> None:
    assert categorize(Net(), IDS).normalized == INSIDE


def test_without_a_final_norm_a_skip_leads_past_the_norms() -> None:
    # up and down of both blocks reach the output over the stream.
    assert categorize(Net(final=False), IDS).normalized == set()


def test_a_shared_output_layer_is_not_followed_by_a_norm() -> None:
    assert categorize(Net(tied=True), IDS).normalized == INSIDE


def test_post_norm_blocks_end_in_their_norm() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    model = nn.Sequential(nn.TransformerEncoder(layer, 2), nn.Linear(8, 3))
    found = categorize(model, torch.randn(2, 5, 8)).normalized
    assert found is not None
    weights = {n for n, p in model.named_parameters() if p.dim() == 2}
    assert found == weights - {"1.weight"}


class WithStates(Net):
    def forward(self, ids: Tensor) -> tuple[Tensor, list[Tensor]]:
        states = [self.embed(ids)]
        for block in self.blocks:
            states.append(block(states[-1]))
        return self.head(self.final(states[-1])), states


def test_states_returned_beside_the_result_change_nothing() -> None:
    assert categorize(WithStates(), IDS).normalized == INSIDE


def test_a_table_by_name_does_not_say() -> None:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        vocab_size=11,
    )  # fmt: skip
    assert categorize(BertModel(config)).normalized is None
