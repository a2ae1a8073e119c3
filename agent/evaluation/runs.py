"""One run: a contestant on a pair with a seed, as a row that says how to repeat it."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agent.runs.plain_values import from_plain
from graphs.errors import GraphwrightError
from graphs.file_presence import is_file, is_folder
from placement.placer import Budget
from placement.problem import Problem
from placement.suites.pair import Pair, memory_rule
from placement.throughput import Throughput

if TYPE_CHECKING:
    from agent.evaluation.contestants import Contestant

#: The objective of rows that say nothing of it.
LATENCY = "latency"
#: What tells runs apart: pair and its files, column and what it is made of, seed, budget, updates,
#: policy, steps that overlap.
Key = tuple[str, str, str, str, str, int, float, int, str, str]


@dataclass(frozen=True)
class Origin:
    """How a row came about."""

    suite: str
    command: str
    commit: str
    """The commit that ran, with a + behind it where files differed from it."""
    overlap: Throughput | None = None
    """What plans are scored by where the objective is throughput."""

    @property
    def objective(self) -> str:
        """`latency`, or `throughput` with what was asked for."""
        if self.overlap is None:
            return LATENCY
        in_flight = self.overlap.in_flight or "what fits"
        return f"throughput, {in_flight} in flight, {self.overlap.micro_batches} micro-batches"


@dataclass(frozen=True)
class EvaluationRow:
    """One row of results; times are simulated."""

    suite: str
    graph: str
    cluster: str
    headroom: str
    column: str
    seed: int
    budget_seconds: float
    """CPU seconds that were allowed."""
    feasible: bool
    makespan_seconds: float
    """Infinite where nothing could run; of the plan even where it does not fit."""
    raw_seconds: float
    """Step time of what the policy itself decided; as above where nothing replaced it."""
    raw_feasible: bool
    failure: str
    lower_bound_seconds: float
    cpu_seconds: float
    """That were spent."""
    evaluations: int
    updates: int
    max_updates: int
    origin: str
    """Where the plan came from: the heuristic, or the pass of the policy."""
    plan_digest: str
    graph_digest: str
    cluster_digest: str
    policy_digest: str
    """Empty where no policy was used."""
    ops: int
    devices: int
    costs: str
    command: str
    commit: str
    stages: tuple[str, ...] = ()
    """The stages of a placer that has several, in their order."""
    stage_seconds: tuple[float, ...] = ()
    """Step time of the best plan at the end of each."""
    objective: str = LATENCY
    """See `Origin.objective`; with throughput step times are periods of steps that overlap."""
    files_digest: str = ""
    """Of the files that the pair's references name; empty where they name none."""
    column_digest: str = ""
    """See `Contestant.column_digest`."""

    @property
    def key(self) -> Key:
        return (
            self.graph,
            self.cluster,
            self.files_digest,
            self.column,
            self.column_digest,
            self.seed,
            self.budget_seconds,
            self.max_updates,
            self.policy_digest,
            self.objective,
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values; None for infinite times."""
        values = {
            key: None if isinstance(value, float) and not np.isfinite(value) else value
            for key, value in asdict(self).items()
        }
        # Rows of earlier versions have none of these.
        for name, usual in (("objective", LATENCY), ("files_digest", ""), ("column_digest", "")):
            if values[name] == usual:
                del values[name]
        values["stages"] = list(self.stages)
        values["stage_seconds"] = [
            seconds if np.isfinite(seconds) else None for seconds in self.stage_seconds
        ]
        return values

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "EvaluationRow":
        """The other way.

        Raises:
            GraphwrightError: not a row.
        """
        times = ("makespan_seconds", "raw_seconds")
        full = {
            key: np.inf if value is None and key in times else value
            for key, value in values.items()
        }
        if isinstance(of_stages := values.get("stage_seconds"), list):
            full["stage_seconds"] = [np.inf if value is None else value for value in of_stages]
        try:
            return from_plain(EvaluationRow, full)
        except TypeError as error:
            raise GraphwrightError(f"not a row of an evaluation: {error}") from error


def key_of(
    pair: Pair,
    contestant: "Contestant",
    seed: int,
    budget_seconds: float,
    objective: str = LATENCY,
    files: str = "",
) -> Key:
    """What the row of a run will be known by; `files` is the pair's `files_digest`."""
    return (
        pair.graph_ref,
        pair.cluster_ref,
        files,
        contestant.name,
        contestant.column_digest,
        seed,
        budget_seconds,
        contestant.updates,
        contestant.policy_digest or "",
        objective,
    )


def run(
    pair: Pair,
    problem: Problem,
    contestant: "Contestant",
    seed: int,
    budget_seconds: float,
    origin: Origin,
    bound_seconds: float | None = None,
    files: str = "",
) -> EvaluationRow:
    """Let a contestant place a problem; what it cannot do is a row too.

    Args:
        bound_seconds: of the period, where steps overlap; None for the bound of one step.
        files: the pair's `files_digest`.
    """
    budget = Budget(budget_seconds)
    failure, attempt = "", None
    try:
        attempt = contestant.attempt(problem, budget, seed)
    except GraphwrightError as error:
        failure = str(error)
    spent = budget.spent_seconds
    best = attempt.placed.best if attempt else None
    stages = attempt.placed.stages if attempt else ()
    raw = (attempt.raw or best) if attempt else None
    if best is not None and best.evaluation.failure is not None:
        failure = str(best.evaluation.failure)
    return EvaluationRow(
        suite=origin.suite,
        graph=pair.graph_ref,
        cluster=pair.cluster_ref,
        headroom=pair.headroom.value,
        column=contestant.name,
        seed=seed,
        budget_seconds=budget_seconds,
        feasible=best is not None and best.evaluation.feasible,
        makespan_seconds=best.evaluation.makespan_seconds if best else np.inf,
        raw_seconds=raw.evaluation.makespan_seconds if raw else np.inf,
        raw_feasible=raw is not None and raw.evaluation.feasible,
        failure=failure,
        lower_bound_seconds=problem.bounds.seconds if bound_seconds is None else bound_seconds,
        cpu_seconds=spent,
        evaluations=attempt.placed.evaluations if attempt else 0,
        updates=attempt.updates if attempt else 0,
        max_updates=contestant.updates,
        origin=best.origin if best else "",
        plan_digest=best.plan.digest if best else "",
        graph_digest=problem.graph.digest,
        cluster_digest=problem.cluster.digest,
        policy_digest=contestant.policy_digest or "",
        ops=problem.graph.op_count,
        devices=problem.cluster.device_count,
        costs=problem.costs.name,
        command=origin.command,
        commit=origin.commit,
        stages=tuple(stage.name for stage in stages),
        stage_seconds=tuple(float(stage.makespan_seconds) for stage in stages),
        objective=origin.objective,
        files_digest=files,
        column_digest=contestant.column_digest,
    )


def files_digest(pair: Pair) -> str:
    """Sixteen hexadecimal digits of what the files hold that a pair names, of models and clusters,
    and of what is pinned; empty where it names graphs and clusters that come with the package.

    Paths stay the same when files change; rows must not.
    """
    found = [Path(ref) for ref in (pair.graph_ref, memory_rule(pair.cluster_ref)[0])]
    state = hashlib.blake2b(digest_size=8)
    files = [file for path in found for file in _files_of(path)]
    for file in files:
        state.update(file.name.encode())
        with file.open("rb") as opened:
            state.update(hashlib.file_digest(opened, "sha256").digest())
    if pair.pin is not None:
        state.update(f"{pair.pin.graph_digest} {pair.pin.cluster_digest}".encode())
    return state.hexdigest() if files or pair.pin is not None else ""


def _files_of(path: Path) -> list[Path]:
    """The file itself, or what a folder holds, as a SavedModel is one."""
    if is_folder(path):
        return sorted(file for file in path.rglob("*") if file.is_file())
    return [path] if is_file(path) else []


def prepare_problem(pair: Pair) -> Problem:
    """The problem with all worked out that contestants share, before any clock runs."""
    problem = pair.problem()
    _ = problem.bounds, problem.simulator.program, problem.unit_allowed, problem.seconds
    return problem
