"""Box arithmetic in NumPy. Function names state the box format; all boxes are float arrays [N, 4]."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float64]
XYXY = tuple[float, float, float, float]


def xyxy_to_xywh(boxes_xyxy: Boxes) -> Boxes:
    """(left, top, right, bottom) -> (left, top, width, height)."""
    left_top, right_bottom = boxes_xyxy[..., :2], boxes_xyxy[..., 2:]
    return np.concatenate([left_top, right_bottom - left_top], axis=-1)


def xywh_to_xyxy(boxes_xywh: Boxes) -> Boxes:
    """(left, top, width, height) -> (left, top, right, bottom)."""
    left_top, size = boxes_xywh[..., :2], boxes_xywh[..., 2:]
    return np.concatenate([left_top, left_top + size], axis=-1)


def area_xyxy(boxes_xyxy: Boxes) -> NDArray[np.float64]:
    """Box areas [N]; 0 for a box whose corners are in the wrong order."""
    size = np.clip(boxes_xyxy[..., 2:] - boxes_xyxy[..., :2], 0, None)
    return size[..., 0] * size[..., 1]


def pairwise_iou_xyxy(first_xyxy: Boxes, second_xyxy: Boxes) -> NDArray[np.float64]:
    """IoU of every pair: [N, 4] and [M, 4] -> [N, M]; 0 where the union is empty."""
    left_top = np.maximum(first_xyxy[:, None, :2], second_xyxy[None, :, :2])
    right_bottom = np.minimum(first_xyxy[:, None, 2:], second_xyxy[None, :, 2:])
    size = np.clip(right_bottom - left_top, 0, None)  # [N, M, 2]
    intersection = size[..., 0] * size[..., 1]
    union = area_xyxy(first_xyxy)[:, None] + area_xyxy(second_xyxy)[None, :] - intersection
    iou: NDArray[np.float64] = np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)
    return iou


def iou_xyxy(first: XYXY, second: XYXY) -> float:
    """IoU of two boxes, the same as `pairwise_iou_xyxy` to the last digit; of a few, this is faster."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    first_area, second_area = ((right - left) * (bottom - top) for left, top, right, bottom in (first, second))
    return width * height / (first_area + second_area - width * height)


def to_input_pixels(boxes_xyxy: NDArray[Any], scale: tuple[float, float]) -> Boxes:
    """Pixels of the image -> pixels of the letterboxed input; scale: input pixels per image pixel in x and y."""
    scaled: Boxes = boxes_xyxy.astype(np.float64) * np.tile(scale, 2)
    return scaled


def to_image_pixels(boxes_xyxy: NDArray[Any], scale: tuple[float, float]) -> Boxes:
    """Pixels of the letterboxed input -> pixels of the image; scale: input pixels per image pixel in x and y."""
    scaled: Boxes = boxes_xyxy.astype(np.float64) / np.tile(scale, 2)
    return scaled


def scale_to_fit(width: int, height: int, target_width: int, target_height: int) -> float:
    """The largest factor at which an image fits into its letterbox; `fit_size` and `fit_scale` round it."""
    return min(target_width / width, target_height / height)
