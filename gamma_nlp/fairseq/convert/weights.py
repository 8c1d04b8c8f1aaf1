"""Map the weights of fairseq's ``transformer`` to those of Marian or Pegasus, and back.

Marian is the same Transformer in post-norm, Pegasus in pre-norm. Layers, attention and norms have
the same names and shapes in both libraries, up to a prefix. Three things differ:

* The order of the vocabulary: fairseq begins with ``<s> <pad> </s> <unk>``, this library with
  ``<pad> </s> <unk>``. Rows of the embedding tables are reordered by their tokens.
* Positions: fairseq's sinusoids have other frequencies and start after the padding's index, so the
  first token has position 2. transformers' models get them as a table.
* The name of the output layer: ``decoder.output_projection`` or ``lm_head``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch

from gamma_nlp.tasks.translation.text import PAD

Weights = dict[str, torch.Tensor]

START = "<s>"
"""fairseq's first token. No sentence begins with it: the decoder starts with ``</s>``."""

PAD_INDEX = 1
"""Index of the padding in fairseq; the first token has the next position but one."""

_SIDES = ("encoder", "decoder")
_POSITIONS = "embed_positions"
_EMBEDDING = "embed_tokens.weight"
_OUTPUT = ("decoder.output_projection.weight", "lm_head.weight")


def rows(wanted: Sequence[str], present: Mapping[str, int]) -> torch.Tensor:
    """Return the row of each wanted token in a table with the vocabulary ``present``.

    Only ``<s>`` may be missing. It gets the row of the padding, which is never a target either, so
    training has made it as unlikely as a token can be.

    Args:
        wanted: Tokens in the order of the new table.
        present: Index of each token in the old table.

    Raises:
        KeyError: Another token is missing.
    """
    found = [present[PAD if t == START and t not in present else t] for t in wanted]
    return torch.tensor(found)


def to_transformers(
    state: Mapping[str, torch.Tensor],
    order: Mapping[str, torch.Tensor],
    positions: Mapping[str, torch.Tensor],
) -> Weights:
    """Return weights for Marian or Pegasus, without the ``model.shared.weight`` that some have.

    Args:
        state: ``state_dict`` of fairseq's model.
        order: :func:`rows` for ``encoder`` and ``decoder``.
        positions: Position table of shape (positions, width) for ``encoder`` and ``decoder``; row
            0 belongs to the first token.
    """
    weights: Weights = {}
    for name, tensor in _learned(state):
        if name == _OUTPUT[0]:
            weights[_OUTPUT[1]] = tensor[order["decoder"]]
        elif name.endswith(_EMBEDDING):
            weights[f"model.{name}"] = tensor[order[name.partition(".")[0]]]
        else:
            weights[f"model.{name}"] = tensor
    for side in _SIDES:
        weights[f"model.{side}.{_POSITIONS}.weight"] = positions[side]
    weights["final_logits_bias"] = torch.zeros(1, len(weights[_OUTPUT[1]]))
    return weights


def to_fairseq(
    state: Mapping[str, torch.Tensor],
    order: Mapping[str, torch.Tensor],
    positions: Mapping[str, torch.Tensor] | None,
) -> Weights:
    """Return weights for fairseq's ``transformer``, without its buffers.

    Args:
        state: ``state_dict`` of Marian or Pegasus; its ``final_logits_bias`` must be zero.
        order: :func:`rows` for ``encoder`` and ``decoder``.
        positions: Learned positions, as for :func:`to_transformers`; ``None`` if fairseq computes
            them.
    """
    weights: Weights = {}
    for name, tensor in state.items():
        plain = name.removeprefix("model.")
        if name == _OUTPUT[1]:
            weights[_OUTPUT[0]] = tensor[order["decoder"]]
        elif plain.endswith(_EMBEDDING):
            weights[plain] = tensor[order[plain.partition(".")[0]]]
        elif plain.partition(".")[0] in _SIDES and _POSITIONS not in plain:
            weights[plain] = tensor
    for side, table in (positions or {}).items():
        unused = table.new_zeros(PAD_INDEX + 1, table.shape[1])
        weights[f"{side}.{_POSITIONS}.weight"] = torch.cat([unused, table])
    return weights


def _learned(state: Mapping[str, torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
    for name, tensor in state.items():
        _, _, rest = name.partition(".")
        if rest != "version" and not rest.startswith(_POSITIONS):
            yield name, tensor


def stored_positions(table: torch.Tensor, count: int) -> torch.Tensor:
    """Return the rows of fairseq's position table for the first ``count`` tokens."""
    return table[PAD_INDEX + 1 : PAD_INDEX + 1 + count]


def sinusoids(count: int, width: int) -> torch.Tensor:
    """Return the positions fairseq computes for the first ``count`` tokens: (count, width)."""
    from fairseq.modules import SinusoidalPositionalEmbedding

    whole: torch.Tensor = SinusoidalPositionalEmbedding.get_embedding(
        count + PAD_INDEX + 1, width, PAD_INDEX
    )
    return stored_positions(whole, count)
