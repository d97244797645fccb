"""Decoding in NumPy against the models' own postprocessing in PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from detector.models.postprocess import Postprocess
from detector.runners.model_metadata import RawDecoding
from detector.runners.raw_decoding import decode_raw_outputs


@pytest.mark.parametrize("nms", [True, False])
@pytest.mark.parametrize("states", [0, 3])
@pytest.mark.parametrize("locations", [1, 400])
def test_the_same_detections_as_in_torch(nms: bool, states: int, locations: int) -> None:
    rng = np.random.default_rng(locations)
    corners = rng.uniform(0, 60, (locations, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(5, 40, (locations, 2))], 1).astype(np.float32)
    scores = (rng.permutation(locations * 4).reshape(locations, 4) / (4 * locations)).astype(np.float32)
    logits = rng.normal(size=(locations, states)).astype(np.float32)
    postprocess = Postprocess(0.3, 0.4, 20)
    select = postprocess if nms else postprocess.select_without_nms
    batch = [torch.from_numpy(one)[None] for one in (boxes, scores, logits)]
    expected = select(*(batch if states else batch[:2]))
    decoding = RawDecoding(
        score_threshold=0.3, candidates=100 if nms else 20, nms_iou=0.4 if nms else None, max_detections=20
    )
    probabilities = batch[2][0].softmax(-1).numpy() if states else None
    found = decode_raw_outputs(boxes, scores, probabilities, decoding)
    count = int(expected.counts[0])
    assert len(found.scores) == count
    assert count == 20 or locations == 1
    for field in found._fields:
        ours, theirs = getattr(found, field), getattr(expected, field).numpy()[0, :count]
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
        assert ours.dtype == theirs.dtype


def test_nothing_above_the_threshold() -> None:
    decoding = RawDecoding(score_threshold=0.5, candidates=10, nms_iou=0.5, max_detections=5)
    found = decode_raw_outputs(np.ones((3, 4), np.float32), np.full((3, 2), 0.5, np.float32), None, decoding)
    assert [len(column) for column in found] == [0] * 5
