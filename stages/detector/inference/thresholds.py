"""Which detections count, and how sure one may be of them."""

from __future__ import annotations

import numpy as np

from detector.engine.detections import Detections, rescaled
from detector.runners.tiled import ModelMetadata

DIGITS = 5  # of a score, as thresholds were chosen on written predictions


def counted(found: Detections, facts: ModelMetadata, threshold: float | None = None) -> Detections:
    """Those that count, with calibrated scores: of the detections with such a score, that share should be right.

    A detection counts when the score that the file gives it reaches its class's operating threshold; or, with a
    `threshold`, when the calibrated score reaches that, since it is the one that people see.
    """
    scores = rescaled(found.scores.astype(np.float64), facts.temperature).round(DIGITS)
    if threshold is None:
        limits = np.array([0.0, *(facts.threshold[name] for name in facts.classes)])
        counts = found.scores.astype(np.float64).round(DIGITS) >= limits[found.labels]
    else:
        counts = scores >= threshold
    return found._replace(scores=scores.astype(np.float32)).chosen(counts)
