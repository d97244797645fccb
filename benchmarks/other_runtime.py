"""Whether another version of ONNX Runtime answers like the installed one, on images of the test split.

    python -m benchmarks.other_runtime /tmp/older/bin/python [--model models/model.onnx] [--images 50]

The first argument is the Python of an environment with onnxruntime, numpy and pillow:

    python -m venv /tmp/older && /tmp/older/bin/pip install 'onnxruntime==1.30.*' numpy pillow
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "stages"))

from detector.errors import UserError, run_command
from detector.exporting.gate import Tolerance, compare
from detector.exporting.isolated import answers_without_torch
from detector.inference.onnx_runner import open_onnx
from detector.inference.replay import Pass

TEST = Path("data/coco/test.json")
BATCHES = (1, 2, 8)
TOLERANCE = Tolerance(0.5, 1e-3)  # as in the export stage


def main(arguments: list[str] | None = None) -> None:
    """Print the differences; UserError when they are too large."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("python", help="of the other environment")
    parser.add_argument("--model", type=Path, default=Path("models/model.onnx"))
    parser.add_argument("--images", type=int, default=50)
    given = parser.parse_args(arguments)
    facts, _ = open_onnx(given.model, 1)
    paths = [image["file_name"] for image in json.loads(TEST.read_text(encoding="utf-8"))["images"]][: given.images]
    passes = [Pass(batch, len(paths)) for batch in BATCHES]
    here, there = (
        answers_without_torch(given.model, paths, passes, 1, python) for python in (sys.executable, given.python)
    )
    print(f"{given.model}: onnxruntime {version(sys.executable)} and {version(given.python)}, {len(paths)} images")
    for batch, ours, theirs in zip(BATCHES, here, there, strict=True):
        compared = compare(ours.found, theirs.found, TOLERANCE, facts.max_detections)
        worst = compared.worst
        print(f"  batches of {batch}: boxes to {worst.box:.1e} pixels, scores to {worst.score:.1e}, "
              f"on one side only {worst.unmatched:.1e}")  # fmt: skip
        if not compared.is_within(TOLERANCE):
            raise UserError(f"they differ on {paths[compared.image]}")


def version(python: str) -> str:
    """Of ONNX Runtime in an environment."""
    command = [python, "-c", "import onnxruntime; print(onnxruntime.__version__)"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    run_command(main)
