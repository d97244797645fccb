"""Which images come more often than others, so that rare classes are seen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detector.engine.dataset import Annotations


def repeat_factors(annotations: Annotations, share: float) -> NDArray[np.float64]:
    """How often each image is drawn an epoch, on average [N] (Gupta et al. 2019, LVIS).

    An image counts as often as its rarest class wants: sqrt(share / f), at least 1, where f is the share of the
    images that have the class.
    """
    count = len(annotations.paths)
    factors = np.ones(count)
    rows = np.repeat(np.arange(count), np.diff(annotations.starts))
    pairs = np.unique(np.stack([rows, annotations.labels]), axis=1)  # each class of an image once
    images = np.bincount(pairs[1])  # by class
    np.maximum.at(factors, pairs[0], np.sqrt(share * count / images[pairs[1]]))
    return factors
