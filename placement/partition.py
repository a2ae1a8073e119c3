"""METIS partitions of the unit graph: least traffic at balanced compute."""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pymetis
from jaxtyping import Float64, Int32, Int64

from placement.once_per_problem import once_per_problem
from placement.problem import Problem

_WEIGHT_SCALE = 1_000_000


@dataclass(frozen=True, eq=False)
class UnitGraph:
    """Units and the traffic between them, as an undirected graph in CSR."""

    offsets: Int64[np.ndarray, " {len(work_seconds)}+1"]
    neighbours: Int32[np.ndarray, " arcs"]
    traffic_seconds: Float64[np.ndarray, " arcs"]
    """Mean transfer time of what two units exchange, both directions together."""
    work_seconds: Float64[np.ndarray, " units"]
    resident_bytes: Float64[np.ndarray, " units"]


@once_per_problem
def unit_graph(problem: Problem) -> UnitGraph:
    """Contract a problem's ops to its units; its arrays are shared and read-only."""
    graph, arrays = problem.graph, problem.simulator.program.arrays
    sources = problem.unit_of[arrays.tensor_producers[arrays.edge_tensors]]
    targets = problem.unit_of[arrays.consumers]
    off = ~np.eye(problem.cluster.device_count, dtype=bool)
    pace = float(np.mean(1 / arrays.link_bytes_per_second[off])) if off.any() else 0.0
    latency = float(np.mean(arrays.link_latency_seconds[off])) if off.any() else 0.0
    seconds = latency + arrays.tensor_bytes[arrays.edge_tensors] * pace
    # A tensor with several readers crosses once: its readers share its time.
    seconds = seconds / np.diff(arrays.consumer_offsets)[arrays.edge_tensors]
    apart = sources != targets
    low = np.minimum(sources[apart], targets[apart]).astype(np.int64)
    high = np.maximum(sources[apart], targets[apart])
    keys, inverse = np.unique(low * problem.unit_count + high, return_inverse=True)
    traffic = np.zeros(len(keys))
    np.add.at(traffic, inverse, seconds[apart])  # bincount makes integers of no edges
    ends = np.concatenate([keys // problem.unit_count, keys % problem.unit_count])
    others = np.concatenate([keys % problem.unit_count, keys // problem.unit_count])
    order = np.lexsort((others, ends))
    counts = np.bincount(ends, minlength=problem.unit_count)
    finite = np.where(np.isfinite(problem.seconds), problem.seconds, np.nan)
    units = UnitGraph(
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        neighbours=others[order].astype(np.int32),
        traffic_seconds=np.concatenate([traffic, traffic])[order],
        work_seconds=np.bincount(problem.unit_of, np.nanmean(finite, axis=1), problem.unit_count),
        resident_bytes=np.bincount(problem.unit_of, graph.resident_bytes, problem.unit_count),
    )
    for array in vars(units).values():
        array.setflags(write=False)
    return units


def cut(
    units: UnitGraph,
    parts: int,
    seed: int,
    shares: Float64[np.ndarray, " parts"] | None = None,
    memory_weight: float = 0.0,
) -> Int32[np.ndarray, " units"]:
    """Part of each unit; `shares` are the parts' target shares of the work.

    `memory_weight` between 0 and 1 balances resident bytes instead of compute.
    """
    count = len(units.work_seconds)
    if parts <= 1 or count <= parts:
        return np.arange(count, dtype=np.int32) % max(parts, 1)
    weight = (1 - memory_weight) * units.work_seconds / max(units.work_seconds.sum(), 1e-300)
    weight = weight + memory_weight * units.resident_bytes / max(units.resident_bytes.sum(), 1.0)
    with _quiet_stdout():
        result = pymetis.part_graph(
            parts,
            pymetis.CSRAdjacency(units.offsets.tolist(), units.neighbours.tolist()),
            vweights=np.maximum(1, weight * _WEIGHT_SCALE).astype(np.int64).tolist(),
            eweights=_scale(units.traffic_seconds).tolist(),
            tpwgts=None if shares is None else (shares / shares.sum()).tolist(),
            recursive=parts <= 8 and count >= 8 * parts,
            options=pymetis.Options(seed=seed),
        )
    return np.array(result.vertex_part, np.int32)


@contextmanager
def _quiet_stdout() -> Iterator[None]:
    """METIS prints its diagnostics to standard output, which belongs to the caller's results.

    The C library keeps what is printed to a pipe or a file, and would write it at the end of the
    process, behind the results: it is told to write it before the real output is back.
    """
    sys.stdout.flush()
    kept = os.dup(1)
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 1)
        yield
    finally:
        _flush_c_streams()
        os.dup2(kept, 1)
        os.close(sink)
        os.close(kept)


def _flush_c_streams() -> None:
    flush = getattr(ctypes.CDLL(None), "fflush", None)
    if flush is not None:
        flush(None)


def subgraph(units: UnitGraph, chosen: Int32[np.ndarray, " chosen"]) -> UnitGraph:
    """The part of a unit graph between some of its units, renumbered in their order."""
    position = np.full(len(units.work_seconds), -1, np.int64)
    position[chosen] = np.arange(len(chosen))
    owners = np.repeat(np.arange(len(units.work_seconds)), np.diff(units.offsets))
    inside = (position[owners] >= 0) & (position[units.neighbours] >= 0)
    ends, others = position[owners[inside]], position[units.neighbours[inside]]
    order = np.lexsort((others, ends))
    counts = np.bincount(ends, minlength=len(chosen))
    return UnitGraph(
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        neighbours=others[order].astype(np.int32),
        traffic_seconds=units.traffic_seconds[inside][order],
        work_seconds=units.work_seconds[chosen],
        resident_bytes=units.resident_bytes[chosen],
    )


def _scale(values: Float64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """Positive integers in proportion, small enough that METIS's sums do not overflow."""
    total = max(float(values.sum()), 1e-300)
    return np.maximum(1, values / total * 1e9).astype(np.int64)
