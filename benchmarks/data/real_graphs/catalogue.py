"""All models of the corpus."""

from collections import Counter

from benchmarks.data.real_graphs.diffusers_models import diffusers_models
from benchmarks.data.real_graphs.model import RealModel
from benchmarks.data.real_graphs.sense_models import sense_models
from benchmarks.data.real_graphs.text_models import text_models
from benchmarks.data.real_graphs.timm_models import timm_models
from benchmarks.data.real_graphs.torchvision_models import torchvision_models


def models() -> tuple[RealModel, ...]:
    """The catalogue, a model of each family before any family's second.

    Nothing is built, and no package is imported but torch.
    """
    everything = (
        *text_models(),
        *sense_models(),
        *diffusers_models(),
        *torchvision_models(),
        *timm_models(),
    )
    seen: Counter[str] = Counter()
    ranks = []
    for model in everything:
        ranks.append(seen[model.family])
        seen[model.family] += 1
    order = sorted(range(len(everything)), key=ranks.__getitem__)
    return tuple(everything[index] for index in order)
