"""Cuts a model into the sessions that a device program runs."""

from collections.abc import Mapping, Sequence

from onnx import ValueInfoProto, helper

from placement.runtime.device_program import DeviceProgram, Run, Send
from placement.runtime.messages import Segment, TensorType
from placement.runtime.onnx_source import SMALL_BYTES, RunnableModel


def segment_of(
    model: RunnableModel,
    names: Sequence[str],
    inputs: Sequence[str],
    outputs: Sequence[str],
    types: Mapping[str, TensorType],
) -> Segment:
    """One session: the named ops, reading `inputs`, writing `outputs`."""
    import numpy as np

    def declared(name: str) -> ValueInfoProto:
        if name not in types:  # left to onnxruntime, which infers it
            return ValueInfoProto(name=name)
        kind = types[name]
        return helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(np.dtype(kind.dtype)), kind.shape
        )

    proto = model.model(names, [declared(n) for n in inputs], [declared(n) for n in outputs])
    external = [
        w.name for w in proto.graph.initializer if model.weights[w.name].nbytes > SMALL_BYTES
    ]
    return Segment(proto.SerializeToString(), tuple(external), tuple(inputs), tuple(outputs))


def program_segments(
    program: DeviceProgram,
    op_names: Sequence[str],
    model: RunnableModel,
    types: Mapping[str, TensorType],
) -> list[dict[int, Segment]]:
    """The sessions of each device, by the position of their `Run`.

    A session hands out what later steps of its device read, what is sent, and the outputs of the
    model; everything else stays inside.
    """
    work = model.work()
    found: list[dict[int, Segment]] = []
    for steps in program.steps:
        wanted = set(model.outputs)
        segments: dict[int, Segment] = {}
        for position in range(len(steps) - 1, -1, -1):
            step = steps[position]
            if isinstance(step, Send):
                wanted.add(program.transfers[step.transfer].tensor)
            elif isinstance(step, Run):
                names = [op_names[op] for op in step.ops]
                written = [tensor for name in names for tensor in work[name].writes]
                read = dict.fromkeys(tensor for name in names for tensor in work[name].reads)
                inputs = [tensor for tensor in read if tensor not in set(written)]
                outputs = [tensor for tensor in written if tensor in wanted]
                segments[position] = segment_of(model, names, inputs, outputs or written[:1], types)
                wanted.update(read)
        found.append(dict(sorted(segments.items())))
    return found
