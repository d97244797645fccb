"""Select detections by score threshold, and calibrate their scores."""

from __future__ import annotations

import numpy as np

from detector.engine.detections import Detections, rescale_scores
from detector.runners.tiled import ModelMetadata

DIGITS = 5  # of a score; thresholds were chosen on scores rounded to this


def apply_thresholds(detections: Detections, metadata: ModelMetadata, threshold: float | None = None) -> Detections:
    """Return the detections that reach their threshold, with calibrated scores, which estimate precision.

    Without `threshold`, the uncalibrated score is compared with the operating threshold of the class stored in the
    model. A given `threshold` is compared with the calibrated score, the one that is written and shown.
    """
    scores = rescale_scores(detections.scores.astype(np.float64), metadata.temperature).round(DIGITS)
    if threshold is None:
        thresholds = np.array([0.0, *(metadata.threshold[name] for name in metadata.classes)])
        kept = detections.scores.astype(np.float64).round(DIGITS) >= thresholds[detections.labels]
    else:
        kept = scores >= threshold
    return detections._replace(scores=scores.astype(np.float32)).select(kept)
