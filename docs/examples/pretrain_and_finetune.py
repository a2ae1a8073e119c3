"""Pretrain a policy on small generated graphs, then let it learn on one graph of yours.

    python docs/examples/pretrain_and_finetune.py FOLDER

A few seconds: enough to see every step, not to learn anything worth keeping. `graphwright train`
and `graphwright finetune` do the same with tracking, interruption and more settings.
"""

import sys
from pathlib import Path

import graphs
import placement
import simulator
from agent.runs.checkpoint import load_checkpoint
from agent.config import TrainConfig
from agent.placing.finetuning import FineTuneConfig, fine_tune
from agent.training.loop import pretrain
from agent.runs.tracking.tracker import Silent
from graphs.families.reference import graph_of_reference
from graphs.graph_file import write_graph


def run(folder: Path, rounds: int = 2, updates: int = 2) -> dict[str, float]:
    models = folder / "models"
    models.mkdir(parents=True)
    for seed in range(3):
        write_graph(graph_of_reference(f"rnnlm:{seed}:120"), models / f"rnnlm-{seed}.gwgraph")
    config = TrainConfig(
        suite=str(models),
        clusters=("2xv100-pcie",),
        validation_suite=str(models),
        validation_graphs=1,
        validation_steps=2,
        graphs_per_batch=1,
        rounds=rounds,
        validate_every=rounds,
        threads=1,
    )
    pretrain(config, folder, Silent())
    graph = graph_of_reference("rnnlm:17:200")
    problem = placement.Problem(graph, simulator.preset("2xv100-pcie"))
    settings = FineTuneConfig(updates=updates, budget_seconds=1)
    tuned = fine_tune(problem, load_checkpoint(folder / "checkpoint"), settings, Silent())
    figures = {
        "portfolio": tuned.portfolio.evaluation.makespan_seconds,
        "zero_shot": tuned.zero_shot.evaluation.makespan_seconds,
        "fine_tuned": tuned.fine_tuned.evaluation.makespan_seconds,
    }
    for name, seconds in figures.items():
        print(f"{name}: {seconds * 1e3:.3f} ms, simulated")
    return figures


if __name__ == "__main__":
    run(Path(sys.argv[1]))
