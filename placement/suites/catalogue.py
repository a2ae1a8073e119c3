"""The suites that ship: training, validation, held-out, the papers' table, large, and real models.

Held out entirely are the families `wavenet`, `moe` and `cells` (random NASNet-style cells), with
the real graphs of WaveNet, NASNet, AmoebaNet and a mixture of experts: convolutions over time,
conditional branches, and irregular cells are what the trained families have nothing like. No
figure, normaliser or constant may come from them. `perturbed` varies real graphs of trained
families, so the real graphs among `paper` that are not held out are related to what training sees.
Training steps traced by torch are in `test-instances` alone: `train` has TensorFlow's only. Whoever
trains on `real-train` (`real.py`) has seen kin of those, so `real-test` is the test then.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from random import Random

from graphs.errors import GraphwrightError
from graphs.file_presence import is_file, is_folder
from placement.suites.added import added_suites, load_added
from placement.suites.folder import suite_from_folder
from placement.suites.pair import Headroom, Pair, Suite
from placement.suites.pinning import load_pinned, pinned_names
from placement.suites.real import real_suites
from placement.suites.suite_file import SUFFIXES, read_suite

TRAINED_FAMILIES = (
    "rnnlm", "gnmt", "convnet", "inception", "transformer", "layered", "unet", "mamba", "perturbed",
)  # fmt: skip
HELD_OUT_FAMILIES = ("wavenet", "moe", "cells")
HELD_OUT_GRAPHS = (
    "wavenet-2x18", "wavenet-4x36", "nasnet-large", "amoebanet-d", "granite-moe-1b-train",
)  # fmt: skip
#: Real training steps of trained families, from another framework than any graph in training.
UNSEEN_GRAPHS = (
    "bert-base-train", "gpt2-train", "llama-1b-train", "t5-base-train", "vit-b16-train",
    "swin-t-train", "whisper-base-train", "unet-train", "mamba-130m-train",
)  # fmt: skip

#: Seeds of different suites never meet.
_FIRST_SEED = {"train": 0, "validation": 10_000, "test-instances": 20_000, "test-families": 30_000}

_CLUSTERS: Sequence[tuple[str, Headroom]] = (
    ("4xv100-pcie", Headroom.SLOW_LINKS),
    ("2xv100-pcie@tight:1.3", Headroom.TIGHT_MEMORY),
    ("2xa100+2xv100-pcie", Headroom.UNLIKE_DEVICES),
    ("8xp100-pcie", Headroom.SLOW_LINKS),
    ("4xp100-pcie@tight:1.2", Headroom.TIGHT_MEMORY),
    ("1xh100+3xt4-pcie", Headroom.UNLIKE_DEVICES),
    ("2x4xa100-ethernet", Headroom.SLOW_LINKS),
    ("4xv100-nvlink@tight:1.5", Headroom.TIGHT_MEMORY),
    ("1xa100+1xt4-pcie@tight:1.5", Headroom.UNLIKE_DEVICES),
    ("2xp100-pcie", Headroom.SLOW_LINKS),
    ("8xv100-pcie@tight:1.3", Headroom.TIGHT_MEMORY),
    ("cpu+2xv100", Headroom.UNLIKE_DEVICES),
    ("8xa100-nvlink", Headroom.FAST_LINKS),
    ("1xv100-pcie", Headroom.NONE),
)
_SMALLEST, _LARGEST = 400, 8_000

#: Graphs for which the faster of two devices alone is within 0.1% of the portfolio's best plan.
_WITHOUT_HEADROOM: Mapping[str, Sequence[str]] = {
    "train": (
        "convnet:5000:600", "convnet:5002:1000", "convnet:5004:1400", "convnet:5005:1800",
        "convnet:5006:2200", "transformer:5001:600", "transformer:5002:1000",
        "transformer:5004:1400", "transformer:5005:1800", "transformer:5006:2200",
    ),
    "validation": (
        "convnet:15000:600", "convnet:15003:1000",
        "transformer:15000:600", "transformer:15001:1000",
    ),
    "test-instances": (
        "convnet:25004:600", "convnet:25005:1000", "convnet:25006:1400",
        "transformer:25001:600", "transformer:25006:1000", "transformer:25007:1400",
    ),
}  # fmt: skip

_PAPER: Sequence[tuple[str, int]] = (
    ("rnnlm-2", 2), ("rnnlm-4", 4), ("rnnlm-8", 8),
    ("gnmt-2", 2), ("gnmt-4", 4), ("gnmt-8", 8),
    ("transformer-xl-2", 2), ("transformer-xl-4", 4), ("transformer-xl-8", 8),
    ("inception-v3", 2), ("inception-v3-64", 2),
    ("amoebanet-d", 4),
    ("wavenet-2x18", 2), ("wavenet-4x36", 4),
)  # fmt: skip
_LARGE_GRAPHS = (
    "gnmt-8-35k", "gnmt-8", "gnmt-8-80k",
    "rnnlm:40000:40000", "convnet:40000:40000", "transformer:40001:50000",
    "layered:40000:60000", "mamba:40001:40000",
)  # fmt: skip
_LARGE_CLUSTERS = (
    ("8xv100-pcie", Headroom.SLOW_LINKS),
    ("4xa100+4xv100-pcie", Headroom.UNLIKE_DEVICES),
    ("4xv100-nvlink@tight:1.3", Headroom.TIGHT_MEMORY),
)


def _generated_pairs(suite: str, families: Sequence[str], count: int) -> tuple[Pair, ...]:
    """`count` graphs of each family; all kinds of clusters come up equally often."""
    pairs = []
    for family in families:
        # Each family meets the clusters in an order of its own.
        rng = Random(f"{suite}:{family}")
        start = rng.randrange(len(_CLUSTERS))
        for index in range(count):
            ops = round(_SMALLEST * (_LARGEST / _SMALLEST) ** rng.random())
            cluster, headroom = _CLUSTERS[(start + index) % len(_CLUSTERS)]
            reference = f"{family}:{_FIRST_SEED[suite] + index}:{ops}"
            pairs.append(Pair(reference, cluster, headroom))
    return tuple(pairs)


def _without_headroom(suite: str) -> tuple[Pair, ...]:
    return tuple(Pair(name, "1xh100+1xt4-pcie", Headroom.NONE) for name in _WITHOUT_HEADROOM[suite])


def _on_clusters(names: Sequence[str]) -> tuple[Pair, ...]:
    return tuple(Pair(name, *cluster) for name in names for cluster in _CLUSTERS[:3])


SUITES: Mapping[str, Suite] = {
    suite.name: suite
    for suite in (
        Suite(
            "train",
            "graphs of the trained families; further seeds below 10,000 are training data too",
            _generated_pairs("train", TRAINED_FAMILIES, 112) + _without_headroom("train"),
        ),
        Suite(
            "validation",
            "other graphs of the trained families, for choices made during development",
            _generated_pairs("validation", TRAINED_FAMILIES, 8) + _without_headroom("validation"),
        ),
        Suite(
            "test-instances",
            "unseen graphs of the trained families, among them real training steps of torch",
            _generated_pairs("test-instances", TRAINED_FAMILIES, 14)
            + _without_headroom("test-instances")
            + _on_clusters(UNSEEN_GRAPHS),
        ),
        Suite(
            "test-families",
            "graphs of families that nothing was trained or tuned on: WaveNet, mixtures of "
            "experts, random cells, NASNet, AmoebaNet, Granite",
            _generated_pairs("test-families", HELD_OUT_FAMILIES, 14)
            + _on_clusters(HELD_OUT_GRAPHS),
        ),
        Suite(
            "paper",
            "the workloads and device counts of GO's table, on P100s over PCIe",
            tuple(Pair(name, f"{count}xp100-pcie", Headroom.SLOW_LINKS) for name, count in _PAPER),
        ),
        Suite(
            "large",
            "graphs of more than 30,000 ops",
            tuple(
                Pair(name, *cluster) for name, cluster in product(_LARGE_GRAPHS, _LARGE_CLUSTERS)
            ),
        ),
        *real_suites(),
    )
}


def get_suite(name: str, clusters: Sequence[str] = ()) -> Suite:
    """A suite by name, one of a file, or the models of a folder on the given clusters.

    Names with a version, such as `paper@1`, are of the pinned suites that ship. Other
    distributions add suites (`placement.plug_ins`), under names that are not taken.

    Raises:
        GraphwrightError: none of these; the message lists the suites. Or a suite that cannot be
            read, or is not what was pinned.
    """
    if name in SUITES:
        return SUITES[name]
    if name in pinned_names():
        return load_pinned(name)
    path = Path(name)
    if is_folder(path):
        return suite_from_folder(name, clusters)
    if is_file(path) or path.suffix.lower() in SUFFIXES:
        return read_suite(path)
    added = added_suites()
    if name in added:
        return load_added(added[name])
    known = (*SUITES, *pinned_names(), *added)
    raise GraphwrightError(
        f"no suite {name!r}; there are {', '.join(known)}, or give a suite's file or a folder of "
        "models"
    )
