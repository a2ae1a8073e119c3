"""What the threads of a split model's sessions cost: wall and CPU time of a step of many parts.

    python benchmarks/speed/split_threads.py [--parts 19] [--width 128] [--steps 200]

A chain of products and activations is cut into parts that lie on two cores in turns. Its own runner
times it (`--time`), with its default threads and with onnxruntime's default pools (`--threads 0`).
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import graphs
from placement.export import ExportRequest
from placement.export.onnx_split import export_onnx_split
from simulator.clusters.cluster import Cluster, Device, Link
from simulator.plan import Plan


def chain(path: Path, layers: int, width: int) -> Path:
    """A model of `layers` products, each with an activation."""
    random = np.random.default_rng(0)
    nodes, weights, source = [], [], "x"
    for layer in range(layers):
        values = random.standard_normal((width, width)).astype(np.float32) / width**0.5
        weights.append(numpy_helper.from_array(values, f"w{layer}"))
        nodes.append(helper.make_node("MatMul", [source, f"w{layer}"], [f"p{layer}"], f"p{layer}"))
        source = f"a{layer}"
        nodes.append(helper.make_node("Tanh", [f"p{layer}"], [source], source))
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [64, width])],
        [helper.make_tensor_value_info(source, TensorProto.FLOAT, [64, width])],
        weights,
    )
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def two_cores() -> Cluster:
    devices = tuple(
        Device(f"core:{i}", "cpu-core", 4 << 30, {"float32": 5e10}, 8e9, 5e-6) for i in range(2)
    )
    links = tuple(Link(a.name, b.name, 4e9, 2e-5) for a in devices for b in devices if a != b)
    return Cluster("2-cores", devices, links)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", type=int, default=19)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--steps", type=int, default=200)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = chain(Path(folder) / "chain.onnx", arguments.parts, arguments.width)
        graph = graphs.load(model)
        layer_of = [int("".join(c for c in name if c.isdigit()) or 0) for name in graph.op_names]
        request = ExportRequest(
            model, graph, two_cores(), Plan.of(np.array(layer_of) % 2), Path(folder) / "out",
            max_parts=arguments.parts,
        )  # fmt: skip
        runner = export_onnx_split(request).files[1]
        command = [sys.executable, str(runner), "--random", "--check", str(model), "--time"]
        for options in ([], ["--threads", "0"]):
            print(" ".join(options) or "default threads", flush=True)
            subprocess.run([*command, str(arguments.steps), *options], check=True)


if __name__ == "__main__":
    main()
