"""The benchmarks still fit the code that they measure: each can be imported, each variant made."""

import importlib.util
import json
import os
import subprocess
import sys
from argparse import Namespace
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from device_models import core_cluster

from agent.config import AgentConfig
from agent.evaluation.contestants import policy_digest
from agent.evaluation.runs import EvaluationRow
from agent.placing.registry import load_policy
from graphs.catalogue import resolve
from simulator.costs.learned_costs import load_learned_costs

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


def loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmarks_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "name",
    [
        "ablations",
        "convergence",
        "held_out",
        "joint_tasks",
        "kernel_moves",
        "learned_placers",
        "move_ranking",
        "tune_guide",
    ],
)
def test_benchmarks_of_policies_import_what_is_there(name: str) -> None:
    assert callable(loaded(FOLDER / "quality" / f"{name}.py").main)


def test_held_out_rows_are_set_beside_each_other(tmp_path: Path) -> None:
    """Half the step time of search with ten times the budget; rows of other policies left out."""
    held_out = loaded(FOLDER / "quality" / "held_out.py")
    shipped = load_policy(None)
    digest = policy_digest(shipped.policy, shipped.config)

    def write(name: str, column: str, policy: str, *seconds: float) -> None:
        folder = tmp_path / f"evaluation-{name}"
        folder.mkdir(exist_ok=True)
        plain: dict[object, object] = {str: "", int: 0, float: 0.0, bool: True}
        blank = {field.name: plain.get(field.type, ()) for field in fields(EvaluationRow)}
        with (folder / "rows.jsonl").open("a", encoding="utf-8") as file:
            for seed, value in enumerate(seconds):
                row = {"column": column, "seed": seed, "makespan_seconds": value}
                file.write(json.dumps(blank | row | {"policy_digest": policy}) + "\n")

    write("families", "zero-shot", digest, 1.0, 2.0)
    write("families", "zero-shot", "another", 50.0, 50.0)
    write("families-100s", "search", "", 2.0, 4.0)
    lines = held_out.table(tmp_path).splitlines()
    assert "| families: zero-shot 10 s / search 100 s | 1 | 2 | 0.500 | 0.50 .. 0.50 |" in lines
    assert sum(line.startswith("| ") and "zero-shot" in line for line in lines) == 2


def test_the_table_of_learned_placers_by_hand(tmp_path: Path) -> None:
    """Three pairs on which GiPH takes half the portfolio's time; on one of them it fits alone."""
    learned = loaded(FOLDER / "quality" / "learned_placers.py")
    plain: dict[object, object] = {str: "", int: 0, float: 0.0, bool: True}
    blank = {field.name: plain.get(field.type, ()) for field in fields(EvaluationRow)}
    blank |= {"budget_seconds": 5.0, "cpu_seconds": 4.0, "evaluations": 70, "cluster": "c"}
    with (tmp_path / "rows.jsonl").open("w", encoding="utf-8") as file:
        for graph in "efgh":
            for column, seconds in (("giph", 1.0), ("portfolio", 2.0)):
                row = {"graph": graph, "column": column, "makespan_seconds": seconds}
                row["feasible"] = column == "giph" or graph != "h"
                file.write(json.dumps(blank | row) + "\n")
    lines = learned.table(learned.read(tmp_path / "rows.jsonl")).splitlines()
    assert "## 5 CPU seconds" in lines
    assert "| g | c | 0 | 1,000.0 | 2,000.0 |" in lines
    assert "| h | c | 0 | 1,000.0 | fails |" in lines
    told = "| giph | portfolio | 0.500 | 0.500-0.500 | faster | 3 | 3 | 0 | 1 | 0 |"
    assert [line for line in lines if line.startswith("| giph")] == [told]
    assert any(line.startswith("- giph: ") and "70 plans" in line for line in lines)


def test_held_out_graphs_of_learned_placers_are_there() -> None:
    learned = loaded(FOLDER / "quality" / "learned_placers.py")
    assert {pair.graph_ref for pair in learned.held_out(learned.GRAPHS)} == set(learned.GRAPHS)
    with pytest.raises(SystemExit, match="rnnlm-2 is in none of"):
        learned.held_out(["rnnlm-2"])


def test_the_table_of_a_suite_by_hand() -> None:
    """Search takes half of METIS' time and, of two that fit, 1 and 1/4 of a single device's."""
    suite_table = loaded(FOLDER / "quality" / "suite_table.py")
    plain = {
        "graph": "g", "cluster": "c", "headroom": "slow-links", "digest": "d", "ops": 7,
        "devices": 2, "cpu_seconds": {}, "lower_bound_seconds": 0.25, "budget_seconds": 1.0,
        "seed": 0, "costs": "roofline", "commit": "abc", "command": "suite_table.py paper",
    }  # fmt: skip
    times = dict.fromkeys(suite_table.COLUMNS) | {"single": 1.0, "metis": 2.0, "search": 1.0}
    unlike = times | {"single": 4.0, "metis": None}
    rows = [{**plain, "makespan_seconds": found} for found in (times, unlike)]
    lines = suite_table.table("paper", rows).splitlines()
    assert "- single: 0.500 over 2 of 2" in lines
    assert "- metis: 0.500 over 1 of 2" in lines
    assert "- heft: nan over 0 of 2" in lines
    assert "- lower bound: 4.000 (can be loose)" in lines
    assert "| g | c | 2 | 7 | 1,000.0 | OOM | 2,000.0 | OOM | OOM | 1,000.0 | 250.0 |" in lines


@pytest.mark.slow
def test_kernels_are_measured_and_learned_from(tmp_path: Path) -> None:
    """In processes of their own: a folder there is called as one of the tests' modules."""

    def script(name: str, *arguments: str) -> str:
        command = [sys.executable, str(FOLDER / "hardware" / name), *arguments]
        environment = {**os.environ, "PYTHONPATH": str(FOLDER.parent)}
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=3600
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    folder, page, model = tmp_path / "kernels", tmp_path / "page.md", tmp_path / "new.safetensors"
    measure = ("measure_kernels.py", str(folder), "--models", "1", "--rounds", "2")
    only = [f"--only={name}" for name in ("generated-0", "lstm-128", "residual-24")]
    assert "generated-0.1" in script(*measure, *only)
    assert "kernels," not in script(*measure, *only)  # everything is there already
    script(
        "train_costs.py", str(folder), f"--out={page}", f"--ship={model}", "--epochs=2",
        "--members=2",
    )  # fmt: skip
    table = page.read_text(encoding="utf-8")
    assert str(tmp_path) not in table
    assert "| lstm (lstm-128) |" in table
    assert "| residual (residual-24) |" in table
    assert "| softmax |" in table
    graph = resolve("gpt2", {})
    seconds = load_learned_costs(model).seconds(graph, core_cluster())
    assert np.isfinite(seconds).all()


def test_every_ablation_is_a_configuration() -> None:
    variants = loaded(FOLDER / "quality" / "ablations.py").VARIANTS
    made = {name: change(AgentConfig()) for name, change in variants.items()}
    same = [name for name, config in made.items() if config == AgentConfig()]
    assert same == ["full", "no pretraining"]


def test_the_table_of_jobs_by_hand() -> None:
    jobs = loaded(FOLDER / "quality" / "jobs.py")
    rows = [
        {
            "graph": f"g{pair}", "cluster": "c", "placer": "search", "jobs": count, "seed": seed,
            "makespan_seconds": 0.1 / count, "evaluations": 100 * count, "cpu_seconds": 2.0 * count,
            "load_before": 0.0, "cores": 2, "commit": "abc", "command": "jobs.py",
        }
        for pair in range(3) for seed in range(2) for count in (1, 2)
    ]  # fmt: skip
    text = jobs.table(rows)
    assert "| g0 | c | 100.0 (100, 2.0 s) | 50.0 (200, 4.0 s) |" in text
    assert "- search, 2 jobs: 0.5000 (0.5000-0.5000) over 3 pairs, told apart" in text
    assert "was shared" not in text
    assert "was shared" in jobs.table([{**row, "load_before": 1.9} for row in rows])


def test_what_a_thousand_workers_are_on_paper_by_hand() -> None:
    task_cost = loaded(FOLDER / "speed" / "task_cost.py")
    costs = [task_cost.Cost("ray", 5.0, 0.002, 0.001, 0.01)]
    figures = {
        "put": 0.004, "get": 0.001, "row": 400.0, "task": 100.0, "learn": 1e-6, "move": 250.0,
        "network": 25_000.0, "moves": 10_000.0,
    }  # fmt: skip
    given = Namespace(jobs=2, rounds=5, tasks=300)
    text = task_cost.page(costs, figures, 0.1, given)
    # 10 s / 1 ms; 10 s / 5 ms; 125 MB/s / 500 bytes * 10 s; ten times as much.
    assert "| 10 CPU s | 10,000 | 2,000 | 2,500,000 | 25,000,000 |" in text
    assert "keep it busy with runs of 5.00 CPU seconds" in text
    assert "the larger part of its time is storing rows" in text
    # 10,000 moves of 1 us: a hundredth of a core for each worker.
    assert "One core learns all moves of 100 workers; 1,000 would need 10 cores" in text
    assert "1 Gbit/s carries those of 50 workers" in text
    assert "the network into the learner is full first at 1 Gbit/s" in text
