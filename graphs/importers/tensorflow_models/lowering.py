"""Lowers wide sums of gradients to the chains that runtimes execute."""

from collections.abc import Sequence
from dataclasses import replace

from graphs.builder import OpRecord, OutputTensor
from graphs.costs.work import TensorSpec
from graphs.kinds import OpKind, Phase, Storage


def chain_accumulations(
    record: OpRecord, inputs: Sequence[TensorSpec], ages: Sequence[int]
) -> list[OpRecord]:
    """A sum of more than two gradients as two-input sums into one accumulator.

    One op with hundreds of inputs would keep every one of them alive; a runtime adds each
    gradient as it comes. The last link keeps the op's name, so that its tensor and its device
    are found under the name that the model knows; the others are `<name>/chain_<k>`. All links
    share a device.

    Args:
        record: any op; returned alone unless it is such a sum.
        inputs: specs of its inputs.
        ages: topological position of each input's producer; the earliest is added first.
    """
    wide = len(record.inputs) > 2 and record.op_type == "AddN"
    if not wide or record.kind is not OpKind.ACCUMULATE or record.phase is Phase.FORWARD:
        return [record]
    order = sorted(range(len(inputs)), key=lambda position: (ages[position], position))
    queue = [record.inputs[position] for position in order]
    elements, size = inputs[0].elements, inputs[0].bytes
    group = record.colocation or record.name
    links: list[OpRecord] = []
    accumulator = queue[0]
    for number, term in enumerate(queue[1:]):
        last = number == len(queue) - 2
        name = record.name if last else f"{record.name}/chain_{number}"
        shared = accumulator if number else None
        links.append(
            replace(
                record,
                name=name,
                inputs=(accumulator, term),
                outputs=(
                    OutputTensor(
                        f"{name}:0", size, Storage.ALIAS if number else Storage.BUFFER, shared
                    ),
                ),
                control_inputs=() if number else record.control_inputs,
                flops=float(elements),
                bytes_read=2.0 * size,
                bytes_written=float(size),
                colocation=group,
            )
        )
        accumulator = f"{name}:0"
    return links
