"""One test per model: the light ones in every run, the heavy ones in `make test-long`."""

from __future__ import annotations

import pytest

from detector.models import MODELS
from detector.models.query_architectures import ARCHITECTURES

LIGHT = ("simple", "effnet_lite", "ssdlite", "faster_rcnn", "dfine_n")
KINDS = ("detr", "rtdetr", "dfine_n", "deimv2_n", "rfdetr_nano")
# Of the query-based detectors one per kind of transformer; `tests/models/test_query_detector.py` has one per family.
TESTED = [name for name in MODELS if name not in ARCHITECTURES or name in KINDS]
EACH_MODEL = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in LIGHT else pytest.mark.long) for name in TESTED]
)
