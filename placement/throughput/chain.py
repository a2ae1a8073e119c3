"""A linear order of units, cut into pieces: what exact splits of large graphs are made on."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int32, Int64

from graphs.kinds import Phase
from placement.throughput.load_problem import LoadProblem


@dataclass(frozen=True, eq=False)
class Chain:
    """Pieces one after the other, and the tensors between them."""

    piece_of: Int32[np.ndarray, " units"]
    seconds_before: Float64[np.ndarray, "pieces_and_one devices"]
    """Compute of all earlier pieces on each device; the last row is of all pieces."""
    bytes_before: Float64[np.ndarray, " pieces_and_one"]
    """Held memory of all earlier pieces, without shared weights."""
    updated_before: Float64[np.ndarray, " pieces_and_one"]
    """Bytes of gradients that updates of earlier pieces read, per step."""
    makers: Int32[np.ndarray, " tensors"]
    sizes: Float64[np.ndarray, " tensors"]
    """Bytes per step: what updates read or make counts once in all micro-batches."""
    shares: Float64[np.ndarray, " tensors"]
    degrees: Int32[np.ndarray, " tensors"]
    """Pieces that read each, other than its maker's."""
    touched_offsets: Int64[np.ndarray, " pieces_and_one"]
    touched: Int32[np.ndarray, " touches"]
    """Twice the tensor, and one more where the piece reads it."""
    weight_bytes: Float64[np.ndarray, " weights"]
    weight_offsets: Int64[np.ndarray, " pieces_and_one"]
    weights: Int32[np.ndarray, " weight_reads"]

    @property
    def count(self) -> int:
        return len(self.bytes_before) - 1


def mean_seconds(problem: LoadProblem) -> Float64[np.ndarray, " units"]:
    """Compute of each unit, on the mean of the devices that may run it."""
    seconds = problem.arrays.seconds
    runs = np.isfinite(seconds)
    return np.where(runs, seconds, 0.0).sum(axis=1) / np.maximum(runs.sum(axis=1), 1)


def even_pieces(
    problem: LoadProblem, positions: Int32[np.ndarray, " units"], most: int
) -> Int32[np.ndarray, " units"]:
    """Up to so many pieces of about equal compute, cut where the fewest bytes cross.

    Args:
        positions: of units in a linear order; units at one position stay together.
    """
    count = int(positions.max()) + 1
    if count <= most:
        return positions
    work = np.bincount(positions, mean_seconds(problem), count)
    done = np.cumsum(work + work.sum() / (20 * count) + 1e-300)
    block = np.minimum((done[:-1] / done[-1] * most).astype(np.int64), most - 1)
    return _cut_at(positions, _least_crossed(problem, positions, block))


def pieces_near(
    problem: LoadProblem,
    positions: Int32[np.ndarray, " units"],
    borders: Int64[np.ndarray, " borders"],
    most: int,
) -> Int32[np.ndarray, " units"]:
    """Up to so many pieces, single positions close to the given borders.

    Args:
        borders: positions of the first unit after each.
    """
    count = int(positions.max()) + 1
    if count <= most or not borders.size:
        return even_pieces(problem, positions, most)
    reach = max(1, most // (2 * len(borders)))
    near = np.unique(
        np.clip(borders[:, None] + np.arange(-reach, reach)[None], 1, count - 1).ravel()
    )
    return _cut_at(positions, near - 1)


def _least_crossed(
    problem: LoadProblem,
    positions: Int32[np.ndarray, " units"],
    block: Int64[np.ndarray, " gaps"],
) -> Int64[np.ndarray, " cuts"]:
    """The gap of each block that the fewest bytes cross; gap g lies after position g."""
    crossing = crossing_bytes(problem, positions)
    order = np.lexsort((crossing, block))
    first = np.ones(len(order), bool)
    first[1:] = np.diff(block[order]) > 0
    return np.sort(order[first])


def crossing_bytes(
    problem: LoadProblem, positions: Int32[np.ndarray, " units"]
) -> Float64[np.ndarray, " gaps"]:
    """Bytes per step that cross the gap after each position but the last."""
    p = problem.arrays
    low = positions[p.makers].copy()
    high = low.copy()
    tensor_of = np.repeat(np.arange(len(p.makers)), np.diff(p.reader_offsets))
    np.minimum.at(low, tensor_of, positions[p.readers])
    np.maximum.at(high, tensor_of, positions[p.readers])
    change = np.zeros(int(positions.max()) + 2)
    sizes = p.tensor_bytes * p.shares
    np.add.at(change, low, sizes)
    np.add.at(change, high, -sizes)
    return np.cumsum(change)[: int(positions.max())]


def _cut_at(
    positions: Int32[np.ndarray, " units"], gaps: Int64[np.ndarray, " cuts"]
) -> Int32[np.ndarray, " units"]:
    return np.searchsorted(gaps, positions, side="left").astype(np.int32)


def make_chain(problem: LoadProblem, piece_of: Int32[np.ndarray, " units"]) -> Chain:
    """Contract a problem to pieces."""
    p = problem.arrays
    count = int(piece_of.max()) + 1
    makers = piece_of[p.makers]
    tensor_of = np.repeat(np.arange(len(p.makers)), np.diff(p.reader_offsets))
    readers = piece_of[p.readers]
    apart = readers != makers[tensor_of]
    keys = np.unique(tensor_of[apart].astype(np.int64) * count + readers[apart])
    kept, numbers = np.unique(keys // count, return_inverse=True)
    owners = np.concatenate([makers[kept], keys % count])
    touched = np.concatenate([2 * np.arange(len(kept)), 2 * numbers + 1])
    by_owner = np.lexsort((touched, owners))
    unit_of_read = np.repeat(np.arange(problem.unit_count), np.diff(p.weight_offsets))
    weight_count = max(len(p.weight_bytes), 1)
    reads = np.unique(piece_of[unit_of_read].astype(np.int64) * weight_count + p.weights)
    seconds = np.zeros((count + 1, problem.device_count))
    for device in range(problem.device_count):
        of_piece = np.bincount(piece_of, p.seconds[:, device], count)
        seconds[1:, device] = np.cumsum(of_piece)
    return Chain(
        piece_of=piece_of.astype(np.int32),
        seconds_before=seconds,
        bytes_before=_before(np.bincount(piece_of, p.memory_bytes, count)),
        updated_before=_before(np.bincount(piece_of, _updated_bytes(problem), count)),
        makers=makers[kept].astype(np.int32),
        sizes=(p.tensor_bytes * p.shares)[kept],
        shares=p.shares[kept],
        degrees=np.bincount(numbers, minlength=len(kept)).astype(np.int32),
        touched_offsets=_before(np.bincount(owners, minlength=count)).astype(np.int64),
        touched=touched[by_owner].astype(np.int32),
        weight_bytes=p.weight_bytes,
        weight_offsets=_before(np.bincount(reads // weight_count, minlength=count)).astype(
            np.int64
        ),
        weights=(reads % weight_count).astype(np.int32),
    )


def _before(values: np.ndarray) -> Float64[np.ndarray, " n"]:
    return np.concatenate([[0.0], np.cumsum(values)])


def _updated_bytes(problem: LoadProblem) -> Float64[np.ndarray, " units"]:
    """Gradients that the updates of each unit read: what replicas of it have to add up."""
    graph, unit_of = problem.problem.graph, problem.problem.unit_of
    micro_batches = 1 if problem.request is None else problem.request.micro_batches
    producers = graph.tensor_producers[graph.edge_tensors]
    read = graph.phases[graph.consumers] == Phase.UPDATE
    read &= graph.phases[producers] == Phase.BACKWARD
    added = np.bincount(
        unit_of[graph.consumers[read]],
        graph.tensor_bytes[graph.edge_tensors[read]] / micro_batches,
        problem.unit_count,
    )
    return added.astype(np.float64)  # of no edges bincount makes integers
