"""Detections that depend on how sums are rounded: near-ties in which a model has several right answers.

LW-DETR and RF-DETR give their learned queries to the best cells in the order of the scores, so two scores that differ
by rounding only swap what two queries see. An exported file rounds differently and may then give the other answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from detector.engine.detections import Detections
from detector.exporting.parity_gate import ParityResult, Tolerance, compare_detections
from detector.runners.torch_runner import build_runner

# Relative noise of the normalized pixels, each level several times: from a few units in the last place of float32 to
# 0.02 of 255 gray levels, which is less than any difference that the gate looks for.
NOISE = tuple(2.0**exponent for exponent in range(-21, -13) for _ in range(8))


class Settled(NamedTuple):
    """expected: the model's detections, of an image with near-ties those of the variant that the file agrees with.
    unstable: the number of such images. parity: the comparison with `expected`.
    """

    expected: list[Detections]
    unstable: int
    parity: ParityResult


def vary_rounding(model: nn.Module, image: NDArray[np.uint8]) -> Iterator[Detections]:
    """Yield the detections on one image uint8 [3, H, W] with each level of NOISE on its normalized pixels.

    Noise of its own for every pixel also decides the order of cells that are alike; the same in each call.
    """
    run = build_runner(model, torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    for level in NOISE:

        def add_noise(_: nn.Module, __: object, pixels: Tensor, level: float = level) -> Tensor:
            return pixels * (1 + level * torch.randn(pixels.shape, generator=generator))

        hook = model.get_submodule("normalize").register_forward_hook(add_noise)
        try:
            detections = run(image[None].copy())[0]
        finally:
            hook.remove()
        yield detections


def settle_ties(
    expected: list[Detections],
    actual: list[Detections],
    tolerance: Tolerance,
    max_detections: int,
    vary: Callable[[int], Iterator[Detections]],
) -> Settled:
    """Compare a file's detections with the model's; where they differ, with the variants `vary(image)` of the model.

    An image whose detections are none of the variants' stays different.
    """
    expected, unstable = list(expected), 0
    while True:
        parity = compare_detections(expected, actual, tolerance, max_detections)
        if parity.is_within(tolerance):
            return Settled(expected, unstable, parity)
        found = actual[parity.image]
        fitting = (
            one
            for one in vary(parity.image)
            if compare_detections([one], [found], tolerance, max_detections).is_within(tolerance)
        )
        variant = next(fitting, None)
        if variant is None:
            return Settled(expected, unstable, parity)
        expected[parity.image] = variant
        unstable += 1
