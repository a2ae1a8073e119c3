"""Costs of TensorFlow's data movement: views, copies, gathers, scatters, shapes, random numbers."""

from collections.abc import Mapping

from graphs.costs.formulas import copying, free, per_output_element, scattering, streaming
from graphs.costs.work import Formula, OpCost, Signature, Work
from graphs.kinds import OpKind


def _writing(op: Signature) -> Work:
    """Writes its output from next to no input (fills, one-hot, ranges)."""
    return Work(0.0, 0.0, op.output_bytes)


def _segment_sum(op: Signature) -> Work:
    """Adds every row of the data into its segment."""
    return streaming(float(op.inputs[0].elements), op)


def _largest_update(op: Signature) -> Work:
    """Scatters the largest input into a target of which only those rows are touched."""
    return scattering(max(op.inputs, key=lambda tensor: tensor.elements))


def _scatter_new(op: Signature) -> Work:
    """`ScatterNd`: clears the result, then adds the updates."""
    return Work(op.inputs[1].elements, op.inputs[1].bytes * 2, op.output_bytes)


def _slice_gradient(op: Signature) -> Work:
    """Clears the full-size gradient and copies the slice's into it."""
    return Work(0.0, op.inputs[-1].bytes, op.output_bytes)


def _all(kind: OpKind, formula: Formula, *names: str) -> dict[str, OpCost]:
    return dict.fromkeys(names, OpCost(kind, formula))


#: Ops whose first output shares the buffer of their first input.
VIEW_OPS = frozenset(
    {
        "Identity", "Reshape", "Squeeze", "ExpandDims", "StopGradient", "PreventGradient",
        "Bitcast", "EnsureShape", "PlaceholderWithDefault", "Snapshot", "IdentityN", "Enter",
        "Exit", "RefEnter", "RefExit", "RefIdentity", "Switch", "RefSwitch", "Merge", "RefMerge",
        "_SwitchN", "NextIteration", "RefNextIteration", "ReadVariableOp", "LoopCond",
        "DebugGradientIdentity",
    }
)  # fmt: skip

#: Ops that describe shapes: they run on the host and look at no tensor's content.
SHAPE_OPS = frozenset(
    {"Shape", "ShapeN", "Size", "Rank", "BroadcastGradientArgs", "BroadcastArgs", "ConcatOffset"}
)

MOVEMENT_OPS: Mapping[str, OpCost] = {
    **_all(OpKind.VIEW, free, *sorted(VIEW_OPS)),
    **_all(
        OpKind.CONTROL, free,
        "NoOp", "ControlTrigger", "Switch", "RefSwitch", "Merge", "RefMerge", "_SwitchN", "Enter",
        "Exit", "RefEnter", "RefExit", "NextIteration", "RefNextIteration", "LoopCond", "Abort",
    ),
    **_all(OpKind.SHAPE, free, *sorted(SHAPE_OPS)),
    **_all(OpKind.CONSTANT, free, "Const", "HostConst", "ImmutableConst"),
    **_all(OpKind.INPUT, free, "Placeholder", "PlaceholderV2", "_Arg", "IteratorGetNext",
           "IteratorGetNextSync", "QueueDequeueV2", "QueueDequeueManyV2"),
    **_all(OpKind.OUTPUT, free, "_Retval"),
    **_all(OpKind.TRANSPOSE, copying, "Transpose", "ConjugateTranspose", "SpaceToDepth",
           "DepthToSpace", "SpaceToBatch", "SpaceToBatchND", "BatchToSpace", "BatchToSpaceND",
           "DataFormatVecPermute", "DataFormatDimMap"),
    **_all(OpKind.CONCAT, copying, "Concat", "ConcatV2", "Pack", "ParallelConcat",
           "TensorListStack", "TensorListConcat", "TensorListConcatV2", "TensorArrayGatherV3",
           "TensorArrayConcatV3", "DynamicStitch", "ParallelDynamicStitch"),
    **_all(OpKind.SPLIT, copying, "Split", "SplitV", "Unpack", "Slice", "StridedSlice",
           "DynamicPartition", "TensorArrayScatterV3", "TensorArraySplitV3",
           "TensorArrayReadV3", "TensorArrayWriteV3", "TensorListFromTensor",
           "TensorListGetItem", "TensorListSetItem", "TensorListPushBack", "TensorListPopBack",
           "StackPushV2", "StackPopV2"),
    **_all(OpKind.PAD, copying, "Pad", "PadV2", "MirrorPad", "MirrorPadGrad"),
    **_all(OpKind.PAD, _slice_gradient, "StridedSliceGrad"),
    **_all(OpKind.BROADCAST, copying, "BroadcastTo", "Tile"),
    **_all(OpKind.REDUCE, per_output_element(1.0), "TileGrad"),
    **_all(OpKind.BROADCAST, _writing, "Fill", "OneHot", "ZerosLike", "OnesLike", "Range",
           "LinSpace", "Empty", "Diag", "DiagPart", "MatrixDiag", "MatrixDiagV2",
           "MatrixDiagV3", "MatrixDiagPartV3", "InvertPermutation"),
    **_all(OpKind.ELEMENTWISE, per_output_element(1.0), "MatrixBandPart", "MatrixSetDiagV3"),
    **_all(OpKind.TRANSPOSE, copying, "Reverse", "ReverseV2", "ReverseSequence", "Roll"),
    **_all(OpKind.GATHER, copying, "Gather", "GatherV2", "GatherNd", "ResourceGather",
           "ResourceGatherNd", "Where", "ExtractImagePatches", "DeepCopy", "Copy"),
    **_all(
        OpKind.SCATTER, _segment_sum,
        "UnsortedSegmentSum", "UnsortedSegmentMax", "UnsortedSegmentMin", "UnsortedSegmentProd",
        "SegmentSum", "SegmentMean", "SegmentMax", "SegmentMin", "SegmentProd",
        "SparseSegmentSum", "SparseSegmentMean", "SparseSegmentSqrtN",
        "SparseSegmentSumGrad", "SparseSegmentMeanGrad", "SparseSegmentSqrtNGrad",
    ),
    **_all(
        OpKind.SCATTER, _largest_update,
        "ResourceScatterAdd", "ResourceScatterSub", "ResourceScatterUpdate", "ResourceScatterMul",
        "ResourceScatterDiv", "ResourceScatterMin", "ResourceScatterMax", "ResourceScatterNdAdd",
        "ResourceScatterNdUpdate", "ScatterAdd", "ScatterSub", "ScatterUpdate",
        "TensorScatterUpdate", "TensorScatterAdd", "TensorScatterSub",
    ),
    **_all(OpKind.SCATTER, _scatter_new, "ScatterNd", "SparseToDense"),
    # A counter-based generator takes about ten integer operations a number; normals take more.
    **_all(
        OpKind.RANDOM, per_output_element(10.0),
        "RandomUniform", "RandomUniformInt", "RandomShuffle", "StatelessRandomUniform",
        "StatelessRandomUniformV2", "StatelessRandomUniformInt", "StatelessRandomUniformIntV2",
        "Multinomial", "StatelessMultinomial",
    ),
    **_all(
        OpKind.RANDOM, per_output_element(30.0),
        "RandomStandardNormal", "TruncatedNormal", "RandomGamma", "ParameterizedTruncatedNormal",
        "StatelessRandomNormal", "StatelessRandomNormalV2", "StatelessTruncatedNormal",
        "StatelessTruncatedNormalV2",
    ),
    **_all(
        OpKind.HOST, free,
        "Assert", "Print", "PrintV2", "StringFormat", "AsString", "StringJoin", "PyFunc",
        "EagerPyFunc", "ScalarSummary", "HistogramSummary", "MergeSummary", "ImageSummary",
        "SaveV2", "RestoreV2", "ReadFile", "WriteFile", "DecodeRaw", "ParseExample",
        "ParseExampleV2", "ParseSingleExample", "Timestamp", "StringSplit", "StringToNumber",
        "HashTableV2", "MutableHashTableV2", "LookupTableFindV2", "LookupTableSizeV2",
        "IteratorV2", "OneShotIterator", "AnonymousIterator", "FIFOQueueV2", "QueueEnqueueV2",
        "DummySeedGenerator",
    ),
    **_all(
        OpKind.SHAPE, free,
        "TensorArrayV3", "TensorArraySizeV3", "TensorArrayGradV3", "TensorArrayCloseV3",
        "TensorListReserve", "EmptyTensorList", "TensorListLength", "TensorListElementShape",
        "StackV2", "StackCloseV2", "GuaranteeConst",
    ),
    **_all(
        OpKind.COLLECTIVE, copying,
        "CollectiveReduce", "CollectiveReduceV2", "CollectiveGather", "CollectiveGatherV2",
        "CollectiveBcastSend", "CollectiveBcastRecv", "NcclAllReduce",
    ),
}  # fmt: skip
