"""One test per model: the light ones in every run, the heavy ones in `make test-long`."""

from __future__ import annotations

import pytest

from detector.models import MODELS

LIGHT = ("simple", "effnet_lite", "ssdlite", "faster_rcnn", "rtdetr")
EACH_MODEL = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in LIGHT else pytest.mark.long) for name in MODELS]
)
