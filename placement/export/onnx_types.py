"""Types of tensors that cross from one part of a model to another."""

from collections.abc import Iterator

from onnx import ModelProto, TypeProto, ValueInfoProto

from graphs.importers.onnx_models.steps import OnnxSteps


class TensorTypes:
    """What the inputs and outputs of a part are declared as.

    What the model itself declares for its inputs and outputs is taken word for word. Of other
    tensors the element type is certain; sizes are stated where they rest on no open dimension, so
    that parts run with every size that the model runs with, and nothing about the shape where it
    rests on an assumption. A tensor whose type is a guess never crosses (`onnx_parts.cut`); as an
    output it declares no type, which runtimes work out.
    """

    def __init__(self, model: ModelProto, steps: OnnxSteps) -> None:
        stated = (*model.graph.input, *model.graph.output)
        self._declared = {v.name: v for v in stated if v.type.WhichOneof("value")}
        self._steps = steps
        self._is_open = bool(steps.binding.sizes)

    def declare(self, name: str) -> ValueInfoProto:
        """A tensor as an input or output of a part."""
        if name in self._declared:
            return self._declared[name]
        value = self._steps.values[name]
        if value.guessed_type:
            return ValueInfoProto(name=name)
        kind = TypeProto()
        kind.CopyFrom(value.type)
        for tensor in _tensor_types(kind):
            if value.assumed:
                tensor.ClearField("shape")
            elif self._is_open:
                for dim in tensor.shape.dim:
                    dim.Clear()
        return ValueInfoProto(name=name, type=kind)


def _tensor_types(kind: TypeProto) -> Iterator[TypeProto.Tensor]:
    match kind.WhichOneof("value"):
        case "tensor_type":
            yield kind.tensor_type
        case "sequence_type":
            yield from _tensor_types(kind.sequence_type.elem_type)
        case "optional_type":
            yield from _tensor_types(kind.optional_type.elem_type)
