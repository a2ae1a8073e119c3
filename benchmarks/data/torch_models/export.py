"""Models of the catalogue as ONNX, and as a joint program of forward and backward pass."""

import onnx
import onnx_ir
import torch
from onnx import ModelProto
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.export.exported_program import _decompose_exported_program
from torch.nn import functional

from benchmarks.data.torch_models.catalogue import MODELS

OPSET = 20
_LARGEST_INLINE_BYTES = 1024


def onnx_program(name: str, *, any_batch: bool, batch: int | None = None) -> torch.onnx.ONNXProgram:
    """Export the forward pass for a batch (the catalogue's where none is given), or for any where
    the model allows it."""
    torch.manual_seed(0)
    model = MODELS[name]
    inputs = model.inputs(1 if any_batch else batch or model.batch)
    shapes = tuple({0: torch.export.Dim("batch")} for _ in inputs) if any_batch else None
    program = torch.onnx.export(
        model.build().eval(),
        inputs,
        dynamo=True,
        opset_version=OPSET,
        dynamic_shapes=shapes,
        verbose=False,
    )
    if program is None:
        raise RuntimeError(f"{name}: torch wrote no ONNX program")
    return program


def without_weights(program: torch.onnx.ONNXProgram, location: str) -> ModelProto:
    """The model with its large weights declared to lie in a file that is not written."""
    offset = 0
    for value in program.model.graph.initializers.values():
        weight = value.const_value
        if weight is not None and weight.nbytes >= _LARGEST_INLINE_BYTES:
            value.const_value = onnx_ir.ExternalTensor(
                location, offset, weight.nbytes, weight.dtype,
                shape=onnx_ir.Shape(weight.shape), name=value.name or "",
            )  # fmt: skip
            offset += weight.nbytes
    proto = onnx_ir.to_proto(program.model)
    assert isinstance(proto, onnx.ModelProto)
    return proto


class _Step(nn.Module):
    """A model with its loss."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: tuple[Tensor, ...], labels: Tensor) -> Tensor:
        output = self.model(*inputs)
        if labels.is_floating_point():
            return functional.mse_loss(output, labels)
        return functional.cross_entropy(output.flatten(0, -2), labels.flatten())


def joint_program(name: str) -> ExportedProgram:
    """Forward and backward pass for the catalogue's training batch, as ATen calls.

    Backward ops that have a kernel of their own (of normalizations, softmax, attention) stay
    whole: torch runs them so.
    """
    torch.manual_seed(0)
    model = MODELS[name]
    batch = model.training_batch
    example = (model.inputs(batch), model.labels(batch))
    program = torch.export.export(_Step(model.build().train()), example)
    return _decompose_exported_program(
        program,
        cia_to_decomp={},
        python_decomp_table={},
        joint_loss_index=0,
        decompose_custom_triton_ops=False,
    )
