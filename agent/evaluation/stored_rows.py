"""Rows of `evaluate` and of `compare --suite` as a store keeps them.

A row that was made under another name of the same graph or cluster is shown under the name that is
asked for. What took part in making it stays: the command, the commit, the CPU seconds.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent.evaluation.runs import EvaluationRow
from agent.runs.result_store import ResultKey, ResultStore, StoreError
from placement.suites.pair import Pair
from placement.suites.results import SuiteRow


def open_store(path: Path | None) -> ResultStore | None:
    """The store of a `--store` flag; None where there is none.

    Raises:
        StoreError: the file cannot be used.
    """
    return None if path is None else ResultStore(path)


def known_evaluation(
    store: ResultStore, key: ResultKey, pair: Pair, suite: str, files: str = ""
) -> EvaluationRow | None:
    """A row that the store has, as one of this suite and pair.

    Args:
        files: the pair's `files_digest`.

    Raises:
        StoreError: what is there is damaged.
    """
    values = store.get(key)
    return None if values is None else _evaluation(values, pair, suite, files)


def keep_evaluation(
    store: ResultStore, key: ResultKey, pair: Pair, row: EvaluationRow
) -> EvaluationRow:
    """Store a row, whether its plan fits or not; returns what is stored, of whoever was first.

    One without any plan is not stored: what stopped the placer may be no property of the problem.

    Raises:
        StoreError: it is of another graph, or cannot be written.
    """
    if not row.plan_digest:
        return row
    _check(store, key, row.graph_digest, row.graph)
    kept = store.put(key, row.as_dict(), row.cpu_seconds, row.commit)
    return _evaluation(kept, pair, row.suite, row.files_digest)


def known_suite_row(store: ResultStore, key: ResultKey, pair: Pair) -> SuiteRow | None:
    """A row of one placer that the store has, as one of this pair.

    Raises:
        StoreError: what is there is damaged.
    """
    values = store.get(key)
    return None if values is None else replace(SuiteRow.from_dict(values), pair=pair)


def keep_suite_row(
    store: ResultStore, key: ResultKey, pair: Pair, row: SuiteRow, commit: str
) -> SuiteRow:
    """Store a row of one placer; returns what is stored, of whoever was first.

    Raises:
        StoreError: it is of another graph, or cannot be written.
    """
    _check(store, key, row.digest, row.pair.graph_ref)
    kept = store.put(key, row.as_dict(), sum(row.cpu_seconds.values()), commit)
    return replace(SuiteRow.from_dict(kept), pair=pair)


def _evaluation(values: Mapping[str, Any], pair: Pair, suite: str, files: str) -> EvaluationRow:
    return replace(
        EvaluationRow.from_dict(values),
        suite=suite,
        graph=pair.graph_ref,
        cluster=pair.cluster_ref,
        headroom=pair.headroom.value,
        files_digest=files,
    )


def _check(store: ResultStore, key: ResultKey, digest: str, graph: str) -> None:
    if digest != key.graph_digest:
        raise StoreError(
            f"{store.path}: graph {graph} has digest {digest} where it was placed, and "
            f"{key.graph_digest} here: its file has changed, or differs between machines; the "
            "result was not stored"
        )
