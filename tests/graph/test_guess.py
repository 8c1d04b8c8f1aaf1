"""Models of transformers need no inputs: images, audio, series and several at once are made up."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as hf
from torch import nn

from gamma_nlp import GammaError, categorize
from gamma_nlp.graph.inputs import random_inputs

SMALL: dict[str, Any] = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
}  # fmt: skip
TEXT: dict[str, Any] = {**SMALL, "num_key_value_heads": 2, "vocab_size": 60}
PICTURES: dict[str, Any] = {**SMALL, "image_size": 12, "patch_size": 4}


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    found = random_inputs(model)
    return {name: tuple(value.shape) for name, value in found.items() if torch.is_tensor(value)}


def placed(model: nn.Module) -> int:
    """How many gains have a category, when every gain of the model has one."""
    table = categorize(model, method="graph")
    assert not [gain.name for gain in table if gain.category is None]
    return len(table)


def llava(**fields: Any) -> nn.Module:
    vision = hf.CLIPVisionConfig(**PICTURES)
    text = hf.LlamaConfig(**TEXT)
    config = hf.LlavaConfig(vision_config=vision, text_config=text, **fields)
    return hf.LlavaForConditionalGeneration(config)


# One kind of input --------------------------------------------------------------------------------


def test_picture_has_the_size_and_the_channels_of_the_config() -> None:
    model = hf.ViTModel(hf.ViTConfig(**PICTURES, num_channels=1), add_pooling_layer=False)
    assert shapes(model) == {"pixel_values": (1, 1, 12, 12)}
    assert placed(model) == 5


def test_picture_of_two_sizes_keeps_both() -> None:
    config = hf.YolosConfig(**{**PICTURES, "image_size": [8, 16]}, num_detection_tokens=3)
    assert shapes(hf.YolosModel(config)) == {"pixel_values": (1, 3, 8, 16)}


def test_network_without_a_size_gets_enough_pixels_for_its_last_stage() -> None:
    config = hf.ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1])
    assert placed(hf.ResNetModel(config)) > 8


def test_video_has_as_many_frames_as_the_config_says() -> None:
    model = hf.VideoMAEModel(hf.VideoMAEConfig(**PICTURES, num_frames=4, tubelet_size=2))
    assert shapes(model) == {"pixel_values": (1, 4, 3, 12, 12)}
    assert placed(model) == 4  # pools without a last norm


def test_waveform_is_long_enough_for_the_strides_of_its_encoder() -> None:
    config = hf.Wav2Vec2Config(**SMALL, conv_dim=(8, 8), conv_stride=(5, 4), conv_kernel=(6, 4),
                               num_feat_extract_layers=2, num_conv_pos_embeddings=4,
                               num_conv_pos_embedding_groups=2)  # fmt: skip
    assert shapes(hf.Wav2Vec2Model(config)) == {"input_values": (1, 64 * 20)}


@pytest.mark.parametrize(("positions", "frames"), [(10, 20), (7, 14)])
def test_spectrogram_fills_the_positions_of_its_encoder(positions: int, frames: int) -> None:
    config = hf.WhisperConfig(d_model=16, encoder_layers=1, decoder_layers=1, num_mel_bins=6,
                              encoder_attention_heads=2, decoder_attention_heads=2, vocab_size=60,
                              max_source_positions=positions, pad_token_id=0, bos_token_id=1,
                              eos_token_id=2, decoder_start_token_id=3)  # fmt: skip
    model = hf.WhisperForConditionalGeneration(config)
    assert shapes(model) == {"input_features": (1, 6, frames), "decoder_input_ids": (1, 8)}
    assert placed(model) == 7


def test_picture_of_a_spectrogram_is_frames_by_bins() -> None:
    config = hf.ASTConfig(**SMALL, patch_size=4, max_length=20, num_mel_bins=8)
    assert shapes(hf.ASTModel(config)) == {"input_values": (1, 20, 8)}


def test_series_begins_with_the_lags_before_the_context() -> None:
    config = hf.TimeSeriesTransformerConfig(
        prediction_length=3, context_length=5, lags_sequence=[1, 4], num_time_features=2,
        d_model=16, encoder_layers=1, decoder_layers=1,
    )  # fmt: skip
    found = shapes(hf.TimeSeriesTransformerModel(config))
    assert found["past_values"] == (1, 9) and found["past_time_features"] == (1, 9, 2)
    assert found["future_values"] == (1, 3)


def test_series_of_several_channels_are_read_beside_each_other() -> None:
    config = hf.PatchTSTConfig(
        context_length=16, num_input_channels=3, patch_length=4, patch_stride=4, d_model=16,
        num_hidden_layers=1, num_attention_heads=2,
    )  # fmt: skip
    assert shapes(hf.PatchTSTModel(config)) == {"past_values": (1, 16, 3)}


# Several kinds ------------------------------------------------------------------------------------


def test_text_holds_as_many_image_tokens_as_the_tower_gives_vectors() -> None:
    model = llava(image_token_id=50)
    ids = random_inputs(model)["input_ids"]
    assert int((ids == 50).sum()) == 9  # (12 / 4) ** 2: the class token is left out
    assert placed(model) == 11


def test_text_holds_as_many_video_tokens_as_the_tower_of_videos_gives_vectors() -> None:
    qformer = {**SMALL, "vocab_size": 60, "encoder_hidden_size": 16}
    config = hf.InstructBlipVideoConfig(
        vision_config=PICTURES, qformer_config=qformer, num_query_tokens=3, video_token_index=50,
        text_config={**SMALL, "model_type": "llama", "vocab_size": 60},
    )  # fmt: skip
    found = random_inputs(hf.InstructBlipVideoForConditionalGeneration(config))
    assert int((found["input_ids"] == 50).sum()) == 3 * found["pixel_values"].shape[1]


def test_text_and_picture_that_are_compared_are_both_read() -> None:
    text = {**SMALL, "vocab_size": 60, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    config = hf.CLIPConfig(text_config=text, vision_config=PICTURES, projection_dim=8)
    assert shapes(hf.CLIPModel(config)) == {"input_ids": (1, 8), "pixel_values": (1, 3, 12, 12)}


def test_tower_in_training_mode_leaves_no_trace() -> None:
    model = llava(image_token_id=50).train()
    model.model.vision_tower.eval()
    modes = [module.training for module in model.modules()]
    state = torch.get_rng_state()
    first = random_inputs(model)
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    second = random_inputs(model)
    assert all(torch.equal(first[n], second[n]) for n in first if torch.is_tensor(first[n]))


def test_model_without_values_reads_text_alone_where_it_can() -> None:
    with torch.device("meta"):
        model = llava(image_token_id=50)
    assert set(shapes(model)) == {"input_ids"}


# What cannot be made up ---------------------------------------------------------------------------


def test_config_that_its_model_contradicts_is_answered_with_what_forward_takes() -> None:
    model = hf.ViTModel(hf.ViTConfig(**PICTURES))
    model.config.image_size = 16
    with pytest.raises(GammaError) as error:
        categorize(model)
    message = str(error.value)
    assert "It was given pixel_values float32 (1, 3, 16, 16)" in message
    call = "categorize(model, inputs={'pixel_values': pixel_values})"
    assert f"{call} with pixel_values (batch_size, num_channels" in message
    assert "torch.rand" not in message  # the call that has just failed


def test_arguments_of_unknown_meaning_are_asked_for() -> None:
    class Odd(hf.ViTModel):  # type: ignore[misc]
        main_input_name = "sparks"

        def forward(self, sparks: torch.Tensor) -> torch.Tensor:
            """Forward."""
            return sparks

    with pytest.raises(GammaError, match=r"categorize\(model, inputs=\{'sparks': sparks\}\)"):
        categorize(Odd(hf.ViTConfig(**PICTURES)))


def test_model_that_only_holds_others_names_its_parts() -> None:
    class Pair(hf.PreTrainedModel):  # type: ignore[misc]
        config_class = hf.ViTConfig

        def __init__(self, config: hf.ViTConfig) -> None:
            super().__init__(config)
            self.left, self.right = hf.ViTModel(config), hf.ViTModel(config)

    with pytest.raises(GammaError, match=r"no forward pass of its own.*categorize\(model.right\)"):
        categorize(Pair(hf.ViTConfig(**PICTURES)))


def test_model_that_reads_a_session_says_how_to_make_one_and_names_its_parts() -> None:
    class Tracker(hf.PreTrainedModel):  # type: ignore[misc]
        config_class = hf.ViTConfig

        def __init__(self, config: hf.ViTConfig) -> None:
            super().__init__(config)
            self.vision_encoder = hf.ViTModel(config)

        def forward(self, inference_session: Any, frame_idx: int | None = None) -> Any:
            """Forward."""
            return self.vision_encoder(inference_session.frames[frame_idx])

    model = Tracker(hf.ViTConfig(**PICTURES))
    with pytest.raises(GammaError) as error:
        categorize(model)
    call = "categorize(model, inputs={'inference_session': inference_session, 'frame_idx': 0})"
    assert call in str(error.value)
    assert "processor.init_video_session(video=frames)" in str(error.value)
    assert "categorize(model.vision_encoder)" in str(error.value)


def test_frames_as_wide_as_the_model_take_the_place_of_its_tokens() -> None:
    config = hf.Pop2PianoConfig(
        d_model=16, d_ff=16, d_kv=8, num_layers=1, num_heads=2, vocab_size=60, use_cache=False
    )
    found = shapes(hf.Pop2PianoForConditionalGeneration(config))
    assert "input_ids" not in found
    assert found["input_features"][-1] == 16


class Decides(hf.BertPreTrainedModel):
    """A text model around another, which sets the switch of its cache itself."""

    def __init__(self, config: hf.BertConfig) -> None:
        super().__init__(config)
        self.model = hf.BertModel(config, add_pooling_layer=False)

    def forward(self, input_ids: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        return self.model(input_ids=input_ids, use_cache=False, **kwargs).last_hidden_state


def test_model_that_sets_the_switch_of_a_cache_itself_is_not_given_it() -> None:
    config = hf.BertConfig(
        vocab_size=16, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=8, is_decoder=True,
    )  # fmt: skip
    model = Decides(config)
    assert "use_cache" not in random_inputs(model)
    assert "use_cache" in random_inputs(hf.BertModel(config))
    assert len(categorize(model, method="graph")) == 3
