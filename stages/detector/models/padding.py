"""The content area of letterboxed images, read from the pixels: batches carry no mask."""

from __future__ import annotations

import torch
from torch import Tensor


def measure_content(images: Tensor, fill: Tensor) -> Tensor:
    """Height and width in pixels of each image without its padding: float32 [B, 2], at least 1.

    images: uint8 [B, 3, H, W]. fill: the padding color, integers [1, 3, 1, 1]. Padding is the last rows and columns
    that contain only this color; an image of only this color counts as content.
    """
    # As floats: ONNX Runtime before 1.22 does not compare bytes.
    is_content = (images.float() != fill).any(dim=1)  # [B, H, W]
    return torch.stack([_find_end(is_content.any(dim=2)), _find_end(is_content.any(dim=1))], dim=1)


def _find_end(is_content: Tensor) -> Tensor:
    """The position after the last True in [B, N], N if there is none: float32 [B]."""
    length = is_content.shape[1]
    position = torch.arange(1, length + 1, device=is_content.device, dtype=torch.float32)
    end = (is_content * position).amax(dim=1)
    return torch.where(end > 0, end, float(length))


def make_content_mask(content: Tensor, cells: tuple[int, int], stride: int) -> Tensor:
    """Which cells of a feature map start inside the content: bool [B, *cells], never all False.

    content: from `measure_content`. stride: pixels per cell.
    """
    rows, columns = (torch.arange(count, device=content.device) * stride for count in cells)
    inside_rows = rows < content[:, :1]  # [B, h]
    inside_columns = columns < content[:, 1:]  # [B, w]
    return inside_rows[:, :, None] & inside_columns[:, None, :]
