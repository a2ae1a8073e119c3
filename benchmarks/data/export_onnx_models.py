"""Writes the models of `benchmarks/data/torch_models` as ONNX, their weights apart or dropped.

    python benchmarks/data/export_onnx_models.py FOLDER [--weights] [--model NAME]

Their weights are random: only the graphs matter. Without `--weights` the `.onnx` files refer to
weight files that are not written, which is all that importing, placing and simulating them needs.
"""

import argparse
import logging
import time
from pathlib import Path

import onnx

from benchmarks.data.torch_models.catalogue import MODELS
from benchmarks.data.torch_models.export import onnx_program, without_weights


def export(name: str, folder: Path, *, weights: bool) -> Path:
    """Write one model, with a dynamic batch where it allows one; returns its `.onnx` path."""
    program = onnx_program(name, any_batch=MODELS[name].any_batch)
    path = folder / f"{name}.onnx"
    if weights:
        program.save(path, external_data=True)
    else:
        onnx.save_model(without_weights(program, f"{name}.onnx.data"), path)
    return path


def main() -> None:
    """Write all models, or the named ones."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--weights", action="store_true", help="write weight files (0.1 to 5 GB each)"
    )
    parser.add_argument("--model", choices=sorted(MODELS), action="append")
    arguments = parser.parse_args()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for name in arguments.model or MODELS:
        start = time.perf_counter()
        path = export(name, arguments.folder, weights=arguments.weights)
        nodes = len(onnx.load(path, load_external_data=False).graph.node)
        print(f"{path}: {nodes} nodes, {time.perf_counter() - start:.1f} s", flush=True)


if __name__ == "__main__":
    main()
