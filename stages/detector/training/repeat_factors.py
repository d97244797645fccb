"""Repeat-factor sampling: images of rare classes are drawn more often."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detector.engine.annotations import Annotations


def compute_repeat_factors(annotations: Annotations, threshold: float) -> NDArray[np.float64]:
    """Compute how often each image is drawn per epoch, on average [N] (Gupta et al. 2019, LVIS).

    The rarest class of an image decides: sqrt(threshold / f), at least 1, where f is the fraction of images that
    contain the class.
    """
    count = len(annotations.paths)
    factors = np.ones(count)
    rows = np.repeat(np.arange(count), np.diff(annotations.starts))
    pairs = np.unique(np.stack([rows, annotations.labels]), axis=1)  # each class once per image
    images_per_class = np.bincount(pairs[1])
    np.maximum.at(factors, pairs[0], np.sqrt(threshold * count / images_per_class[pairs[1]]))
    return factors
