"""Near-ties: a file may give any of the model's answers, and no other."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from detector.engine.detections import Detections
from detector.engine.structures import Output, Targets
from detector.exporting.parity_gate import Tolerance
from detector.exporting.rounding import NOISE, settle_ties, vary_rounding
from detector.models.normalization import Normalize, PixelStatistics
from detector.models.postprocess import Postprocess

TOLERANCE = Tolerance(0.5, 1e-3)


def make_detections(score: float) -> Detections:
    one = np.ones(1, np.int64)
    return Detections(
        np.array([[10, 10, 30, 30.0]], np.float32), np.array([score], np.float32), one, one * 0, one * 0.0
    )


def test_an_answer_of_a_variant_is_accepted_and_counted() -> None:
    asked = []

    def vary(image: int) -> Iterator[Detections]:
        asked.append(image)
        yield from map(make_detections, (0.3, 0.7))

    expected = [make_detections(score) for score in (0.9, 0.5, 0.9)]
    settled = settle_ties(expected, [make_detections(score) for score in (0.9, 0.7, 0.3)], TOLERANCE, 5, vary)
    assert settled.parity.is_within(TOLERANCE)
    assert settled.unstable == 2
    assert sorted(asked) == [1, 2]
    assert [float(one.scores[0]) for one in settled.expected] == [np.float32(score) for score in (0.9, 0.7, 0.3)]
    assert float(expected[1].scores[0]) == 0.5


def test_another_answer_stays_a_difference() -> None:
    settled = settle_ties(
        [make_detections(0.5)], [make_detections(0.6)], TOLERANCE, 5, lambda _: map(make_detections, (0.3, 0.7))
    )
    assert not settled.parity.is_within(TOLERANCE)
    assert settled.unstable == 0


class Comparing(nn.Module):
    """Scores 0.8 or 0.4, whichever of two sums that differ by rounding is larger."""

    def __init__(self) -> None:
        super().__init__()
        self.normalize = Normalize(PixelStatistics((0, 0, 0), (255, 255, 255)))
        self.limit = 0.0

    def forward(self, images: Tensor, targets: Targets | None = None) -> Output:
        values = self.normalize(images)
        score = torch.where(values.sum((1, 2, 3)) > self.limit, 0.8, 0.4)[:, None, None]
        boxes = torch.tensor([[[1, 1, 9, 9.0]]]).expand(len(images), 1, 4)
        return Output({}, Postprocess(0.01).select_without_nms(boxes, score, None))


def test_variants_differ_by_rounding_and_leave_the_model_as_it_was() -> None:
    model = Comparing().eval()
    image = np.full((3, 8, 8), 77, np.uint8)
    model.limit = float(model.normalize(torch.from_numpy(image)[None]).sum())
    scores = [round(float(found.scores[0]), 3) for found in vary_rounding(model, image)]
    assert len(scores) == len(NOISE)
    assert set(scores) == {0.4, 0.8}
    model.limit *= 1 + 1e-4  # more than rounding
    assert {round(float(found.scores[0]), 3) for found in vary_rounding(model, image)} == {0.4}
    assert not model.normalize._forward_hooks
