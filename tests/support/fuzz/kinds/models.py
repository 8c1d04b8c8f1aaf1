"""Configs of small models, for several kinds."""

from __future__ import annotations

SMALL = {"hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2, "vocab_size": 16,
         "num_hidden_layers": 2, "max_position_embeddings": 8}  # fmt: skip
BERT = {
    "model_type": "bert", "architectures": ["BertForSequenceClassification"], **SMALL,
    "layer_norm_eps": 1e-12, "hidden_act": "gelu", "dtype": "float32", "pad_token_id": 0,
    "id2label": {"0": "LABEL_0", "1": "LABEL_1"},
}  # fmt: skip
