"""What decides a result of `evaluate` and `compare --suite`, as the key that a store knows it by.

Nothing of a key needs a placer to run: a memory rule is a part of it as it is written, with the
cluster before the rule.
"""

import hashlib
import json
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from agent.evaluation.code_digest import code_digest
from agent.evaluation.columns import COLUMNS
from agent.placing.registry import ONE_SHOTS, POLICY, UNTRAINED
from agent.runs.plain_values import to_plain
from agent.runs.result_store import ResultKey
from placement.placer import Placer
from placement.suites.pair import RULE, Pair, memory_rule
from simulator.cluster_file import dump_cluster, load_cluster
from simulator.clusters.cluster import Cluster
from simulator.clusters.kernel_times import kernel_times_to_json

if TYPE_CHECKING:
    from agent.evaluation.contestants import Contestant

#: Raised with every change of the code after which the same problem, seed and budget may give
#: another plan or step time. `tests/agent/test_result_keys.py` holds some plans to it.
RESULTS_VERSION = 2

EVALUATION, SUITE = "evaluation", "suite"
_LIBRARIES = ("numba", "numpy", "pymetis", "scipy", "torch")


def evaluation_key(
    pair: Pair,
    contestant: "Contestant",
    seed: int,
    budget_seconds: float,
    objective: str,
    threads: int = 1,
) -> ResultKey:
    """Of a row of `evaluate`.

    Args:
        objective: `Origin.objective`.
        threads: of torch and the simulator; sums of floats differ with their number.

    Raises:
        GraphwrightError: the pair cannot be built.
    """
    settings = {"objective": objective, "threads": threads, "updates": contestant.updates}
    return _key(
        EVALUATION, pair, contestant.name, contestant.column_digest, budget_seconds, seed,
        settings, contestant.policy_digest or "",
    )  # fmt: skip


def suite_key(pair: Pair, name: str, placer: Placer, budget_seconds: float, seed: int) -> ResultKey:
    """Of what a placer made of a pair of `compare --suite`.

    Raises:
        GraphwrightError: the pair cannot be built.
    """
    made_of, policy = _digests(name, placer)
    settings = {"objective": "latency"}
    return _key(SUITE, pair, name, made_of, budget_seconds, seed, settings, policy)


def cluster_digest(cluster: Cluster) -> str:
    """A cluster's digest; of a calibrated one, whose figures that leaves out, of all of it."""
    measured = cluster.calibration
    if measured is None:
        return cluster.digest
    text = dump_cluster(replace(cluster, name="any")) + kernel_times_to_json(measured.times)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


@cache
def results_version() -> str:
    """`RESULTS_VERSION`, and the versions of the libraries that decide results as well."""
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    return f"{RESULTS_VERSION}; {libraries}"


def _key(
    kind: str,
    pair: Pair,
    placer: str,
    placer_digest: str,
    budget_seconds: float,
    seed: int,
    settings: dict[str, Any],
    policy_digest: str,
) -> ResultKey:
    base, factor = memory_rule(pair.cluster_ref)
    rule = "" if factor is None else f"{RULE}{factor!r}"
    if pair.pin is not None:
        rule += f" {' '.join(map(str, pair.pin.memory_bytes))}"
    return ResultKey(
        kind=kind,
        graph_digest=pair.graph().digest,
        cluster_digest=cluster_digest(load_cluster(base)),
        memory_rule=rule,
        placer=placer,
        placer_digest=placer_digest,
        budget_seconds=budget_seconds,
        seed=seed,
        # Suites have no flag for costs or precision: costs follow from graph and cluster, and
        # precision is a part of the graph.
        settings=json.dumps({"costs": "auto", **settings}, sort_keys=True),
        policy_digest=policy_digest,
        version=results_version(),
    )


def _digests(name: str, placer: Placer) -> tuple[str, str]:
    """Of what a placer is made of, and of its policy."""
    if name in (POLICY, UNTRAINED):
        from agent.evaluation.contestants import policy_digest
        from agent.placing.policy_placer import PolicyPlacer

        assert isinstance(placer, PolicyPlacer)
        return "", policy_digest(placer.policy, placer.config)
    if name in ONE_SHOTS:
        from agent.decoding.placer import OneShotPlacer
        from agent.evaluation.contestants import weights_digest

        assert isinstance(placer, OneShotPlacer)
        settings = json.dumps({**to_plain(placer.draw), "updates": placer.updates}, sort_keys=True)
        digest = hashlib.blake2b(settings.encode(), digest_size=8).hexdigest()
        return digest, "" if placer.policy is None else weights_digest(placer.policy)
    return "" if name in COLUMNS else code_digest(placer), ""
