"""Trains the learned cost model and sets it beside other models, on what it has not seen.

    python benchmarks/hardware/train_costs.py FOLDER --out benchmarks/results/learned_costs.md
        [--ship simulator/pretrained/cpu_core.safetensors] [--validate] [--drawn] [--device cuda]

`benchmarks/hardware/measure_kernels.py` makes the folder; on a machine with other devices,
run it there. All test families of models are held out at once, then kinds of ops, one after the
other: no kernel that holds the kind is trained on. `--validate` judges on other families, for
choosing settings; test families are then not looked at. `--drawn` trains on drawn kernels only, on
those of no model. The model that ships is trained on everything.
"""

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.hardware.device_models.kernel_sources import GENERATED
from benchmarks.hardware.kernel_data import KernelData, read_kernels, table_seconds
from benchmarks.hardware.measure_kernels import spoken
from benchmarks.rows import commit
from placement.runtime.calibration.prediction_error import kendall
from simulator.costs.cost_training import CostTrainingConfig, train_ensemble
from simulator.costs.kernel_features import chosen
from simulator.costs.learned_costs import predicted_seconds, save_network

#: As the paper, which reports kernels above five microseconds.
SHORTEST_SECONDS = 5e-6
TEST = ("residual", "inception", "lstm", "transformer")
VALIDATION = ("branches", "training-step", "vit", "squeezenet", "whisper")
KINDS = ("softmax", "transpose", "pool", "conv")


def main() -> None:
    """Train, judge, write a table, and maybe the model that ships."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--ship", type=Path)
    parser.add_argument("--validate", action="store_true")
    parser.add_argument("--drawn", action="store_true")
    parser.add_argument("--epochs", type=int, default=CostTrainingConfig.epochs)
    parser.add_argument("--members", type=int, default=CostTrainingConfig.members)
    parser.add_argument("--kind-epochs", type=int, help="for held-out kinds, one network each")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--device-kind", default="cpu-core")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    begun = time.process_time()
    data = read_kernels(arguments.folder)
    config = CostTrainingConfig(
        epochs=arguments.epochs, members=arguments.members, device=arguments.device
    )
    quick = replace(config, epochs=arguments.kind_epochs or config.epochs, members=1)
    judge = Judge(data, arguments.folder)
    asked = VALIDATION if arguments.validate else TEST
    apart = {*VALIDATION, *TEST} if arguments.validate else set(TEST)
    if arguments.drawn:
        apart = set(data.families.tolist()) - {GENERATED}
    lines = judge.models(asked, apart, config)
    kinds = []
    if not (arguments.validate or arguments.drawn):
        kinds = [judge.kind(kind, quick) for kind in KINDS if (data.kinds == kind).any()]
    spent = time.process_time() - begun
    arguments.out.write_text(
        "\n".join(page(data, config, quick, lines, kinds, judge, spent)), encoding="utf-8"
    )
    if arguments.ship is not None:
        network = train_ensemble(data.batch, data.seconds, config)
        arguments.ship.parent.mkdir(parents=True, exist_ok=True)
        save_network(network.cpu(), arguments.ship, arguments.device_kind)


class Judge:
    """Trains on some kernels and sets what is predicted beside others."""

    def __init__(self, data: KernelData, folder: Path) -> None:
        self.data, self.folder = data, folder
        self.clear = data.seconds >= SHORTEST_SECONDS
        self.worst: list[str] = []
        self.others: list[str] = []
        """Models among the training kernels."""

    def models(
        self, asked: tuple[str, ...], apart: set[str], config: CostTrainingConfig
    ) -> list[str]:
        """Lines for held-out families, one by one and together."""
        data = self.data
        seen = np.flatnonzero(~np.isin(data.families, sorted(apart)))
        real = seen[data.families[seen] != GENERATED]
        self.others = sorted(set(data.models[real].tolist()))
        rows = np.flatnonzero(np.isin(data.families, asked) & self.clear)
        guess, others = self._guesses(seen, rows, config)
        self.worst = self._worst(guess, rows)
        lines = []
        for family in asked:
            part = data.families[rows] == family
            if not part.any():
                continue
            members = ", ".join(dict.fromkeys(data.models[rows[part]].tolist()))
            lines.append(self._line(f"{family} ({members})", rows, part, guess, others))
        every = np.ones(len(rows), bool)
        lines.append(self._line("**all**", rows, every, guess, others))
        for label, part in (("single ops", ~data.fused[rows]), ("groups", data.fused[rows])):
            if part.any():
                lines.append(self._line(f"of these {label}", rows, part, guess, others))
        return lines

    def kind(self, kind: str, config: CostTrainingConfig) -> str:
        """A line for a kind of ops that was never seen."""
        data = self.data
        holds = np.array([kind in kinds for kinds in data.holds])
        seen = np.flatnonzero(~holds)
        rows = np.flatnonzero((data.kinds == kind) & self.clear)
        guess, others = self._guesses(seen, rows, config)
        return self._line(kind, rows, np.ones(len(rows), bool), guess, others)

    def _guesses(
        self, seen: np.ndarray, rows: np.ndarray, config: CostTrainingConfig
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        data = self.data
        network = train_ensemble(chosen(data.batch, seen), data.seconds[seen], config)
        guess = predicted_seconds(network, chosen(data.batch, rows))
        quotient = np.median((data.seconds / data.roofline)[seen[self.clear[seen]]])
        table = table_seconds(data, seen, rows, self.folder)
        return guess, (data.roofline[rows], data.roofline[rows] * quotient, table)

    def _line(
        self,
        label: str,
        rows: np.ndarray,
        part: np.ndarray,
        guess: np.ndarray,
        others: tuple[np.ndarray, ...],
    ) -> str:
        truth, rounds = self.data.seconds[rows[part]], self.data.rounds[rows[part]]
        cells = [f"{mape(guess[part], truth):.1%}"]
        cells.append(f"{np.median(np.abs(guess[part] / truth - 1)):.1%}")
        cells.append(f"{tau(guess[part], truth):.2f}")
        for values in others:
            cells.append(f"{mape(values[part], truth):.0%}")
            cells.append(f"{tau(values[part], truth):.2f}")
        cells.append(repeated(rounds))
        print(label, *cells, flush=True)
        return f"| {label} | {part.sum()} | {' | '.join(cells)} |"

    def _worst(self, guess: np.ndarray, rows: np.ndarray) -> list[str]:
        data = self.data
        error = np.abs(guess / data.seconds[rows] - 1)
        found = []
        for at in np.argsort(-error)[:12].tolist():
            row = rows[at]
            measured, said = data.seconds[row] * 1e6, guess[at] * 1e6
            found.append(
                f"| {data.models[row]} | {data.types[row]} | {measured:.1f} us | {said:.1f} us |"
            )
        return found


def mape(guess: np.ndarray, truth: np.ndarray) -> float:
    """Mean absolute error as a share."""
    return float(np.abs(guess / truth - 1).mean())


def tau(guess: np.ndarray, truth: np.ndarray) -> float:
    """Kendall's, over all pairs."""
    return kendall(guess, truth, np.ones((len(truth), len(truth)), bool))


def repeated(rounds: np.ndarray) -> str:
    """By what share one measurement differs from the other, where there are two."""
    if rounds.shape[1] < 2:
        return ""
    twice = rounds[np.isfinite(rounds[:, :2]).all(axis=1)]
    return f"{mape(twice[:, 0], twice[:, 1]):.1%} of {len(twice)}" if len(twice) else ""


def page(
    data: KernelData,
    config: CostTrainingConfig,
    quick: CostTrainingConfig,
    models: list[str],
    kinds: list[str],
    judge: Judge,
    spent: float,
) -> list[str]:
    """The result as Markdown."""
    generated = int((data.families == GENERATED).sum())
    head = [
        "| MAPE | median error | tau | roofline MAPE | tau | fitted MAPE | tau | table MAPE | tau "
        "| measured again |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    about = data.about
    lines = [
        "# Learned cost model",
        "",
        f"`python {spoken(sys.argv)}`, commit {commit()}, {spent:.0f} CPU s "
        f"with {config.members} networks of {config.epochs} epochs for models"
        f"{f', {quick.members} of {quick.epochs} for kinds' if kinds else ''}. "
        f"{len(data.seconds)} different kernels, "
        f"{int(data.fused.sum())} of them groups that onnxruntime {about['onnxruntime']} may "
        f"fuse: {generated} drawn, the rest of models. "
        f"They were measured by `python {spoken(about['command'].split())}` at commit "
        f"{about['commit']} ({about['provider']}, machine {about['machine']}).",
        "",
        "Kernels of at least 5 us, without the call around them. *Roofline*: of the probed core, "
        "as the simulator counts it; *fitted*: the same with one factor, fitted on the training "
        "kernels; *table*: a profiled table of the training kernels, nearest sample scaled by "
        "roofline, groups as sums. *Measured again*: the error of one measurement as a prediction "
        "of another, another time; so much nobody can predict. tau: Kendall's, over all pairs.",
        "",
        "## Models that were held out, all at once",
        "",
        f"Trained on drawn kernels and on those of {', '.join(judge.others) or 'no model'}.",
        "",
        f"| family (models) | kernels {head[0]}",
        head[1],
        *models,
        "",
    ]
    if kinds:
        lines += [
            "## Kinds of ops that were held out, with every kernel that holds one",
            "",
            f"| kind | kernels {head[0]}",
            head[1],
            *kinds,
            "",
        ]
    lines += ["## Largest errors among the models", ""]
    lines += ["| model | ops | measured | predicted |", "|---|---|---|---|", *judge.worst, ""]
    return lines


if __name__ == "__main__":
    main()
