"""An ONNX model that is put together op by op, with shapes drawn from a seed."""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper

#: Sizes that designers of networks choose; half of all sizes drawn are the nearest of these.
_USUAL = np.array(
    (1, 2, 3, 4, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 72, 80, 96, 112, 128,
     144, 160, 192, 196, 224, 256, 288, 320, 384, 448, 512, 576, 640, 768, 896, 1000, 1024, 1152,
     1280, 1536, 1792, 2048, 2304, 2560, 3072, 4096)
)  # fmt: skip


class ModelOfKernels:
    """Collects ops; every chain has inputs of its own, and its last tensor is an output."""

    def __init__(self, seed: int) -> None:
        self.opset = (17, 20)[seed % 2]
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.weights: list[TensorProto] = []
        self.outputs: list[str] = []

    def whole(self, low: int, high: int) -> int:
        """A whole number between, small ones as often as large ones, usual ones more often."""
        drawn = 2 ** self.random.uniform(np.log2(low), np.log2(high))
        near = _USUAL[np.abs(np.log(_USUAL / drawn)).argmin()]
        if self.random.random() < 0.5 and low <= near <= high:
            return int(near)
        return round(drawn)

    def chance(self, share: float) -> bool:
        """True in so many cases."""
        return bool(self.random.random() < share)

    def pick(self, choices: Sequence) -> object:
        """One of them, each as often."""
        return choices[int(self.random.integers(len(choices)))]

    def input(self, *shape: int, kind: int = TensorProto.FLOAT) -> str:
        """A new input of the model."""
        name = f"in{len(self.inputs)}"
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def weight(self, *shape: int) -> str:
        """A weight whose values are in no file; whoever runs the model draws them."""
        name = f"w{len(self.weights)}"
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape)
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="no-such-file")
        self.weights.append(tensor)
        return name

    def numbers(self, *values: int) -> str:
        """A constant of whole numbers."""
        name = f"w{len(self.weights)}"
        self.weights.append(helper.make_tensor(name, TensorProto.INT64, [len(values)], values))
        return name

    def scalar(self, value: float) -> str:
        """A constant without dimensions."""
        name = f"w{len(self.weights)}"
        self.weights.append(helper.make_tensor(name, TensorProto.FLOAT, [], [value]))
        return name

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: object) -> str:
        """Append an op; returns its first output."""
        names = [f"t{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(
            helper.make_node(kind, inputs, names, f"{kind}{len(self.nodes)}", **attributes)
        )
        return names[0]

    def model(self) -> onnx.ModelProto:
        """What was collected; tensors that nobody reads are outputs."""
        read = {name for node in self.nodes for name in node.input}
        made = [name for node in self.nodes for name in node.output if name not in read]
        outputs = [onnx.ValueInfoProto(name=name) for name in made]
        graph = helper.make_graph(self.nodes, "kernels", self.inputs, outputs, self.weights)
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8
        )
