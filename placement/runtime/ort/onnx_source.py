"""An ONNX model made ready to run op by op: flat nodes by op name, weights and inputs in memory.

Step times depend on shapes and types, hardly on values. Where a file refers to weights that are
not there, and for the model's inputs, values are drawn from a seed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto, helper, numpy_helper

from graphs.graph import Graph
from graphs.importers.onnx_models.file import read_onnx
from graphs.importers.onnx_models.steps import OnnxSteps, onnx_steps
from graphs.importers.onnx_models.topology import read_names
from placement.runtime.errors import RuntimeRefusal
from placement.runtime.programs.device_program import TensorUse

#: onnxruntime refuses models of newer IR versions than it knows.
_IR_VERSION = 10
#: Whole numbers are drawn below it, so that they are legal rows of any table.
_WHOLE_RANGE = 2


@dataclass(frozen=True, eq=False)
class RunnableModel:
    """The nodes of a model under their op names, and all that they read."""

    name: str
    nodes: Mapping[str, NodeProto]
    """In topological order; `Constant` nodes are weights here."""
    weights: Mapping[str, np.ndarray]
    inputs: Mapping[str, np.ndarray]
    outputs: tuple[str, ...]
    """What the model promises, without inputs or weights that it hands through."""
    opsets: tuple[OperatorSetIdProto, ...]

    @cached_property
    def work(self) -> Mapping[str, TensorUse]:
        """What each op reads and writes, by op name; weights are not read but held."""
        return {
            name: TensorUse(
                tuple(tensor for tensor in read_names(node) if tensor not in self.weights),
                tuple(tensor for tensor in node.output if tensor),
            )
            for name, node in self.nodes.items()
        }

    @cached_property
    def shared(self) -> Mapping[str, np.ndarray]:
        """Weights and inputs that workers can map, in a type that NumPy has itself."""
        arrays = {**self.weights, **self.inputs}
        return {name: array for name, array in arrays.items() if _is_shareable(array)}

    def model(
        self,
        nodes: Sequence[NodeProto],
        inputs: Sequence[ValueInfoProto],
        outputs: Sequence[ValueInfoProto],
    ) -> onnx.ModelProto:
        """Nodes of this model as a model; its weights are external and never in a file."""
        read = dict.fromkeys(tensor for node in nodes for tensor in read_names(node))
        weights = [_declared(name, self.weights[name]) for name in read if name in self.weights]
        graph = helper.make_graph(nodes, "segment", inputs, outputs, weights)
        return helper.make_model(graph, opset_imports=self.opsets, ir_version=_IR_VERSION)


def load_runnable(path: Path, graph: Graph, dims: Mapping[str, int], seed: int) -> RunnableModel:
    """Read the file that `graph` was imported from, and fill in what it lacks.

    Raises:
        ModelError: the file cannot be read.
        RuntimeRefusal: its ops are not those of the graph, or it takes what cannot be drawn.
    """
    model = read_onnx(path)
    steps = onnx_steps(model, dims, str(path), path.parent)
    random = np.random.default_rng(seed)
    weights = {
        tensor.name: _array(tensor, path.parent, random) for tensor in model.graph.initializer
    }
    weights |= {tensor: _constant(node, path) for tensor, node in steps.constants.items()}
    weights |= {
        name: drawn(name, value.spec.shape, value.elem_type, random)
        for name in sorted(steps.parameters)
        if (value := steps.weights[name])
    }
    chosen = {step.name: step.node for step in steps.steps}
    strange = [name for name in chosen if name not in graph.op_index]
    if strange:
        raise RuntimeRefusal(
            f"{path}: op {strange[0]!r} is not in graph {graph.name!r}; give the file that the "
            "graph was imported from"
        )
    read = {tensor for step in steps.steps for tensor in step.reads}
    weights |= _folded(steps, [name for name in steps.folded if name in read], weights, path)
    written = {tensor for node in chosen.values() for tensor in node.output}
    return RunnableModel(
        name=Path(graph.name).name,
        nodes=chosen,
        weights={name: array for name, array in weights.items() if name in read},
        inputs={
            name: drawn(name, value.spec.shape, value.elem_type, random)
            for name, value in steps.binding.inputs.items()
            if name in read and name not in steps.parameters
        },
        outputs=tuple(name for name in steps.outputs if name in written),
        opsets=tuple(steps.opsets),
    )


def _folded(
    steps: OnnxSteps, names: Sequence[str], weights: Mapping[str, np.ndarray], path: Path
) -> dict[str, np.ndarray]:
    """Values of what is computed of weights alone: onnxruntime makes them, once.

    Raises:
        RuntimeRefusal: it cannot.
    """
    if not names:
        return {}
    import onnxruntime

    made, stored = steps.made_of(names)
    given = {name: weights[name] for name in stored if _is_shareable(weights[name])}
    graph = helper.make_graph(
        [step.node for step in made],
        "folded",
        [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
            )
            for name, array in given.items()
        ],
        [ValueInfoProto(name=name) for name in names],
        [numpy_helper.from_array(weights[name], name) for name in stored if name not in given],
    )
    model = helper.make_model(graph, opset_imports=steps.opsets, ir_version=_IR_VERSION)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        results = session.run(list(names), given)
    except session_errors() as error:
        raise RuntimeRefusal(f"{path}: its constants cannot be computed ({error})") from error
    return {name: _plain(array, name) for name, array in zip(names, results, strict=True)}


def session_errors() -> tuple[type[Exception], ...]:
    """What onnxruntime raises; its errors share no base."""
    from onnxruntime.capi import onnxruntime_pybind11_state as native

    own = [item for item in vars(native).values() if isinstance(item, type)]
    return (RuntimeError, *(item for item in own if issubclass(item, Exception)))


def _declared(name: str, array: np.ndarray) -> TensorProto:
    if not _is_shareable(array):  # a few bits each: packed into every session that reads them
        return numpy_helper.from_array(array, name)
    elem_type = helper.np_dtype_to_tensor_dtype(array.dtype)
    tensor = TensorProto(name=name, data_type=elem_type, dims=array.shape)
    if array.nbytes <= SMALL_BYTES:
        tensor.raw_data = array.tobytes()
    else:
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="weights")
    return tensor


#: Weights up to this size are part of each model; larger ones are shared by all sessions.
SMALL_BYTES = 1024


def _array(tensor: TensorProto, folder: Path, random: np.random.Generator) -> np.ndarray:
    if tensor.data_location == TensorProto.EXTERNAL:
        location = next((e.value for e in tensor.external_data if e.key == "location"), "")
        if not (folder / location).is_file():
            return drawn(tensor.name, tuple(tensor.dims), tensor.data_type, random)
    try:
        array = numpy_helper.to_array(tensor, str(folder))
    except (ValueError, TypeError, OSError) as error:
        raise RuntimeRefusal(f"weight {tensor.name!r} cannot be read ({error})") from error
    return _plain(array, tensor.name)


def _constant(node: NodeProto, path: Path) -> np.ndarray:
    for attribute in node.attribute:
        value = helper.get_attribute_value(attribute)
        match attribute.name:
            case "value":
                return _plain(numpy_helper.to_array(value, str(path.parent)), node.output[0])
            case "value_int" | "value_ints":
                return np.array(value, np.int64)
            case "value_float" | "value_floats":
                return np.array(value, np.float32)
    raise RuntimeRefusal(f"{path}: Constant {node.output[0]!r} holds text or a sparse tensor")


def _is_shareable(array: np.ndarray) -> bool:
    return array.dtype.kind in "fiubc"


def _plain(array: np.ndarray, name: str) -> np.ndarray:
    if array.dtype.hasobject or array.dtype.kind in "OSU":
        raise RuntimeRefusal(f"tensor {name!r} holds {array.dtype}, which the runtime cannot move")
    return np.ascontiguousarray(array).reshape(array.shape)


def drawn(
    name: str, shape: Sequence[int], elem_type: int, random: np.random.Generator
) -> np.ndarray:
    """Values that keep activations near one, and whole numbers that any table has a row for."""
    dtype = helper.tensor_dtype_to_np_dtype(elem_type)
    if dtype.kind == "f":
        if len(shape) < 2:  # also the variances of batch normalisations, which are positive
            return np.asarray(random.uniform(0.5, 1.5, shape), dtype)
        values = random.standard_normal(shape, np.float32) / np.sqrt(max(prod(shape[1:]), 1))
        return np.asarray(values, dtype)
    if dtype.kind in "iu":
        return random.integers(0, _WHOLE_RANGE, shape).astype(dtype)
    if dtype.kind == "b":
        return random.integers(0, 2, shape).astype(bool)
    raise RuntimeRefusal(f"input {name!r} holds {dtype}, for which no values can be drawn")
