"""A folder of a user's own models as a suite."""

from collections.abc import Sequence
from pathlib import Path

from graphs.errors import ModelError
from graphs.file_presence import is_folder
from graphs.formats import folder_format, model_suffixes
from placement.suites.pair import Headroom, Pair, Suite, memory_rule
from simulator.cluster_file import load_cluster
from simulator.errors import ClusterError


def suite_from_folder(folder: str | Path, clusters: Sequence[str]) -> Suite:
    """Every model of a folder, subfolders included, on every cluster; no model is read yet.

    Args:
        folder: holds model files or SavedModel folders; hidden entries are skipped.
        clusters: presets or cluster files, with a memory rule where wanted.

    Raises:
        ModelError: no such folder, or no model in it.
        ClusterError: no clusters, or one that does not exist.
    """
    path = Path(folder)
    if not is_folder(path):
        raise ModelError(f"{path}: no such folder; give a folder that holds models")
    models = sorted(_models(path))
    if not models:
        raise ModelError(
            f"{path}: no models in it; looked for {', '.join(model_suffixes())} "
            "and SavedModel folders"
        )
    if not clusters:
        raise ClusterError(
            "which devices? Models of a folder need at least one cluster, such as 4xv100-pcie"
        )
    headroom = {cluster: headroom_of(cluster) for cluster in clusters}
    pairs = [Pair(str(model), name, tag) for model in models for name, tag in headroom.items()]
    return Suite(str(path), f"models in {path}", tuple(pairs))


def _models(folder: Path) -> list[Path]:
    if folder_format(folder) is not None:
        return [folder]
    models = []
    for entry in folder.iterdir():
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            models.extend(_models(entry))
        elif entry.name.lower().endswith(model_suffixes()):
            models.append(entry)
    return models


def headroom_of(cluster_ref: str) -> Headroom:
    """What can be told from the cluster alone.

    Raises:
        ClusterError: no such cluster, or a rule that cannot be read.
    """
    base, factor = memory_rule(cluster_ref)
    cluster = load_cluster(base)
    if factor is not None:
        return Headroom.TIGHT_MEMORY
    if cluster.device_count == 1:
        return Headroom.NONE
    if len({device.kind for device in cluster.devices}) > 1:
        return Headroom.UNLIKE_DEVICES
    slowest = min(link.bytes_per_second for link in cluster.links)
    return Headroom.SLOW_LINKS if slowest < 32e9 else Headroom.FAST_LINKS
