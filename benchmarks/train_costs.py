"""Trains the learned cost model and sets it beside the roofline, on what it has not seen.

    python benchmarks/train_costs.py kernels.npz --out benchmarks/results/learned_costs.md \
        [--ship simulator/pretrained/cpu_core.safetensors] [--device cuda]

`benchmarks/measure_kernels.py` makes the file of kernels; on a machine with other devices, run it
there. Whole families of models, and kinds of ops, are held out in turn; the model that ships is
trained on everything.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from placement.runtime.prediction_error import kendall
from simulator.cost_training import CostTrainingConfig, split_by, train_costs
from simulator.kernel_features import KernelBatch, chosen
from simulator.learned_costs import save_network

#: As the paper, which reports kernels above five microseconds.
SHORTEST_SECONDS = 5e-6
HELD_OUT_MODELS = ({"inception"}, {"lstm"}, {"transformer"}, {"residual"})
HELD_OUT_KINDS = ({"softmax"}, {"transpose"}, {"conv"}, {"pool"})


def main() -> None:
    """Train, judge, write a table, and maybe the model that ships."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kernels", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--ship", type=Path)
    parser.add_argument("--epochs", type=int, default=150)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--device-kind", default="cpu-core")
    arguments = parser.parse_args()
    begun = time.perf_counter()
    data = np.load(arguments.kernels)
    names = ("kinds", "op_types", "features", "edges", "kernel_of")
    batch = KernelBatch(*(data[name] for name in names), count=len(data["seconds"]))
    seconds, roofline = data["seconds"], data["roofline"]
    config = CostTrainingConfig(epochs=arguments.epochs, device=arguments.device)
    rows = []
    for label, groups in (("source", HELD_OUT_MODELS), ("kind", HELD_OUT_KINDS)):
        for held_out in groups:
            seen, unseen = split_by(data[label].tolist(), held_out)
            unseen = unseen[seconds[unseen] >= SHORTEST_SECONDS]
            if len(unseen) < 8:
                continue
            network = train_costs(chosen(batch, seen), seconds[seen], config)
            guess = predicted(network, chosen(batch, unseen))
            known = scaled(roofline, seconds, seen)
            rows.append(row(label, held_out, seconds[unseen], guess, known[unseen]))
            print(rows[-1], flush=True)
    lines = [
        "# Learned cost model",
        "",
        f"`python {' '.join(sys.argv)}`, commit {commit()}, {batch.count} kernels, "
        f"{time.perf_counter() - begun:.0f} s. Kernels of at least 5 us. *Roofline*: that of the "
        "probed core; *fitted*: the same with one factor, fitted on "
        "the training kernels.",
        "",
        "| held out | kernels | MAPE | tau | MAPE, roofline | tau | MAPE, fitted | tau |",
        "|---|---|---|---|---|---|---|---|",
        *rows,
        "",
    ]
    arguments.out.write_text("\n".join(lines), encoding="utf-8")
    if arguments.ship is not None:
        network = train_costs(batch, seconds, config)
        arguments.ship.parent.mkdir(parents=True, exist_ok=True)
        save_network(network.cpu(), arguments.ship, arguments.device_kind)


def predicted(network: object, batch: KernelBatch) -> np.ndarray:
    """Seconds of each kernel."""
    import torch

    with torch.inference_mode():
        return np.exp(network(batch).double().cpu().numpy()) * 1e-6  # type: ignore[operator]


def scaled(roofline: np.ndarray, seconds: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Two columns: the roofline, and the roofline times the median quotient of seen kernels."""
    factor = float(np.median(seconds[seen] / np.maximum(roofline[seen], 1e-9)))
    return np.stack([np.maximum(roofline, 1e-9), np.maximum(roofline, 1e-9) * factor], axis=1)


def row(label: str, held_out: set, truth: np.ndarray, guess: np.ndarray, known: np.ndarray) -> str:
    """One line of the table."""
    every = np.ones((len(truth), len(truth)), bool)

    def cells(values: np.ndarray) -> str:
        error = np.abs(values / truth - 1).mean()
        return f"{error:.1%} | {kendall(values, truth, every):.2f}"

    what = "models" if label == "source" else "kind"
    name = ", ".join(sorted(held_out))
    return (
        f"| {what} {name} | {len(truth)} | {cells(guess)} | {cells(known[:, 0])} "
        f"| {cells(known[:, 1])} |"
    )


def commit() -> str:
    """The commit that ran."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
