"""Examples that models of text, speech, images and several of these are traced with."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

Inputs = Callable[[int], Mapping[str, Any]]


def _tokens(batch: int, length: int) -> Tensor:
    return torch.ones(batch, length, dtype=torch.int64)


def text(length: int) -> Inputs:
    """One sequence of tokens."""
    return lambda batch: {"input_ids": _tokens(batch, length)}


def text_pair(source: int, target: int) -> Inputs:
    """A source to encode, and the target so far."""
    return lambda batch: {
        "input_ids": _tokens(batch, source),
        "decoder_input_ids": _tokens(batch, target),
    }


def image(side: int, key: str = "pixel_values", channels: int = 3) -> Inputs:
    """Square images."""
    return lambda batch: {key: torch.zeros(batch, channels, side, side)}


def frames(count: int, side: int) -> Inputs:
    """Clips of square frames."""
    return lambda batch: {"pixel_values": torch.zeros(batch, count, 3, side, side)}


def image_and_text(side: int, length: int, mask: bool = False) -> Inputs:
    """An image and its caption or question, or as many of each."""

    def examples(batch: int) -> Mapping[str, Any]:
        values = {
            "input_ids": _tokens(batch, length),
            "pixel_values": torch.zeros(batch, 3, side, side),
        }
        return {**values, "attention_mask": _tokens(batch, length)} if mask else values

    return examples


def sound(samples: int) -> Inputs:
    """A waveform; 16,000 samples are a second."""
    return lambda batch: {"input_values": torch.zeros(batch, samples)}


def spectrum(bins: int, frames_: int, target: int = 0, last: bool = False) -> Inputs:
    """A mel spectrum, its bins first or `last`, and the target so far where there is one."""

    def examples(batch: int) -> Mapping[str, Any]:
        shape = (batch, frames_, bins) if last else (batch, bins, frames_)
        values = {"input_features": torch.zeros(shape)}
        return {**values, "decoder_input_ids": _tokens(batch, target)} if target else values

    return examples


def series(past: int, future: int, lags: int, features: int) -> Inputs:
    """Values of one series with features of time, as forecasting models read them."""
    return lambda batch: {
        "past_values": torch.zeros(batch, past + lags),
        "past_time_features": torch.zeros(batch, past + lags, features),
        "past_observed_mask": torch.ones(batch, past + lags),
        "future_values": torch.zeros(batch, future),
        "future_time_features": torch.zeros(batch, future, features),
    }


def channels(past: int, count: int) -> Inputs:
    """Values of several series at once."""
    return lambda batch: {"past_values": torch.zeros(batch, past, count)}


def named(**shapes: tuple[int, ...]) -> Inputs:
    """Zeros of the given shapes behind the batch; names that end in `ids` hold tokens."""
    return lambda batch: {
        key: _tokens(batch, shape[0]) if key.endswith("ids") else torch.zeros(batch, *shape)
        for key, shape in shapes.items()
    }
