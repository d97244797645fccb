"""Files to a batch: our uint8 image path beside the usual float one."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional

from benchmarks.table import Row, at_least, rate
from benchmarks.timing import compare
from detector.core.images import load_letterboxed

TARGET = 1.8


def uint8_batch(paths: list[Path], size: tuple[int, int]) -> Tensor:
    """uint8 [B, 3, H, W], as training, evaluation and export read it."""
    pixels = [load_letterboxed(path, size, (0, 0, 0)).pixels for path in paths]
    return torch.stack([torch.from_numpy(image.transpose(2, 0, 1).copy()) for image in pixels])


def float_batch(paths: list[Path], size: tuple[int, int]) -> Tensor:
    """float32 [B, 3, H, W]: decode in full, scale to 0..1, resize."""
    images = []
    for path in paths:
        with Image.open(path) as image:
            pixels = functional.pil_to_tensor(image.convert("RGB")).float() / 255
        images.append(functional.resize(pixels, list(size), antialias=True))
    return torch.stack(images)


def loading_row(paths: list[Path], size: tuple[int, int], pairs: int) -> Row:
    """Images/s on one thread; the images must have the proportions of `size` (H, W)."""
    with Image.open(paths[0]) as image:
        sizes = f"{image.width}×{image.height} → {size[1]}"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        uint8_batch(paths, size), float_batch(paths, size)  # warm up
        times = compare(lambda: uint8_batch(paths, size), lambda: float_batch(paths, size), pairs)
    finally:
        torch.set_num_threads(threads)
    return Row(
        f"decode + resize to a batch, {sizes}, one thread",
        rate(len(paths), times.here),
        f"{rate(len(paths), times.beside)} PIL + float32",
        *at_least(times.ratio, TARGET),
    )
