"""NMS in the ONNX file: the list returned by ONNX's operator is converted to the fixed-size mask that models use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from onnxscript import opset20

import detector.models.postprocess  # noqa: F401  registers the operator that is translated here

op: Any = opset20  # its type stubs do not cover symbolic values
FLOAT, INT64, BOOL = 1, 7, 9  # onnx.TensorProto data types


def nms_mask(boxes_xyxy: Any, groups: Any, iou_threshold: float, max_per_group: int) -> Any:
    """`batched_nms_mask` in ONNX: boxes [B, K, 4] and groups int64 [B, K] -> bool [B, K], the best `max_per_group`.

    The operator takes one score per group. A candidate's score is its rank in its own group, which keeps the order of
    the list, and 0 in all other groups, which is below the operator's threshold.
    """
    zero, one = op.Constant(value_int=0), op.Constant(value_int=1)
    first, second = op.Constant(value_ints=[0]), op.Constant(value_ints=[1])
    candidates = op.Gather(op.Shape(groups), second, axis=0)  # [1]
    rank = op.Cast(op.Range(op.Squeeze(candidates), zero, op.Constant(value_int=-1)), to=FLOAT)  # [K]
    group_ids = op.Range(zero, op.Add(op.ReduceMax(groups, keepdims=0), one), one)  # [G]
    own = op.Equal(op.Unsqueeze(groups, second), op.Unsqueeze(group_ids, second))  # [B, G, K]
    scores = op.Where(own, rank, op.Constant(value_float=0.0))
    kept = op.NonMaxSuppression(
        boxes_xyxy,
        scores,
        op.Constant(value_ints=[max_per_group]),
        op.Constant(value_floats=[iou_threshold]),
        op.Constant(value_floats=[0.0]),
    )  # [S, 3]: image, group, candidate
    indices = op.Gather(kept, op.Constant(value_ints=[0, 2]), axis=1)
    all_false = op.Expand(op.Cast(zero, to=BOOL), op.Shape(groups))
    all_true = op.Expand(op.Cast(one, to=BOOL), op.Gather(op.Shape(kept), first, axis=0))  # [S]
    return op.ScatterND(all_false, indices, all_true)


def is_all_true(values: Any) -> Any:
    """`aten._is_all_true`: bool of any shape -> bool scalar, of transformers' checks of feature map sizes."""
    return op.Cast(op.ReduceMin(op.Cast(values, to=INT64), keepdims=0), to=BOOL)


TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.detector.nms_mask.default: nms_mask,
    torch.ops.aten._is_all_true.default: is_all_true,
}
