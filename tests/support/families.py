"""Small models of the supported families, built from a config alone: no network, no weights.

Every entry of `FAMILIES` has a file of the same name in ``tests/golden`` with the category of
each of its gains. Sizes are as small as the architecture allows; every other config field keeps
the architecture's default, unless the entry exists to cover another value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

_LENGTH = 8  # tokens a row
_VOCAB = 64


@dataclass(frozen=True, kw_only=True)
class Family:
    """One small model: how to build it and what to feed it.

    `model` and `config` are class names in transformers, `fields` the config's arguments.
    `decoder_ids` says that the forward needs ``decoder_input_ids`` too.
    """

    name: str
    model: str
    config: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    decoder_ids: bool = False

    def build(self) -> nn.Module:
        """The model in eval mode, with the same weights at every call."""
        import transformers

        config = getattr(transformers, self.config)(**self.fields)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return getattr(transformers, self.model)(config).eval()

    def inputs(self) -> dict[str, torch.Tensor]:
        """Keyword arguments of one forward pass: random ids of shape (1, 8).

        The row holds no pad token and ends with the only end-of-sequence token, which BART's
        classifier reads its sentence from.
        """
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(5, _VOCAB - 2, (1, _LENGTH), generator=generator)
        eos = self.fields.get("eos_token_id")
        if eos is not None:
            ids[:, -1] = eos
        if not self.decoder_ids:
            return {"input_ids": ids}
        return {
            "input_ids": ids,
            "decoder_input_ids": torch.randint(5, _VOCAB - 2, (1, _LENGTH), generator=generator),
        }


_BERT = {
    "vocab_size": _VOCAB,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 32,
}
_ROBERTA = {**_BERT, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
_DEBERTA = {**_BERT}
# The fields in which the published v3 checkpoints differ from the class defaults.
_DEBERTA_V3 = {
    **_BERT,
    "relative_attention": True,
    "position_buckets": 8,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": "p2c|c2p",
    "position_biased_input": False,
}
_ALBERT = {**_BERT, "embedding_size": 16}
_ELECTRA = {**_BERT, "embedding_size": 16}
_MODERNBERT = {
    **_BERT,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "cls_token_id": 1,
    "sep_token_id": 2,
}
_DISTILBERT = {
    "vocab_size": _VOCAB,
    "dim": 32,
    "n_layers": 3,
    "n_heads": 4,
    "hidden_dim": 48,
    "max_position_embeddings": 32,
}
_SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_GPT2 = {
    "vocab_size": _VOCAB,
    "n_embd": 32,
    "n_layer": 3,
    "n_head": 4,
    "n_positions": 32,
    **_SPECIAL,
}
_NEOX = {**_BERT, **_SPECIAL}
_OPT = {
    "vocab_size": _VOCAB,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "ffn_dim": 48,
    "max_position_embeddings": 32,
    "pad_token_id": 1,
    "bos_token_id": 2,
    "eos_token_id": 2,
}
_LLAMA = {**_BERT, "num_key_value_heads": 2, **_SPECIAL}
_HEAD_DIM = {**_LLAMA, "head_dim": 8}
_T5 = {
    "vocab_size": _VOCAB,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 3,
    "num_decoder_layers": 3,
    "num_heads": 4,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "decoder_start_token_id": 0,
}
_BART = {
    "vocab_size": _VOCAB,
    "d_model": 32,
    "encoder_layers": 3,
    "decoder_layers": 3,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 32,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "forced_eos_token_id": None,
    "decoder_start_token_id": 2,
}
_MARIAN = {
    **_BART,
    "pad_token_id": _VOCAB - 1,
    "bos_token_id": None,
    "eos_token_id": 0,
    "decoder_start_token_id": _VOCAB - 1,
}
_PEGASUS = {
    **_BART,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 1,
    "decoder_start_token_id": 0,
}
_M2M = {key: value for key, value in _BART.items() if key != "forced_eos_token_id"}


def _family(name: str, model: str, config: str, fields: Mapping[str, Any]) -> Family:
    return Family(name=name, model=model, config=config, fields=fields)


def _seq2seq(name: str, model: str, config: str, fields: Mapping[str, Any]) -> Family:
    return Family(name=name, model=model, config=config, fields=fields, decoder_ids=True)


_ENTRIES = (
    _family("bert", "BertModel", "BertConfig", _BERT),
    _family("bert_mlm", "BertForMaskedLM", "BertConfig", _BERT),
    _family("bert_cls", "BertForSequenceClassification", "BertConfig", _BERT),
    _family("roberta_mlm", "RobertaForMaskedLM", "RobertaConfig", _ROBERTA),
    _family("roberta_cls", "RobertaForSequenceClassification", "RobertaConfig", _ROBERTA),
    _family("xlm_roberta_mlm", "XLMRobertaForMaskedLM", "XLMRobertaConfig", _ROBERTA),
    _family("xlm_roberta_cls", "XLMRobertaForSequenceClassification", "XLMRobertaConfig", _ROBERTA),
    _family("distilbert_mlm", "DistilBertForMaskedLM", "DistilBertConfig", _DISTILBERT),
    _family(
        "distilbert_cls", "DistilBertForSequenceClassification", "DistilBertConfig", _DISTILBERT
    ),
    _family("electra_pretraining", "ElectraForPreTraining", "ElectraConfig", _ELECTRA),
    _family("electra_mlm", "ElectraForMaskedLM", "ElectraConfig", _ELECTRA),
    _family("electra_cls", "ElectraForSequenceClassification", "ElectraConfig", _ELECTRA),
    _family("albert_mlm", "AlbertForMaskedLM", "AlbertConfig", _ALBERT),
    _family("albert_cls", "AlbertForSequenceClassification", "AlbertConfig", _ALBERT),
    # Layers 0 and 1 share group 0; group 1 is the last layer alone.
    _family("albert_groups", "AlbertModel", "AlbertConfig", {**_ALBERT, "num_hidden_groups": 2}),
    _family("deberta_v2_mlm", "DebertaV2ForMaskedLM", "DebertaV2Config", _DEBERTA),
    _family(
        "deberta_v3_mlm",
        "DebertaV2ForMaskedLM",
        "DebertaV2Config",
        {**_DEBERTA_V3, "legacy": False},
    ),
    _family("deberta_v3_cls", "DebertaV2ForSequenceClassification", "DebertaV2Config", _DEBERTA_V3),
    _family(
        "deberta_v2_conv",
        "DebertaV2ForSequenceClassification",
        "DebertaV2Config",
        {**_DEBERTA_V3, "conv_kernel_size": 3, "conv_act": "gelu"},
    ),
    _family("modernbert_mlm", "ModernBertForMaskedLM", "ModernBertConfig", _MODERNBERT),
    _family(
        "modernbert_cls", "ModernBertForSequenceClassification", "ModernBertConfig", _MODERNBERT
    ),
    _family("gpt2", "GPT2LMHeadModel", "GPT2Config", _GPT2),
    _family("gpt2_cls", "GPT2ForSequenceClassification", "GPT2Config", _GPT2),
    _family("gptj", "GPTJForCausalLM", "GPTJConfig", {**_GPT2, "rotary_dim": 4}),
    _family("gpt_neox", "GPTNeoXForCausalLM", "GPTNeoXConfig", _NEOX),
    _family(
        "gpt_neox_sequential",
        "GPTNeoXForCausalLM",
        "GPTNeoXConfig",
        {**_NEOX, "use_parallel_residual": False},
    ),
    _family("opt", "OPTForCausalLM", "OPTConfig", _OPT),
    _family("opt_projected", "OPTForCausalLM", "OPTConfig", {**_OPT, "word_embed_proj_dim": 16}),
    _family(
        "opt_post_norm", "OPTForCausalLM", "OPTConfig", {**_OPT, "do_layer_norm_before": False}
    ),
    # The combination of opt-350m.
    _family(
        "opt_post_norm_projected",
        "OPTForSequenceClassification",
        "OPTConfig",
        {**_OPT, "do_layer_norm_before": False, "word_embed_proj_dim": 16},
    ),
    _family("llama", "LlamaForCausalLM", "LlamaConfig", _LLAMA),
    _family("llama_cls", "LlamaForSequenceClassification", "LlamaConfig", _LLAMA),
    _family("mistral", "MistralForCausalLM", "MistralConfig", _LLAMA),
    _family("mixtral", "MixtralForCausalLM", "MixtralConfig", {**_LLAMA, "num_local_experts": 4}),
    _family("qwen2", "Qwen2ForCausalLM", "Qwen2Config", _LLAMA),
    _family("qwen3", "Qwen3ForCausalLM", "Qwen3Config", _HEAD_DIM),
    _family("gemma", "GemmaForCausalLM", "GemmaConfig", _HEAD_DIM),
    _family("gemma2", "Gemma2ForCausalLM", "Gemma2Config", _HEAD_DIM),
    _family("gemma3", "Gemma3ForCausalLM", "Gemma3TextConfig", _HEAD_DIM),
    _family("olmo2", "Olmo2ForCausalLM", "Olmo2Config", _LLAMA),
    _family("phi3", "Phi3ForCausalLM", "Phi3Config", _LLAMA),
    _seq2seq("t5", "T5ForConditionalGeneration", "T5Config", _T5),
    _seq2seq(
        "t5_gated",
        "T5ForConditionalGeneration",
        "T5Config",
        {**_T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    ),
    _family("t5_encoder", "T5EncoderModel", "T5Config", _T5),
    _seq2seq("bart", "BartForConditionalGeneration", "BartConfig", _BART),
    _family("bart_cls", "BartForSequenceClassification", "BartConfig", _BART),
    _seq2seq("mbart", "MBartForConditionalGeneration", "MBartConfig", _BART),
    _seq2seq("marian", "MarianMTModel", "MarianConfig", _MARIAN),
    _seq2seq("pegasus", "PegasusForConditionalGeneration", "PegasusConfig", _PEGASUS),
    _seq2seq("m2m_100", "M2M100ForConditionalGeneration", "M2M100Config", _M2M),
)

FAMILIES: dict[str, Family] = {entry.name: entry for entry in _ENTRIES}
