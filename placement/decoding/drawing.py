"""Plans drawn by the decoder for one problem."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float32, Int32

from placement.decoding.alike import alike_devices
from placement.decoding.choices import Choices, make_choices
from placement.decoding.columns import DECISION_COLUMNS
from placement.decoding.decoder import (
    ChoiceArrays,
    DecisionScorer,
    Decoding,
    Recording,
    Styles,
    decode,
)
from placement.decoding.style_weights import STYLE_WEIGHTS
from placement.problem import Problem
from simulator.errors import KernelInputError
from simulator.kernel_checks import check_array, check_indices, check_record

_LEAST_SECONDS = 1e-15


@dataclass(frozen=True, eq=False)
class Drawn:
    """Plans, as the device of each choice, and what was seen when the first of them were drawn."""

    chosen: Int32[np.ndarray, "plans choices"]
    columns: Float32[np.ndarray, "recorded choices devices columns"]
    considered: Bool[np.ndarray, "recorded choices devices"]


@dataclass(frozen=True, eq=False)
class Decoder:
    """A problem laid out for the decoder; draws as many plans as wanted."""

    problem: Problem
    choices: Choices
    arrays: ChoiceArrays
    _states: dict[int, Decoding] = field(default_factory=dict)

    def draw(
        self,
        scorer: DecisionScorer,
        styles: Styles,
        seed: int,
        given: Int32[np.ndarray, "plans choices"] | None = None,
        hints: Int32[np.ndarray, "plans choices"] | None = None,
        recorded: int = 0,
        wanted: Bool[np.ndarray, " choices"] | None = None,
    ) -> Drawn:
        """Draw a plan for each style.

        Args:
            given: devices to take in place of those drawn; -1 draws.
            hints: a plan that was drawn before, for each; -1 where nothing is known.
            recorded: of so many plans, the first ones, what was seen is kept.
            wanted: at these choices; at all of them where it is left out.

        Raises:
            KernelInputError: weights, styles or devices that do not fit the problem.
        """
        count, devices = self.choices.count, self.problem.cluster.device_count
        sizes = check_record(scorer, choices=count, devices=devices, columns=len(DECISION_COLUMNS))
        plans = check_record(styles, devices=devices)["plans"]
        check_indices("Styles.style", styles.style, sizes["styles"])
        nothing = np.full((plans, count), -1, np.int32)
        given, hints = (nothing if table is None else table for table in (given, hints))
        for name, table in (("given", given), ("hints", hints)):
            check_array(name, table, "int32", (plans, count))
            check_indices(name, table, devices, -1)
        if not 0 <= recorded <= plans:
            raise KernelInputError(f"recorded is {recorded}; there are {plans} plans")
        if wanted is None:
            wanted = np.ones(count, bool)
        check_array("wanted", wanted, "bool", (count,))
        recording = Recording(
            np.zeros((recorded, count, devices, len(DECISION_COLUMNS)), np.float32),
            np.zeros((recorded, count, devices), bool),
            wanted,
        )
        chosen = np.full((plans, count), -1, np.int32)
        decode(
            self.problem.simulator.program.arrays, self.arrays, scorer, styles,
            self._state(sizes["width"]), np.uint64(seed), given, hints, recording, chosen,
        )  # fmt: skip
        return Drawn(chosen, recording.columns, recording.considered)

    def devices(self, chosen: Int32[np.ndarray, " choices"]) -> Int32[np.ndarray, " ops"]:
        """The device of each op, where every choice has one."""
        return chosen[self.choices.choice_of]

    def _state(self, width: int) -> Decoding:
        if width not in self._states:
            self._states[width] = _blank_state(self.problem, self.arrays, width)
        return self._states[width]


def make_decoder(problem: Problem) -> Decoder:
    """Lay a problem out."""
    choices = make_choices(problem)
    program = problem.simulator.program.arrays
    count = choices.count
    seconds = problem.seconds
    fastest = np.maximum(seconds.min(axis=1, keepdims=True), _LEAST_SECONDS)
    pace = np.log10(
        np.maximum(np.where(np.isfinite(seconds), seconds, 1.0), _LEAST_SECONDS) / fastest
    )
    place = np.empty(len(choices.order), np.int64)
    place[choices.order] = np.arange(len(choices.order))
    is_early = place < place[choices.decider[choices.choice_of]]
    early = choices.order[is_early[choices.order]]
    early = early[np.argsort(choices.choice_of[early], kind="stable")]
    early_counts = np.bincount(choices.choice_of[early], minlength=count)
    arrays = ChoiceArrays(
        order=choices.order,
        choice_of=choices.choice_of,
        decider=choices.decider,
        allowed=np.array(choices.allowed),
        resident_bytes=np.bincount(choices.choice_of, problem.graph.resident_bytes, count).astype(
            np.int64
        ),
        early_offsets=np.concatenate([[0], np.cumsum(early_counts)]).astype(np.int32),
        early=early.astype(np.int32),
        **_weights(problem, choices),
        **_neighbours(problem, choices),
        alike=alike_devices(problem),
        capacity=problem.cluster.memory_bytes.astype(np.int64),
        bound_seconds=np.array([max(problem.bounds.seconds, 1e-12)]),
        pace=pace.astype(np.float32),
    )
    check_record(arrays, ops=len(program.output_offsets) - 1)
    return Decoder(problem, choices, arrays)


def _weights(problem: Problem, choices: Choices) -> dict[str, np.ndarray]:
    """Constants by the choices that read them, each once."""
    program = problem.simulator.program.arrays
    counts = np.diff(program.weight_offsets)
    weights = np.repeat(np.arange(len(counts)), counts)
    pairs = np.unique(
        np.stack([choices.choice_of[program.weight_consumers], weights], axis=1), axis=0
    ).astype(np.int32)
    of_choice = np.bincount(pairs[:, 0], minlength=choices.count)
    return {
        "weight_offsets": np.concatenate([[0], np.cumsum(of_choice)]).astype(np.int32),
        "weights": np.ascontiguousarray(pairs[:, 1]),
    }


def _neighbours(problem: Problem, choices: Choices) -> dict[str, np.ndarray]:
    """Edges of each choice whose other end its decider does not read, by choice."""
    program = problem.simulator.program.arrays
    producers = program.tensor_producers[program.edge_tensors]
    sizes = program.tensor_bytes[program.edge_tensors].astype(np.float64)
    makes, reads = choices.choice_of[producers], choices.choice_of[program.consumers]
    across = makes != reads
    late = across & (choices.decider[reads] != program.consumers)
    here = np.concatenate([makes[across], reads[late]])
    there = np.concatenate([reads[across], makes[late]])
    order = np.argsort(here, kind="stable")
    counts = np.bincount(here, minlength=choices.count)
    return {
        "neighbour_offsets": np.concatenate([[0], np.cumsum(counts)]).astype(np.int32),
        "neighbours": there[order].astype(np.int32),
        "neighbour_bytes": np.concatenate([sizes[across], sizes[late]])[order],
    }


def _blank_state(problem: Problem, arrays: ChoiceArrays, width: int) -> Decoding:
    program = problem.simulator.program.arrays
    ops, devices = program.seconds.shape
    tensors = len(program.tensor_bytes)
    per_device = [np.zeros(devices) for _ in range(6)]
    state = Decoding(
        op_device=np.zeros(ops, np.int32),
        finish=np.zeros(ops),
        arrival=np.zeros((tensors, devices)),
        readers_left=np.zeros(tensors, np.int32),
        held=np.zeros(ops, bool),
        channel_free=np.zeros(max(program.channel_count, 1)),
        device_free=np.zeros(devices),
        busy=np.zeros(devices),
        used=np.zeros(devices, np.int64),
        units_on=np.zeros(devices, np.int32),
        first_use=np.zeros(devices, np.int32),
        row=np.zeros((devices, len(DECISION_COLUMNS)), np.float32),
        considered=np.zeros(devices, bool),
        ends=per_device[0],
        starts=per_device[2],
        sending=per_device[3],
        waits=per_device[4],
        need=np.zeros(devices, np.int64),
        bytes_here=per_device[5],
        count_here=per_device[1],
        has_weight=np.zeros((len(program.weight_bytes), devices), bool),
        pushing=np.zeros(devices),
        neighbours_here=np.zeros(devices),
        hidden=np.zeros(width, np.float32),
        random=np.zeros(1, np.uint64),
    )
    check_record(state, devices=devices)
    return state


def untaught_scorer(decoder: Decoder) -> DecisionScorer:
    """The tuned weights of all styles, and nothing learned."""
    return plain_scorer(decoder, np.array(STYLE_WEIGHTS, np.float32))


def plain_scorer(
    decoder: Decoder, style_weights: Float32[np.ndarray, "styles columns"]
) -> DecisionScorer:
    """The same score for each choice, but for what each column counts."""
    count, devices = decoder.choices.count, decoder.problem.cluster.device_count
    columns = len(DECISION_COLUMNS)
    return DecisionScorer(
        np.array(style_weights, order="C"),
        np.zeros(len(style_weights), np.float32),
        np.zeros((count, columns), np.float32),
        np.zeros((count, 1), np.float32),
        np.zeros((devices, 1), np.float32),
        np.zeros((count, devices), np.float32),
        np.zeros((columns, 1), np.float32),
        np.zeros(1, np.float32),
    )
