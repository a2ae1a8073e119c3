"""A TensorFlow process: one device's server, or the client that runs steps on the servers.

python -m placement.runtime.tensorflow_servers.worker DESCRIPTOR CORE PARENT
"""

import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from placement.runtime.processes.worker_process import ReceiveFile, serve
from placement.runtime.tensorflow_servers.messages import (
    CloseGraph,
    FindPort,
    OpenGraph,
    RanGraph,
    RunGraph,
    StartServer,
    TracedStep,
    TraceGraph,
)

if TYPE_CHECKING:
    import tensorflow as tf

Told = FindPort | StartServer | OpenGraph | TraceGraph | RunGraph | CloseGraph
Answered = int | TracedStep | RanGraph | None

_VARIABLES = ("VarHandleOp", "VariableV2", "Variable")


class TensorFlowWorker:
    """What a process holds between messages."""

    def __init__(self) -> None:
        self.server: tf.distribute.Server | None = None
        self.graphs: dict[int, OpenedGraph] = {}

    def answer(self, message: Told, receive_file: ReceiveFile) -> Answered:
        """Do what a message asks for."""
        match message:
            case FindPort():
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", 0))
                    return int(probe.getsockname()[1])
            case StartServer():
                self.server = _start_server(message)
                return None
            case OpenGraph():
                self.graphs[message.number] = OpenedGraph(message)
                return None
            case TraceGraph():
                return self.graphs[message.number].trace(message.timeout_seconds)
            case RunGraph():
                return self.graphs[message.number].run(message)
            case CloseGraph():
                opened = self.graphs.pop(message.number, None)
                if opened is not None:
                    opened.session.close()
                return None
        raise TypeError(f"a TensorFlow worker knows no {type(message).__name__}")


def _config() -> "tf.compat.v1.ConfigProto":
    """Nothing is rewritten, and sessions share no variables."""
    from tensorflow.core.protobuf import config_pb2, rewriter_config_pb2

    config = config_pb2.ConfigProto(
        isolate_session_state=True, intra_op_parallelism_threads=1, inter_op_parallelism_threads=4
    )
    options = config.graph_options
    options.optimizer_options.opt_level = config_pb2.OptimizerOptions.L0
    options.rewrite_options.disable_meta_optimizer = True
    options.rewrite_options.constant_folding = rewriter_config_pb2.RewriterConfig.OFF
    return config


def _start_server(message: StartServer) -> "tf.distribute.Server":
    import tensorflow as tf

    cluster = tf.train.ClusterSpec({"worker": list(message.addresses)})
    return tf.compat.v1.train.Server(
        cluster, job_name="worker", task_index=message.task, config=_config()
    )


class OpenedGraph:
    """A session with its variables set."""

    def __init__(self, message: OpenGraph) -> None:
        import tensorflow as tf
        from tensorflow.core.framework import graph_pb2

        definition = graph_pb2.GraphDef()
        definition.ParseFromString(message.graph)
        graph = tf.Graph()
        with graph.as_default():
            tf.graph_util.import_graph_def(definition, name="")
            random = np.random.default_rng(message.seed)
            assigns, values = _assignments(graph, random)
        self.feeds = {
            op.outputs[0]: _drawn(op.outputs[0], random)
            for op in graph.get_operations()
            if op.type == "Placeholder" and op.outputs[0] not in values
        }
        self.fetches = [_fetch(graph.get_operation_by_name(name)) for name in message.fetches]
        self.names = message.fetches
        self.session = tf.compat.v1.Session(
            f"grpc://{message.address}", graph=graph, config=_config()
        )
        self.session.run(assigns, values)

    def trace(self, timeout: float) -> TracedStep:
        """One step with all statistics."""
        from tensorflow.core.protobuf import config_pb2

        options = config_pb2.RunOptions(
            trace_level=config_pb2.RunOptions.FULL_TRACE, timeout_in_ms=round(timeout * 1000)
        )
        metadata = config_pb2.RunMetadata()
        results = self.session.run(self.fetches, self.feeds, options, metadata)
        devices: dict[str, str] = {}
        seconds: dict[str, float] = {}
        for stats in metadata.step_stats.dev_stats:
            for node in stats.node_stats:
                name = node.node_name.partition(":")[0]
                # Small constants are copied to where they are read.
                name, copied, _ = name.partition("/replicate/")
                devices[name] = "" if copied else stats.device
                seconds[name] = seconds.get(name, 0.0) + node.op_end_rel_micros * 1e-6
        values = {
            name: np.asarray(value)
            for name, value in zip(self.names, results, strict=True)
            if value is not None
        }
        return TracedStep(devices, seconds, values)

    def run(self, message: RunGraph) -> RanGraph:
        """Steps one after another, each with what its servers waited."""
        from tensorflow.core.protobuf import config_pb2

        options = config_pb2.RunOptions(timeout_in_ms=round(message.timeout_seconds * 1000))
        step = self.session.make_callable(self.fetches, list(self.feeds), accept_options=True)
        values = list(self.feeds.values())
        wall, delay = np.zeros(message.iterations), np.zeros(message.iterations)
        for row in range(message.iterations):
            before = [waited(process) for process in message.servers]
            begun = time.perf_counter()
            step(*values, options=options)
            wall[row] = time.perf_counter() - begun
            after = [waited(process) for process in message.servers]
            delay[row] = max(b - a for a, b in zip(before, after, strict=True))
        return RanGraph(wall, delay)


def waited(process: int) -> float:
    """Seconds that the threads of a process were ready and waited for a core, added up."""
    total = 0
    for path in Path(f"/proc/{process}/task").glob("*/schedstat"):
        with suppress(OSError, IndexError, ValueError):
            total += int(path.read_bytes().split()[1])
    return total * 1e-9


def _fetch(op: "tf.Operation") -> "tf.Operation | tf.Tensor":
    plain = bool(op.outputs) and op.outputs[0].dtype.base_dtype.is_floating
    return op.outputs[0] if plain and op.type not in _VARIABLES else op


def _assignments(
    graph: "tf.Graph", random: np.random.Generator
) -> "tuple[list[tf.Operation], dict[tf.Tensor, np.ndarray]]":
    """Ops that set every variable, and what to feed them: the values do not become nodes."""
    import tensorflow as tf

    assigns: list[tf.Operation] = []
    values: dict[tf.Tensor, np.ndarray] = {}
    for op in graph.get_operations():
        if op.type not in _VARIABLES:
            continue
        dtype = tf.as_dtype(op.get_attr("dtype")).base_dtype
        shape = tf.TensorShape(op.get_attr("shape"))
        with graph.device(op.device):
            feed = tf.compat.v1.placeholder(dtype, shape, f"graphwright_value/{op.name}")
            if op.type == "VarHandleOp":
                done = tf.raw_ops.AssignVariableOp(resource=op.outputs[0], value=feed)
            else:
                done = tf.compat.v1.assign(op.outputs[0], feed, validate_shape=False).op
        assigns.append(done)
        values[feed] = _drawn(feed, random)
    return assigns, values


def _drawn(tensor: "tf.Tensor", random: np.random.Generator) -> np.ndarray:
    """Small positive numbers: variances and second moments are variables too."""
    shape = [size or 1 for size in tensor.shape.as_list()]
    dtype = tensor.dtype.base_dtype
    if dtype.is_floating:
        scale = 0.5 if not shape else 1.0 / max(float(np.prod(shape[:-1])), 2.0)
        return np.asarray(random.uniform(0.5, 1.5, shape) * scale, dtype.as_numpy_dtype)
    if dtype.is_integer or dtype.is_bool:
        return np.asarray(random.integers(0, 2, shape), dtype.as_numpy_dtype)
    raise TypeError(f"{tensor.name} holds {dtype.name}, for which no values can be drawn")


if __name__ == "__main__":
    serve(sys.argv[1:], TensorFlowWorker().answer)
