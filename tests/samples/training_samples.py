"""Small suites, runs that take seconds, and comparing what they end with."""

from dataclasses import replace
from pathlib import Path

import torch
from graph_samples import graph_of, op

from agent.config import AgentConfig, EpisodeConfig, TrainConfig
from agent.learning.config import MoveConfig, SampleConfig
from agent.policy.config import PolicyConfig
from agent.policy.network import Policy
from agent.runs.checkpoint import load_checkpoint
from graphs.graph_file import write_graph

CLUSTER = "2xa100+2xv100-pcie"


def write_chains(folder: Path) -> Path:
    """Two graphs of three chains that never meet, of four and of five ops."""
    folder.mkdir()
    for length in (4, 5):
        records = [
            op(f"{chain}{step}", 1e12, (f"{chain}{step - 1}",) if step else (), 1000)
            for chain in "abc"
            for step in range(length)
        ]
        write_graph(graph_of(*records), folder / f"chains-{length}.gwgraph")
    return folder


def write_models(folder: Path) -> Path:
    """Two graphs of a few chains that meet now and then."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, chains, length in (("narrow", 3, 6), ("wide", 5, 4)):
        records = [
            op(
                f"c{chain}s{step}",
                1e11 * (1 + (chain * 7 + step * 3) % 5),
                tuple(
                    f"c{other % chains}s{step - 1}"
                    for other in ((chain, chain + 1) if step % 2 else (chain,))
                )
                if step
                else (),
                10_000_000,
            )
            for step in range(length)
            for chain in range(chains)
        ]
        write_graph(graph_of(*records), folder / f"{name}.gwgraph")
    return folder


def tiny_config(models: Path, rounds: int = 4) -> TrainConfig:
    """A run of seconds."""
    agent = AgentConfig(
        policy=PolicyConfig(width=16, heads=2, pair_width=8, segment_ops=16),
        sample=SampleConfig(samples=8),
        episode=EpisodeConfig(steps=2, group_sizes=(6,)),
        moves=MoveConfig(updates=4),
    )
    return TrainConfig(
        agent=agent,
        suite=str(models),
        validation_suite=str(models),
        clusters=(CLUSTER,),
        graphs_per_batch=2,
        rounds=rounds,
        validate_every=2,
        validation_graphs=1,
        validation_steps=1,
        save_every=2,
        move_share=0.25,
        outcome_share=0.5,
        threads=1,
    )


def tiny_flags(models: Path, rounds: int = 4) -> list[str]:
    """The same as flags."""
    return [
        f"--suite={models}", f"--validation-suite={models}", f"--clusters={CLUSTER}",
        "--graphs-per-batch=2", f"--rounds={rounds}", "--validate-every=2",
        "--validation-graphs=1", "--validation-steps=1", "--save-every=2", "--move-share=0.25",
        "--outcome-share=0.5", "--moves.updates=4",
        "--threads=1",
        "--policy.width=16", "--policy.heads=2", "--policy.pair-width=8",
        "--policy.segment-ops=16", "--sample.samples=8", "--episode.steps=2",
        "--episode.group-sizes=6",
    ]  # fmt: skip


def tiny_policy(seed: int = 0) -> tuple[Policy, AgentConfig]:
    config = replace(AgentConfig(), policy=PolicyConfig(width=16, heads=2, pair_width=8))
    torch.manual_seed(seed)
    return Policy(config.policy), config


def largest_difference(first: Path, second: Path, lessons: bool = True) -> float:
    """Between the numbers of two checkpoints, the optimizer's among them; infinite where they do
    not even have the same shapes."""
    a, b = load_checkpoint(first), load_checkpoint(second)
    assert (a.optimizer is None) == (b.optimizer is None)
    left, right = (
        {
            **found.policy.state_dict(),
            **{
                key: value
                for key, value in (found.optimizer or {}).items()
                if lessons or not key.startswith("lessons/")
            },
        }
        for found in (a, b)
    )
    assert left.keys() == right.keys()
    if any(left[key].shape != right[key].shape for key in left):
        return float("inf")
    return max(float((left[key] - right[key]).abs().max()) for key in left)
