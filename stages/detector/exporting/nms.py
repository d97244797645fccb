"""NMS in the ONNX file: its own operator, whose list of survivors becomes the mask of fixed size that models want."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from onnxscript import opset20

import detector.models.postprocess  # noqa: F401  it registers the operator that is translated here

op: Any = opset20  # its stubs know no values that have yet to be computed
FLOAT, BOOL = 1, 9  # of onnx.TensorProto


def nms_mask(boxes_xyxy: Any, groups: Any, iou_threshold: float) -> Any:
    """`batched_nms_mask` in ONNX: boxes [B, K, 4] and groups int64 [B, K] -> bool [B, K].

    The operator takes a score for every group; of its own group a candidate's is its rank, so that the order is
    that of the list, and of all others 0, which is below its threshold.
    """
    zero, one = op.Constant(value_int=0), op.Constant(value_int=1)
    first, second = op.Constant(value_ints=[0]), op.Constant(value_ints=[1])
    candidates = op.Gather(op.Shape(groups), second, axis=0)  # [1]
    rank = op.Cast(op.Range(op.Squeeze(candidates), zero, op.Constant(value_int=-1)), to=FLOAT)  # [K]
    names = op.Range(zero, op.Add(op.ReduceMax(groups, keepdims=0), one), one)  # [G]
    own = op.Equal(op.Unsqueeze(groups, second), op.Unsqueeze(names, second))  # [B, G, K]
    scores = op.Where(own, rank, op.Constant(value_float=0.0))
    kept = op.NonMaxSuppression(
        boxes_xyxy, scores, candidates, op.Constant(value_floats=[iou_threshold]), op.Constant(value_floats=[0.0])
    )  # [S, 3]: image, group, candidate
    places = op.Gather(kept, op.Constant(value_ints=[0, 2]), axis=1)
    nobody = op.Expand(op.Cast(zero, to=BOOL), op.Shape(groups))
    chosen = op.Expand(op.Cast(one, to=BOOL), op.Gather(op.Shape(kept), first, axis=0))  # [S]
    return op.ScatterND(nobody, places, chosen)


TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {torch.ops.detector.nms_mask.default: nms_mask}
