"""What one part of a split model costs beside its ops: a session's run, and waking a thread.

    python benchmarks/speed/session_overhead.py

A model of one addition of four numbers is run as the runner of split models does: from a thread
that waits for the input, with the result handed on. Its median, rounded, is
`placement.export.split_forecast.SESSION_SECONDS`.
"""

import statistics
import time
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper

_HOPS, _ROUNDS = 200, 15


def main() -> None:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        "tiny",
        [value("x", TensorProto.FLOAT, [4])],
        [value("y", TensorProto.FLOAT, [4])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    sessions = [
        ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        for _ in range(2)
    ]
    rounds = [_seconds_per_hop(sessions) for _ in range(_ROUNDS)]
    alone = [_seconds_alone(sessions[0]) for _ in range(_ROUNDS)]
    print(f"a run between threads: {statistics.median(rounds) * 1e6:.0f} us")
    print(f"a run in one thread: {statistics.median(alone) * 1e6:.0f} us")


def _seconds_per_hop(sessions: list[ort.InferenceSession]) -> float:
    values: list[Future[np.ndarray]] = [Future() for _ in range(_HOPS + 1)]

    def serve(which: int) -> None:
        for hop in range(which, _HOPS, 2):
            given = {"x": values[hop].result()}
            (result,) = sessions[which].run(["y"], given)
            values[hop + 1].set_result(result)

    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(serve, which) for which in range(2)]
        begun = time.perf_counter()
        values[0].set_result(np.zeros(4, np.float32))
        values[-1].result()
        taken = time.perf_counter() - begun
        for job in jobs:
            job.result()
    return taken / _HOPS


def _seconds_alone(session: ort.InferenceSession) -> float:
    given = {"x": np.zeros(4, np.float32)}
    begun = time.perf_counter()
    for _ in range(_HOPS):
        session.run(["y"], given)
    return (time.perf_counter() - begun) / _HOPS


if __name__ == "__main__":
    main()
