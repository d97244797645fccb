"""Select detections by class and by score threshold, and calibrate their scores."""

from __future__ import annotations

import difflib
from collections.abc import Collection

import numpy as np

from detector.core.errors import UserError
from detector.engine.detections import Detections, rescale_scores
from detector.runners.model_metadata import ModelMetadata

MAX_LISTED = 20  # class names in a message
DIGITS = 5  # of a score; thresholds were chosen on scores rounded to this


def apply_thresholds(
    detections: Detections,
    metadata: ModelMetadata,
    threshold: float | None = None,
    classes: Collection[int] | None = None,
) -> Detections:
    """Return the detections that reach their threshold, with calibrated scores, which estimate precision.

    classes: ids of the classes to keep; None for all.

    Without `threshold`, the uncalibrated score is compared with the operating threshold of the class stored in the
    model. A given `threshold` is compared with the calibrated score, the one that is written and shown.
    """
    scores = rescale_scores(detections.scores.astype(np.float64), metadata.temperature).round(DIGITS)
    if threshold is None:
        thresholds = np.array([0.0, *(metadata.threshold[name] for name in metadata.classes)])
        kept = detections.scores.astype(np.float64).round(DIGITS) >= thresholds[detections.labels]
    else:
        kept = scores >= threshold
    if classes is not None:
        kept &= np.isin(detections.labels, list(classes))
    return detections._replace(scores=scores.astype(np.float32)).select(kept)


def choose_classes(given: list[str], known: list[str]) -> frozenset[int]:
    """Return the ids of the classes given on the command line. Raises UserError for an unknown one."""
    ids = {name: number for number, name in enumerate(known, 1)}
    # The name of a class may contain a comma.
    names = [part.strip() for text in given for part in ([text] if text in ids else text.split(","))]
    for name in names:
        if name not in ids:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
            listed = ", ".join(known[:MAX_LISTED]) + (f" … ({len(known):,} in all)" if len(known) > MAX_LISTED else "")
            raise UserError(f"--classes: {name!r} is no class of the model; did you mean {near!r}? It has {listed}")
    return frozenset(ids[name] for name in names)
