"""All models of the corpus."""

from collections import Counter
from itertools import zip_longest

from benchmarks.data.real_graphs.diffusers_models import diffusers_models
from benchmarks.data.real_graphs.keras_models import keras_models
from benchmarks.data.real_graphs.model import RealModel
from benchmarks.data.real_graphs.sense_models import sense_models
from benchmarks.data.real_graphs.text_models import text_models
from benchmarks.data.real_graphs.timm_models import timm_models
from benchmarks.data.real_graphs.torchvision_models import torchvision_models


def models() -> tuple[RealModel, ...]:
    """The catalogue: a model of each family before any family's second, and sources in turn.

    However early somebody stops, all sources are there. Nothing is built, and no package is
    imported but torch.
    """
    sources = (
        text_models(),
        sense_models(),
        diffusers_models(),
        torchvision_models(),
        keras_models(),
        timm_models(),
    )
    in_turn = [model for row in zip_longest(*sources) for model in row if model is not None]
    seen: Counter[str] = Counter()
    ranks = []
    for model in in_turn:
        ranks.append(seen[model.family])
        seen[model.family] += 1
    order = sorted(range(len(in_turn)), key=ranks.__getitem__)
    return tuple(in_turn[index] for index in order)
