"""Costs of TensorFlow's image and detection ops: crops, colours, suppression of boxes."""

from collections.abc import Mapping
from math import log2

from graphs.costs.formulas import copying, output_elements, per_output_element
from graphs.costs.work import Formula, OpCost, Signature, Work
from graphs.kinds import OpKind

#: Flops of an intersection over union, as in the table of ONNX.
_OVERLAP = 10.0
#: Flops of a bilinear sample, from four pixels.
_SAMPLE = 8.0


def _pairs(boxes: int, selected: int) -> float:
    """Comparisons of a greedy search: each box with those that were selected before it."""
    selected = min(selected, boxes)
    return selected * (2 * boxes - selected) / 2


def _sorting(boxes: int) -> float:
    return boxes * log2(max(boxes, 2))


def _suppression(flops_per_pair: float) -> Formula:
    """Sorts boxes by score, then selects greedily; the first output is as long as may be chosen."""

    def formula(op: Signature) -> Work:
        boxes, selected = op.inputs[1].elements, op.outputs[0].elements
        flops = _sorting(boxes) + flops_per_pair * _pairs(boxes, selected)
        return Work(flops, op.input_bytes, op.output_bytes)

    return formula


def _combined_suppression(op: Signature) -> Work:
    """For each image and class; no class selects more than all together may."""
    images, boxes, classes = op.inputs[1].shape
    each = _sorting(boxes) + _OVERLAP * _pairs(boxes, op.outputs[0].shape[1])
    return Work(images * classes * each, op.input_bytes, op.output_bytes)


def _proposals(op: Signature) -> Work:
    """Decodes anchors (about 30 flops each), sorts them and suppresses per image."""
    images, anchors = op.inputs[0].shape[0], op.inputs[0].elements // max(op.inputs[0].shape[0], 1)
    selected = op.outputs[1].shape[-1]
    each = 30.0 * anchors + _sorting(anchors) + _OVERLAP * _pairs(anchors, selected)
    return Work(images * each, op.input_bytes, op.output_bytes)


def _sampled(flops: float) -> Formula:
    """Bilinear samples of parts of an image: four pixels for each element of the output."""

    def formula(op: Signature) -> Work:
        image, rest = op.inputs[0].bytes, sum(tensor.bytes for tensor in op.inputs[1:])
        read = min(image, 4 * op.output_bytes) + rest
        return Work(flops * output_elements(op), read, op.output_bytes)

    return formula


def _crop_image_gradient(op: Signature) -> Work:
    """Clears the image's gradient, then adds each gradient to four pixels."""
    grads = op.inputs[0]
    scattered = 4 * grads.bytes
    return Work(_SAMPLE * grads.elements, op.input_bytes + scattered, op.output_bytes + scattered)


def _crop_box_gradient(op: Signature) -> Work:
    """Reads the four pixels of each sample; two directions, so twice a sample's flops."""
    grads, image = op.inputs[0], op.inputs[1]
    rest = sum(tensor.bytes for tensor in op.inputs[2:])
    read = grads.bytes + min(image.bytes, 4 * grads.bytes) + rest
    return Work(2 * _SAMPLE * grads.elements, read, op.output_bytes)


def _all(kind: OpKind, formula: Formula, *names: str) -> dict[str, OpCost]:
    return dict.fromkeys(names, OpCost(kind, formula))


IMAGE_OPS: Mapping[str, OpCost] = {
    **_all(
        OpKind.SORT, _suppression(_OVERLAP),
        "NonMaxSuppression", "NonMaxSuppressionV2", "NonMaxSuppressionV3", "NonMaxSuppressionV4",
        "NonMaxSuppressionV5",
    ),
    **_all(OpKind.SORT, _suppression(1.0), "NonMaxSuppressionWithOverlaps"),
    **_all(OpKind.SORT, _combined_suppression, "CombinedNonMaxSuppression"),
    **_all(OpKind.SORT, _proposals, "GenerateBoundingBoxProposals"),
    **_all(OpKind.RESIZE, _sampled(_SAMPLE), "CropAndResize"),
    # The projection of a point takes as much as its sample.
    **_all(OpKind.RESIZE, _sampled(2 * _SAMPLE), "ImageProjectiveTransformV2",
           "ImageProjectiveTransformV3"),
    **_all(OpKind.RESIZE, _crop_image_gradient, "CropAndResizeGradImage"),
    **_all(OpKind.RESIZE, _crop_box_gradient, "CropAndResizeGradBoxes"),
    **_all(OpKind.SPLIT, copying, "ExtractGlimpse", "ExtractGlimpseV2", "RandomCrop"),
    **_all(OpKind.GATHER, copying, "ExtractVolumePatches"),
    **_all(OpKind.ELEMENTWISE, copying, "DrawBoundingBoxes", "DrawBoundingBoxesV2"),
    # A maximum, a minimum, divisions and selections for each of three channels.
    **_all(OpKind.ELEMENTWISE, per_output_element(6.0), "RGBToHSV", "HSVToRGB"),
    **_all(OpKind.ELEMENTWISE, per_output_element(13.0), "AdjustHue", "AdjustSaturation"),
    **_all(OpKind.ELEMENTWISE, per_output_element(4.0), "AdjustContrast", "AdjustContrastv2"),
}  # fmt: skip
