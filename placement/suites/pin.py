"""What a pinned suite holds a pair to: digests of its graph and cluster, and bytes of memory."""

from dataclasses import dataclass, field

from graphs.errors import ModelError
from graphs.graph import Graph
from placement.placers.tight_memory import tightened
from simulator.clusters.cluster import Cluster
from simulator.errors import ClusterError

_AGAIN = "`graphwright suites pin` makes a suite of what there is now, under another version"


@dataclass(frozen=True)
class Pin:
    """What a pair's graph and cluster were when its suite was pinned."""

    suite: str = field(compare=False)
    """Name and version of the suite, for messages."""
    graph_digest: str
    cluster_digest: str
    """Of the cluster with the memory that the pair has."""
    memory_bytes: tuple[int, ...]
    """Of each device."""

    def checked_graph(self, graph: Graph, graph_ref: str) -> Graph:
        """The graph, if it is what was pinned.

        Raises:
            ModelError: it is another one.
        """
        self.check_graph_digest(graph.digest, graph_ref)
        return graph

    def check_graph_digest(self, digest: str, graph_ref: str) -> None:
        """Hold a digest against the pinned one.

        Raises:
            ModelError: they differ.
        """
        if digest != self.graph_digest:
            raise ModelError(
                f"suite {self.suite}: graph {graph_ref} has digest {digest}, pinned is "
                f"{self.graph_digest}: the file has changed, or graphwright builds another graph "
                f"than it did, so that results would not compare; {_AGAIN}"
            )

    def checked_cluster(self, base: Cluster, cluster_ref: str, factor: float | None) -> Cluster:
        """The cluster with the pinned memory, if it is what was pinned; no placer runs.

        Args:
            base: the cluster that the reference names, without its memory rule.
            cluster_ref: the reference, for messages.
            factor: of the memory rule; None without one, where memory stays as it is.

        Raises:
            ClusterError: it is another one.
        """
        if len(self.memory_bytes) != base.device_count:
            raise ClusterError(
                f"suite {self.suite}: cluster {cluster_ref} has {base.device_count} devices, "
                f"pinned is the memory of {len(self.memory_bytes)}; {_AGAIN}"
            )
        cluster = base if factor is None else tightened(base, self.memory_bytes, factor)
        if tuple(cluster.memory_bytes.tolist()) != self.memory_bytes:
            raise ClusterError(
                f"suite {self.suite}: cluster {cluster_ref} has "
                f"{', '.join(map(str, cluster.memory_bytes.tolist()))} bytes of memory, pinned are "
                f"{', '.join(map(str, self.memory_bytes))}; {_AGAIN}"
            )
        if cluster.digest != self.cluster_digest:
            raise ClusterError(
                f"suite {self.suite}: cluster {cluster_ref} has digest {cluster.digest}, pinned is "
                f"{self.cluster_digest}: a device or a link has other figures, so that results "
                f"would not compare; {_AGAIN}"
            )
        return cluster
