"""Work of ONNX ops that move data without computing: views, gathers, copies, sequences, text."""

from graphs.costs.formulas import copying, free, input_elements, per_output_element, scattering
from graphs.costs.work import OpCost, Signature, Work
from graphs.kinds import OpKind


def gathering(op: Signature) -> Work:
    """Reads the picked elements and the indices, not the whole table."""
    indices = sum(tensor.bytes for tensor in op.inputs[1:])
    return Work(0.0, op.output_bytes + indices, op.output_bytes)


def filling(op: Signature) -> Work:
    """Writes without reading."""
    return Work(0.0, 0.0, op.output_bytes)


def expanding(op: Signature) -> Work:
    """Reads the small input once and writes the large output."""
    return Work(0.0, op.inputs[0].bytes, op.output_bytes)


def _scattering_copy(op: Signature) -> Work:
    """The output is a new tensor: the target is copied, then the updates are written over it."""
    flops = input_elements(op) if op.text("reduction", "none") != "none" else 0
    return Work(float(flops), op.input_bytes, op.output_bytes)


def _folding(op: Signature) -> Work:
    """Col2Im: every column element is added into the image."""
    return Work(op.inputs[0].elements, op.inputs[0].bytes + op.output_bytes, op.output_bytes)


def _cache_update(op: Signature) -> Work:
    """A cache is updated in place: only the new rows move."""
    work = scattering(op.inputs[1])
    return Work(0.0, op.inputs[1].bytes, work.bytes_written)


def _searching(op: Signature) -> Work:
    return Work(input_elements(op), op.input_bytes, op.output_bytes)


#: Ops whose first output is their first input's buffer under another shape or name.
ALIASING = frozenset(
    {
        "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Dropout", "BitCast", "Optional",
        "OptionalGetElement",
    }
)  # fmt: skip

MOVEMENT_OPS: dict[str, OpCost] = {
    **{name: OpCost(OpKind.VIEW, free) for name in ALIASING},
    **{
        name: OpCost(OpKind.SHAPE, free)
        for name in ("Shape", "Size", "SequenceLength", "OptionalHasElement")
    },
    **{name: OpCost(OpKind.GATHER, gathering) for name in ("Gather", "GatherElements", "GatherND")},
    **{
        name: OpCost(OpKind.SCATTER, _scattering_copy)
        for name in ("Scatter", "ScatterElements", "ScatterND")
    },
    **{
        name: OpCost(OpKind.TRANSPOSE, copying)
        for name in ("Transpose", "DepthToSpace", "SpaceToDepth")
    },
    **{name: OpCost(OpKind.BROADCAST, expanding) for name in ("Expand", "Tile")},
    **{
        name: OpCost(OpKind.BROADCAST, filling) for name in ("ConstantOfShape", "EyeLike", "Range")
    },
    **{
        name: OpCost(OpKind.CONCAT, copying)
        for name in ("Concat", "ConcatFromSequence", "SequenceConstruct", "SequenceInsert")
    },
    **{
        name: OpCost(OpKind.SPLIT, copying)
        for name in ("Split", "SplitToSequence", "Slice", "SequenceErase")
    },
    **{name: OpCost(OpKind.PAD, copying) for name in ("Pad", "CenterCropPad")},
    **{
        name: OpCost(OpKind.CONTROL_FLOW, free) for name in ("If", "Loop", "Scan", "SequenceMap")
    },
    **{
        name: OpCost(OpKind.HOST, per_output_element(1))
        for name in (
            "RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit",
            "TfIdfVectorizer", "ImageDecoder",
        )
    },
    "Col2Im": OpCost(OpKind.SCATTER, _folding),
    "Compress": OpCost(OpKind.GATHER, gathering),
    "Constant": OpCost(OpKind.CONSTANT, free),
    "MaxUnpool": OpCost(OpKind.SCATTER, _scattering_copy),
    "NonZero": OpCost(OpKind.GATHER, _searching),
    "OneHot": OpCost(OpKind.SCATTER, filling),
    "ReverseSequence": OpCost(OpKind.GATHER, copying),
    "SequenceAt": OpCost(OpKind.GATHER, copying),
    "SequenceEmpty": OpCost(OpKind.CONSTANT, free),
    "TensorScatter": OpCost(OpKind.SCATTER, _cache_update),
}  # fmt: skip
