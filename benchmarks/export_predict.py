"""Images/s of `tools/predict.py` over files, beside what its two halves manage alone: decoding, and the model."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.deployed import THREADS, pictures
from benchmarks.export_precision import export_both, trained
from benchmarks.photographs import write_photographs
from benchmarks.table import Row, at_least, rate
from benchmarks.timing import say, timed
from benchmarks.workspace import ROOT, python
from detector.data.images import load_letterboxed
from detector.inference.onnx_runner import open_onnx

SHARE = 0.9
FEW, MANY = 64, 640  # photographs: the difference of two runs leaves out how long a process takes to begin
ROUNDS = 3
BATCH = 8


def predict_row() -> Iterator[Row]:
    """The trained `effnet_lite` over photographs of 640x480."""
    say("tools/predict.py over files")
    model, _ = export_both(trained("effnet_lite"))
    facts, runner = open_onnx(model, THREADS)
    batch = np.ascontiguousarray(pictures(BATCH)[:, :, : facts.size[0], : facts.size[1]])
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        many = write_photographs(Path(scratch) / "many", MANY)
        few = Path(scratch) / "few"
        few.mkdir()
        for path in many[:FEW]:
            (few / path.name).symlink_to(path)

        def whole(folder: Path) -> float:
            out = str(Path(scratch) / "out")
            return timed(lambda: python(ROOT, "tools/predict.py", str(model), str(folder), "--out", out))

        def decode() -> None:
            for path in many[:FEW]:
                load_letterboxed(path, facts.size, facts.fill)

        runner(batch)
        shares, rates = [], []
        for _ in range(ROUNDS):
            one = (whole(many[0].parent) - whole(few)) / (MANY - FEW)  # seconds of an image
            alone = max(timed(decode) / FEW, timed(lambda: [runner(batch) for _ in range(FEW // BATCH)]) / FEW)
            shares.append(alone / one)
            rates.append((one, alone))
        ones, alones = zip(*rates, strict=True)
        yield Row(
            "`tools/predict.py`, JPEGs of 640x480",
            rate(1, median(ones)),
            f"{rate(1, median(alones))} the slower of decoding and the model alone",
            *at_least(median(shares), SHARE),
        )
