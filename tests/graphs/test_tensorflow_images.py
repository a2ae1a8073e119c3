"""Costs of image and detection ops by hand, and of a detection head as TensorFlow writes it."""

from math import log2
from typing import Any

import pytest
import tensorflow as tf

from graphs.costs.tensorflow_ops import TENSORFLOW_OPS
from graphs.costs.work import Signature, TensorSpec, Work
from graphs.importers.tensorflow_models.graph import import_tf_graph

tf1 = tf.compat.v1


def _work(op_type: str, inputs: list[Any], outputs: list[Any]) -> Work:
    op = Signature(op_type, [TensorSpec(s) for s in inputs], [TensorSpec(s) for s in outputs])
    return TENSORFLOW_OPS[op_type].formula(op)


@pytest.mark.parametrize("version", ["", "V2", "V3", "V4", "V5"])
def test_suppression_compares_boxes_with_those_selected(version: str) -> None:
    inputs = [(1000, 4), (1000,), (), (), (), ()]
    few = _work(f"NonMaxSuppression{version}", inputs, [(100,)])
    assert few.flops == 1000 * log2(1000) + 10 * (100 * 1000 - 100 * 100 / 2)
    every = _work(f"NonMaxSuppression{version}", inputs, [(1000,)])
    assert every.flops == 1000 * log2(1000) + 10 * 1000 * 1000 / 2  # every pair once


def test_suppression_by_given_overlaps_only_looks_them_up() -> None:
    given = _work("NonMaxSuppressionWithOverlaps", [(50, 50), (50,), (), (), ()], [(50,)])
    assert given.flops == 50 * log2(50) + 50 * 50 / 2


def test_combined_suppression_counts_images_and_classes() -> None:
    inputs = [(2, 300, 1, 4), (2, 300, 90), (), (), (), ()]
    outputs = [(2, 100, 4), (2, 100), (2, 100), (2,)]
    one = 300 * log2(300) + 10 * (100 * 300 - 100 * 100 / 2)
    assert _work("CombinedNonMaxSuppression", inputs, outputs).flops == pytest.approx(180 * one)


def test_crops_read_what_they_sample() -> None:
    inputs = [(1, 2000, 2000, 3), (10, 4), (10,), (2,)]
    crop = _work("CropAndResize", inputs, [(10, 14, 14, 3)])
    assert crop.flops == 8 * 10 * 14 * 14 * 3
    assert crop.bytes_read == 4 * (4 * 10 * 14 * 14 * 3 + 40 + 10 + 2)
    back = _work("CropAndResizeGradImage", [(10, 14, 14, 3), (10, 4), (10,), (4,)],
                 [(1, 200, 200, 3)])  # fmt: skip
    assert back.flops == crop.flops
    assert back.bytes_written >= 4 * 200 * 200 * 3
    boxes = _work("CropAndResizeGradBoxes", [(10, 14, 14, 3), *inputs[:3]], [(10, 4)])
    assert boxes.flops == 2 * crop.flops


def test_a_detection_head_has_no_op_without_a_formula() -> None:
    live = tf.Graph()
    with live.as_default():
        image = tf1.placeholder(tf.float32, (1, 200, 300, 3), "image")
        boxes = tf1.placeholder(tf.float32, (500, 4), "boxes")
        scores = tf1.placeholder(tf.float32, (500,), "scores")
        chosen = tf.image.non_max_suppression(boxes, scores, 50)
        soft, _ = tf.image.non_max_suppression_with_scores(boxes, scores, 50, soft_nms_sigma=0.5)
        overlaps = tf.matmul(boxes, boxes, transpose_b=True)
        other = tf.image.non_max_suppression_overlaps(overlaps, scores, 50)
        where = tf.gather(boxes, tf.concat([chosen, soft, other], 0))
        crops = tf.image.crop_and_resize(image, where, tf.zeros_like(where[:, 0], tf.int32), [7, 7])
        colours = tf.image.adjust_hue(tf.image.rgb_to_hsv(image), 0.1)
        tf.identity(crops, name="crops")
        tf.image.combined_non_max_suppression(
            boxes[None, :, None], tf.stack([scores, scores], 1)[None], 10, 50, name="combined"
        )
        tf.identity(tf.image.adjust_contrast(colours, 2.0), name="colours")
        tf.identity(tf.image.adjust_saturation(image, 2.0), name="saturated")
    fetches = ["crops", "colours", "saturated", "combined/CombinedNonMaxSuppression"]
    graph = import_tf_graph(live, "head", fetches)
    assert graph.report.estimated_ops == {}
    crops = graph.op_index["crops"]
    assert tuple(graph.output_shapes[crops]) == (150, 7, 7, 3)
