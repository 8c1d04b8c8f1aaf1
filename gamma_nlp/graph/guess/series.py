"""Random time series: the past values that a forecaster reads."""

from __future__ import annotations

from typing import Any

import torch

from gamma_nlp.graph.guess.reader import Reader, random


def series_inputs(reader: Reader) -> dict[str, Any]:
    """Return past values, and the features and masks that go with them."""
    get = reader.get
    length = int(get("context_length", default=32))
    if reader.takes("past_time_features"):
        length += max(get("lags_sequence", default=[0]))
        size = int(get("input_size", default=1))
        shape = (1, length) if size == 1 else (1, length, size)
        horizon = int(get("prediction_length", default=4))
        features = int(get("num_time_features", default=0))
        found = {
            "past_values": random(*shape),
            "past_time_features": random(1, length, features),
            "past_observed_mask": torch.ones(shape),
            "future_values": random(1, horizon, *shape[2:]),
            "future_time_features": random(1, horizon, features),
        }
        if get("num_static_real_features"):
            found["static_real_features"] = random(1, int(get("num_static_real_features")))
        if get("num_static_categorical_features"):
            count = int(get("num_static_categorical_features"))
            found["static_categorical_features"] = torch.zeros(1, count, dtype=torch.long)
        return found
    channels = get("num_input_channels")
    if channels is not None:
        return {"past_values": random(1, length, int(channels))}
    found = {"past_values": random(1, length)}
    if reader.takes("past_values_padding"):
        found["past_values_padding"] = torch.zeros(1, length)
    if "freq" in reader.required:
        found["freq"] = torch.zeros(1, 1, dtype=torch.long)
    return found
