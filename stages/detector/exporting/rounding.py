"""Detections that depend on how sums are rounded: near-ties in which a model has several right answers.

LW-DETR and RF-DETR give their learned queries to the best cells in the order of the scores, so two scores that differ
by rounding only swap what two queries see. An exported file rounds differently and may then give the other answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from detector.engine.detections import Detections
from detector.exporting.parity_gate import ParityResult, Tolerance, compare_detections
from detector.runners.torch_runner import build_runner

# Factors of the normalized pixels, at most 0.03 of 255 gray levels: less than any difference that the gate looks for.
FACTORS = tuple(1 + sign * 2.0**exponent for exponent in range(-22, -12) for sign in (-1, 1))


class Settled(NamedTuple):
    """expected: the model's detections, of an image with near-ties those of the variant that the file agrees with.
    unstable: the number of such images. parity: the comparison with `expected`.
    """

    expected: list[Detections]
    unstable: int
    parity: ParityResult


def vary_rounding(model: nn.Module, image: NDArray[np.uint8]) -> Iterator[Detections]:
    """Yield the detections on one image uint8 [3, H, W] with its normalized pixels multiplied by each of FACTORS."""
    run = build_runner(model, torch.device("cpu"))
    normalize: Any = model.get_submodule("normalize")
    exact = normalize.deviation.clone()
    try:
        for factor in FACTORS:
            normalize.deviation.copy_(exact / factor)
            yield run(image[None].copy())[0]
    finally:
        normalize.deviation.copy_(exact)


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
