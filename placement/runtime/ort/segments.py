"""Cuts a model into the sessions that a device program runs."""

from collections.abc import Mapping, Sequence

import numpy as np
from onnx import NodeProto, TensorProto, ValueInfoProto, helper

from graphs.importers.onnx_models.topology import bodies_of
from placement.runtime.ort.messages import Segment
from placement.runtime.ort.onnx_source import RunnableModel
from placement.runtime.processes.messages import TensorType
from placement.runtime.programs.device_program import DeviceProgram, Run, Send


def segment_of(
    model: RunnableModel,
    names: Sequence[str],
    inputs: Sequence[str],
    outputs: Sequence[str],
    types: Mapping[str, TensorType],
    *,
    fused: bool = False,
) -> Segment:
    """One session: the named ops, reading `inputs`, writing `outputs`.

    Ops and tensors are renamed by position, so that equal parts of a model, such as the steps of an
    unrolled recurrent net, are equal bytes: a worker makes one session for all of them, and their
    weights are packed once.
    """
    nodes = [model.nodes[name] for name in names]
    plain = not any(True for node in nodes for _ in bodies_of(node))
    renamed = _renaming(nodes, inputs, model.weights) if plain else {}

    def declared(name: str) -> ValueInfoProto:
        if name not in types:  # left to onnxruntime, which infers it
            return ValueInfoProto(name=renamed.get(name, name))
        kind = types[name]
        elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(kind.dtype))
        return helper.make_tensor_value_info(renamed.get(name, name), elem_type, kind.shape)

    if plain:
        nodes = [_with_names(node, renamed, f"op{at}") for at, node in enumerate(nodes)]
    proto = model.model(nodes, [declared(n) for n in inputs], [declared(n) for n in outputs])
    external = [w.name for w in proto.graph.initializer if w.data_location == TensorProto.EXTERNAL]
    return Segment(
        proto.SerializeToString(deterministic=True),
        tuple(external),
        {renamed.get(name, name): name for name in inputs},
        {renamed.get(name, name): name for name in outputs},
        fused,
    )


def _renaming(
    nodes: Sequence[NodeProto], inputs: Sequence[str], weights: Mapping[str, object]
) -> dict[str, str]:
    tensors = dict.fromkeys(inputs)
    tensors.update((name, None) for node in nodes for name in node.output if name)
    return {name: f".{at}" for at, name in enumerate(n for n in tensors if n not in weights)}


def _with_names(node: NodeProto, renamed: Mapping[str, str], name: str) -> NodeProto:
    copy = NodeProto()
    copy.CopyFrom(node)
    copy.name = name
    copy.doc_string = ""
    del copy.input[:], copy.output[:], copy.metadata_props[:]
    copy.input.extend(renamed.get(tensor, tensor) for tensor in node.input)
    copy.output.extend(renamed.get(tensor, tensor) for tensor in node.output)
    return copy


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
    work = model.work
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
                segments[position] = segment_of(
                    model, names, inputs, outputs or written[:1], types, fused=step.fused
                )
                wanted.update(read)
        found.append(dict(sorted(segments.items())))
    return found
