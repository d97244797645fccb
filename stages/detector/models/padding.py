"""Where a letterboxed picture ends and its padding begins, read from the pixels: no mask travels with the images."""

from __future__ import annotations

import torch
from torch import Tensor


def content_size(images: Tensor, fill: Tensor) -> Tensor:
    """Height and width in pixels of each picture without its padding: float32 [B, 2], at least 1.

    Padding are the last columns and the last rows that hold nothing but the colour `fill`, which are whole
    numbers [1, 3, 1, 1]; images are uint8 [B, 3, H, W]. A picture of that colour alone counts in full.
    """
    seen = (images != fill.to(images.dtype)).any(dim=1)  # [B, H, W]
    return torch.stack([_last(seen.any(dim=2)), _last(seen.any(dim=1))], dim=1)


def _last(seen: Tensor) -> Tensor:
    """How many of [B, N] there are up to the last one seen, N where none is: float32 [B]."""
    length = seen.shape[1]
    number = torch.arange(1, length + 1, device=seen.device, dtype=torch.float32)
    last = (seen * number).amax(dim=1)
    return torch.where(last > 0, last, float(length))


def content_mask(content: Tensor, cells: tuple[int, int], stride: int) -> Tensor:
    """Which cells of a feature map begin within the picture: bool [B, *cells], never all False.

    content: from `content_size`. stride: pixels per cell.
    """
    rows, columns = (torch.arange(count, device=content.device) * stride for count in cells)
    inside_rows = rows < content[:, :1]  # [B, h]
    inside_columns = columns < content[:, 1:]  # [B, w]
    return inside_rows[:, :, None] & inside_columns[:, None, :]
