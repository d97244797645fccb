"""Measurements of this project beside its peers; they import the library that the stages share."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "stages"))
