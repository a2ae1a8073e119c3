"""Place an ONNX model, look at the plan, run it split over devices.

    python docs/examples/place_onnx_model.py MODEL.onnx FOLDER

The parts run on this machine's CPU, whatever devices the plan is for; their outputs are compared
with the whole model's.
"""

import runpy
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort

import graphs
import placement
import simulator


def run(model: Path, folder: Path) -> dict[str, float]:
    graph = graphs.load(model)
    cluster = simulator.preset("cpu+2xv100")
    result = placement.place(graph, cluster, placer="search", budget_seconds=1)
    result.report(folder / "report.html")
    (split,) = result.export(model, folder, "onnx-split")
    print(f"{graph.op_count} ops, step {result.trace.makespan_seconds * 1e3:.3f} ms, simulated")
    print(*split.notes, sep="\n")
    return {
        "seconds": result.trace.makespan_seconds,
        "bound": result.problem.bounds.seconds,
        "difference": difference(model, split.files[1]),
    }


def difference(model: Path, runner: Path) -> float:
    """The largest difference of any output between the parts and the whole."""
    whole = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    generator = np.random.default_rng(0)
    feeds = {
        item.name: generator.standard_normal(
            [size if isinstance(size, int) else 1 for size in item.shape]
        ).astype(np.float32)
        for item in whole.get_inputs()
    }
    parts = runpy.run_path(str(runner))["SplitModel"](cpu=True)
    outputs = parts.run(feeds)
    wanted = whole.run(list(outputs), feeds)
    gaps = [np.abs(outputs[name] - value).max() for name, value in zip(outputs, wanted)]
    return float(max(gaps))


if __name__ == "__main__":
    print(run(Path(sys.argv[1]), Path(sys.argv[2])))
