"""`graphwright evaluate`: one table of a policy, its controls and everything else that places."""

import json as json_module
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from agent.cli.exit_codes import DONE, INFEASIBLE
from agent.cli.import_text import check_models
from agent.cli.options import read_seconds
from agent.cli.output import prepare, print_json, print_lines, print_text, progress
from agent.cli.task_flags import TaskFlags
from agent.cli.throughput_flags import NOT_ASKED, Objective, ThroughputFlags
from agent.runs.commit import current_commit
from graphs.errors import GraphwrightError
from graphs.file_presence import is_folder
from graphs.whole_files import add_line, open_to_append, write_whole

if TYPE_CHECKING:
    from agent.evaluation.evaluation_job import EvaluationJob
    from agent.evaluation.runs import EvaluationRow
    from agent.evaluation.tables import Results
    from placement.suites import Suite

_ROWS = "rows.jsonl"
#: Parts of training steps, as policies are trained with.
_MICRO_BATCHES = 8
_SEVERAL = Parameter(consume_multiple=True, negative=())


def evaluate(
    *,
    policy: Path | None = None,
    one_shot: Path | None = None,
    suite: str | None = None,
    graphs: Path | None = None,
    clusters: Annotated[tuple[str, ...], _SEVERAL] = (),
    budget: str = "10s",
    seeds: Annotated[tuple[int, ...], _SEVERAL] = (0, 1, 2),
    only: Annotated[tuple[str, ...], _SEVERAL] = (),
    objective: Objective = "latency",
    overlap: ThroughputFlags = NOT_ASKED,
    headroom: Annotated[tuple[str, ...], _SEVERAL] = (),
    families: Annotated[tuple[str, ...], _SEVERAL] = (),
    limit: int | None = None,
    updates: int = 50,
    threads: int = 1,
    out: Path | None = None,
    tasks: TaskFlags = TaskFlags(),
    track: str = "none",
    allow_unknown: Annotated[bool, Parameter(negative=())] = False,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Set a policy beside heuristics, search, published learned placers and its own controls.

    Prints step times per graph and cluster, geometric means of ratios with intervals over pairs,
    and where the policy loses. Differences are told from noise on three pairs at least.

    Parameters
    ----------
    policy
        Folder of a checkpoint; without one, only the columns that need none are run.
    one_shot
        Checkpoint or run's folder of `train-one-shot`, for the columns that begin with one-shot;
        the one that comes with graphwright where left out.
    suite
        A suite's name, or the file of one; `graphwright suites list` shows all.
    graphs
        Instead of a suite: a folder of models, with --clusters.
    clusters
        Presets or cluster files for the models of --graphs.
    budget
        CPU time for each column that goes on until it is spent, such as 10s or 2min.
    seeds
        One run of each column for each.
    only
        Columns, such as search zero-shot; where left out, all but those that are named alone:
        placeto, giph, doppler and what begins with one-shot.
    objective
        latency: the time of one step. throughput: the time between steps that overlap; the policy
        must have been trained for it. --micro-batches are of training steps, 8 where left out;
        portfolio is the best of heuristics and cuts, search the pipeline of place.
    headroom
        Only pairs of these kinds: slow-links, tight-memory, unlike-devices, fast-links, none.
    families
        Only graphs of these families: of generated graphs, of real ones' architectures.
    limit
        At most so many pairs, evenly spread over the suite.
    updates
        Updates of the fine-tuned columns on each graph, as far as the budget allows them.
    threads
        Of torch and of the simulator; 0 leaves the choice to each. Budgets count the CPU time of
        all threads together.
    out
        Folder for rows.jsonl, table.md, table.csv and table.json. Runs whose row is there already
        are not repeated, unless a file that they read has changed, the configuration of the
        untrained control or of placeto, giph or doppler, or the code of a placer that is no column
        of the table.
    track
        wandb, tensorboard or none; needs --out.
    allow_unknown
        Take models of which more than a tenth of the tensors have no known shape.
    json
        Print one JSON object instead of the table.
    """
    from agent.evaluation.evaluation_job import Entrants, EvaluationJob, evaluated
    from agent.evaluation.runs import Origin
    from agent.evaluation.tables import Results, markdown, plain
    from agent.runs.tracking.open_tracker import check_choice
    from placement.suites import of_families

    seconds = read_seconds(budget, "--budget")
    whole = of_families(_suite(suite, graphs, clusters), families)
    chosen = _part(whole, headroom, limit)
    check_choice(track)
    tasks.check()
    if track != "none" and out is None:
        raise GraphwrightError("--track needs --out, a folder for what is tracked")
    if not seeds or min(seeds) < 0:
        raise GraphwrightError("--seeds takes whole numbers from 0, such as 0 1 2")
    request = overlap.request(objective)
    if request is not None and overlap.micro_batches is None:
        request = replace(request, micro_batches=_MICRO_BATCHES)
    entrants = Entrants(only, policy, one_shot, updates, threads, request)
    contestants = entrants.load()
    command = _command(
        policy, suite, graphs, clusters, budget, seeds, only, headroom, families, limit, updates
    )
    if one_shot is not None:
        command += f" --one-shot {one_shot}"
    if request is not None:
        command += f" --objective throughput --micro-batches {request.micro_batches}"
        command += f" --in-flight {request.in_flight}" if request.in_flight else ""
    origin = Origin(chosen.label, command, current_commit(), request)
    job = EvaluationJob(entrants, seconds, origin, contestants)
    runs = job.tasks(chosen.pairs, tuple(dict.fromkeys(seeds)))
    imports = check_models(chosen.pairs, allow_unknown, quiet=json)
    with ExitStack() as opened:
        store = tasks.open_store(opened)
        prepare(quiet=json, overlaps=request is not None)
        known, record = opened.enter_context(_record(out))
        label = f"{len(chosen.pairs)} pairs of {chosen.label}"
        on_progress = opened.enter_context(progress(label, quiet=json))
        runner = tasks.open_runner(opened)
        rows = evaluated(job, runs, runner, known, store, record, on_progress)
    results = Results(tuple(rows))
    text = markdown(results, f"Evaluation on {chosen.label}")
    files = _write_tables(out, results, text) if out is not None else {}
    if out is not None:
        _tell(out, track, job, seeds, results)
    if json:
        print_json({**plain(results), "suite": chosen.label, "imports": imports, "files": files})
    else:
        print_lines(text)
        for name, path in files.items():
            print_text(f"{name}: {path}")
    return DONE if all(results.is_solved(pair) for pair in results.pairs) else INFEASIBLE


def _suite(name: str | None, folder: Path | None, clusters: Sequence[str]) -> "Suite":
    """The suite of a name, or of a folder's models."""
    from placement.suites import get_suite, suite_from_folder

    if (name is None) == (folder is None):
        raise GraphwrightError(
            "evaluate on what? Give --suite with a suite's name, or --graphs with a folder of "
            "models and --clusters"
        )
    if name is not None and clusters and not is_folder(name):
        raise GraphwrightError("--clusters goes with --graphs; a suite names its own clusters")
    if name is not None:
        return get_suite(name, clusters)
    assert folder is not None
    return suite_from_folder(folder, clusters)


def _part(suite: "Suite", kinds: Sequence[str], limit: int | None) -> "Suite":
    """The pairs with some kind of headroom; of many an evenly spread part."""
    from placement.suites import Headroom

    known = [kind.value for kind in Headroom]
    for kind in kinds:
        if kind not in known:
            raise GraphwrightError(f"--headroom {kind}: give some of {', '.join(known)}")
    if limit is not None and limit < 1:
        raise GraphwrightError(f"--limit {limit}: give at least 1 pair")
    pairs = [pair for pair in suite.pairs if not kinds or pair.headroom in kinds]
    if not pairs:
        raise GraphwrightError(f"suite {suite.name} has no pair of kind {', '.join(kinds)}")
    if limit is not None and limit < len(pairs):
        last = len(pairs) - 1
        pairs = [pairs[round(index * last / max(limit - 1, 1))] for index in range(limit)]
    return replace(suite, pairs=tuple(pairs))


@contextmanager
def _record(
    out: Path | None,
) -> Iterator[tuple[list["EvaluationRow"], Callable[["EvaluationRow"], None]]]:
    """Rows that a folder has, and how to add one; each is on disk before the next run."""
    from agent.evaluation.runs import EvaluationRow

    if out is None:
        yield [], lambda row: None
        return
    out.mkdir(parents=True, exist_ok=True)
    path = out / _ROWS
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    if lines and not _is_whole(lines[-1]):  # the run before was killed while writing
        lines = lines[:-1]
        write_whole(path, "".join(f"{line}\n" for line in lines))
    known = [_row(path, number, line) for number, line in enumerate(lines, 1)]
    with open_to_append(path) as file:

        def record(row: EvaluationRow) -> None:
            add_line(file, json_module.dumps(row.as_dict(), allow_nan=False))

        yield known, record


def _row(path: Path, number: int, line: str) -> "EvaluationRow":
    from agent.evaluation.runs import EvaluationRow

    try:
        return EvaluationRow.from_dict(json_module.loads(line))
    except (ValueError, GraphwrightError) as error:
        raise GraphwrightError(
            f"{path}, line {number}: not a row of this version ({error}); choose another --out"
        ) from error


def _is_whole(line: str) -> bool:
    try:
        json_module.loads(line)
    except ValueError:
        return False
    return True


def _write_tables(out: Path, results: "Results", text: str) -> dict[str, str]:
    from agent.evaluation.tables import csv_text, plain

    files = {
        "table.md": text,
        "table.csv": csv_text(results),
        "table.json": json_module.dumps(plain(results), indent=1, default=str) + "\n",
    }
    for name, content in files.items():
        write_whole(out / name, content)
    return {name: str(out / name) for name in (*files, _ROWS)}


def _tell(
    out: Path, track: str, job: "EvaluationJob", seeds: Sequence[int], results: "Results"
) -> None:
    """The table and the ratios to whoever tracks the run."""
    from agent.evaluation.tables import ratios
    from agent.runs.tracking.open_tracker import open_tracker
    from agent.runs.tracking.options import TrackOptions

    config: dict[str, Any] = {
        **asdict(job.origin),
        "seeds": list(dict.fromkeys(seeds)),
        "budget_seconds": job.budget_seconds,
        "columns": list(job.contestants),
    }
    tracker = open_tracker(out, config, TrackOptions(track, job_type="evaluate"))
    tracker.table("evaluation", [row.as_dict() for row in results.rows], 0)
    figures: dict[str, float] = {}
    for item in ratios(results.rows):
        name = f"{item.column}/{item.against}"
        figures |= {name: item.geometric_mean, f"{name}/low": item.low, f"{name}/high": item.high}
    tracker.summary(figures)
    tracker.artifact("evaluation", "table", out / "table.json")
    tracker.close()


def _command(
    policy: Path | None,
    suite: str | None,
    graphs: Path | None,
    clusters: Sequence[str],
    budget: str,
    seeds: Sequence[int],
    only: Sequence[str],
    headroom: Sequence[str],
    families: Sequence[str],
    limit: int | None,
    updates: int,
) -> str:
    """What to type to get the same table."""
    words = ["graphwright", "evaluate"]
    for flag, values in (
        ("--policy", [policy]),
        ("--suite", [suite]),
        ("--graphs", [graphs]),
        ("--clusters", clusters),
        ("--budget", [budget]),
        ("--seeds", seeds),
        ("--only", only),
        ("--headroom", headroom),
        ("--families", families),
        ("--limit", [limit]),
        ("--updates", [updates]),
    ):
        given = [str(value) for value in values if value is not None]
        words += [flag, *given] if given else []
    return " ".join(words)
