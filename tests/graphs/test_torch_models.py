"""The torch models that are exported compute what their names say, at their published sizes."""

import pytest
import torch

from benchmarks.data.torch_models.catalogue import MODELS
from benchmarks.data.torch_models.llama import rotated, rotation_tables
from benchmarks.data.torch_models.mamba import Mixer
from benchmarks.data.torch_models.moe import Experts
from benchmarks.data.torch_models.swin import joined, shift_mask, windows
from benchmarks.data.torch_models.t5 import position_buckets


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("gpt2", 124_439_808),
        ("llama-1b", 1_235_814_400),
        ("t5-base", 222_903_552),
        ("vit-b16", 86_567_656),
        ("swin-t", 28_288_354),
        ("mamba-130m", 129_135_360),
    ],
)
def test_parameters_are_the_published_ones(name: str, parameters: int) -> None:
    with torch.device("meta"):
        model = MODELS[name].build()
    assert sum(weight.numel() for weight in model.parameters()) == parameters


@pytest.mark.parametrize("name", sorted(MODELS))
def test_labels_fit_the_output(name: str) -> None:
    model = MODELS[name]
    with torch.device("meta"):
        output = model.build()(*model.inputs(model.batch))
        labels = model.labels(model.batch)
    assert labels.shape in (output.shape, output.shape[:-1])


def test_the_chunked_scan_is_the_recurrence() -> None:
    torch.manual_seed(0)
    mixer = Mixer(8, 16, state=4, rank=1, kernel=4, chunk=8).double()
    x, step = torch.randn(2, 24, 16).double(), torch.rand(2, 24, 16).double()
    enter, leave = torch.randn(2, 24, 4).double(), torch.randn(2, 24, 4).double()
    decay = -mixer.decay_log.exp()
    state = torch.zeros(2, 16, 4).double()
    expected = []
    for t in range(24):
        fresh = (x[:, t] * step[:, t])[..., None] * enter[:, t, None]
        state = (step[:, t, :, None] * decay).exp() * state + fresh
        expected.append((state * leave[:, t, None]).sum(-1))
    torch.testing.assert_close(mixer.scan(x, step, enter, leave), torch.stack(expected, 1))


def test_experts_with_room_for_all_give_the_weighted_sum() -> None:
    torch.manual_seed(0)
    layer = Experts(8, 16, count=4, chosen=2, capacity=10)
    x = torch.randn(2, 5, 8)
    tokens = x.flatten(0, 1)
    best, index = layer.router(tokens).topk(2, dim=-1)
    expected = torch.zeros_like(tokens)
    for row, (weights, experts) in enumerate(zip(best.softmax(-1), index, strict=True)):
        for weight, expert in zip(weights, experts, strict=True):
            expected[row] += weight * layer.experts[int(expert)](tokens[row])
    torch.testing.assert_close(layer(x), expected.view_as(x))


def test_rotation_makes_scores_depend_on_distance_only() -> None:
    torch.manual_seed(0)
    cosines, sines = rotation_tables(16, 8, 10_000.0)
    query, key = torch.randn(8).expand(1, 1, 16, 8), torch.randn(8).expand(1, 1, 16, 8)
    scores = rotated(query, cosines, sines) @ rotated(key, cosines, sines).transpose(-1, -2)
    torch.testing.assert_close(scores[0, 0, 3, 1], scores[0, 0, 12, 10])
    assert not torch.isclose(scores[0, 0, 3, 1], scores[0, 0, 3, 2])


def test_windows_come_apart_and_together() -> None:
    x = torch.randn(2, 14, 14, 3)
    parts = windows(x)
    assert parts.shape == (2 * 4, 49, 3)
    torch.testing.assert_close(joined(parts, 2, 14), x)
    # Only windows at the far borders mix regions that the shift brought together.
    assert [bool(mask.any()) for mask in shift_mask(14, 3)] == [False, True, True, True]


def test_position_buckets_are_exact_when_near() -> None:
    causal = position_buckets(200, 200, both_ways=False)
    assert causal[10, :11].tolist() == list(range(10, -1, -1))
    assert causal[199, 0] == 31
    assert causal[0, 1:].max() == 0
    both = position_buckets(200, 200, both_ways=True)
    assert both[5, 4] == 1
    assert both[4, 5] == 17
    assert both.max() == 31
