"""Whether other environments' ONNX Runtime or OpenVINO answer like the installed ONNX Runtime, on images of test.

command  python -m benchmarks.other_runtime PYTHON ... [--model models/model.onnx] [--images 50]
reads    the model, data/coco/test.json and its images
prints   for each environment and batch size the largest differences; exit code 1 where they are above the tolerance

PYTHON: of an environment with numpy, and onnxruntime or openvino:

    python -m venv /tmp/older && /tmp/older/bin/pip install 'onnxruntime==1.30.*'
    python -m venv /tmp/openvino && /tmp/openvino/bin/pip install openvino
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detector.core.errors import UserError, run_command
from detector.core.images import load_letterboxed
from detector.engine.detections import Detections
from detector.exporting.gate import Tolerance, compare
from detector.exporting.onnx_file import OUTPUTS, STATE_OUTPUTS
from detector.runners.onnx_runner import open_onnx

TEST = Path("data/coco/test.json")
BATCHES = (1, 2, 8)
TOLERANCE = Tolerance(0.5, 1e-3)  # as in the export stage
ANSWER = """
import sys
from importlib.metadata import version
import numpy
model, folder, outputs, *batches = sys.argv[1:]
names = outputs.split(",")
images = numpy.load(f"{folder}/images.npy")
try:
    import onnxruntime
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    run = lambda batch: dict(zip(names, session.run(names, {"image": batch})))
    print("onnxruntime", version("onnxruntime"))
except ImportError:
    import openvino
    # By itself it computes in bfloat16 where the processor can.
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    run = lambda batch: {name: answer[name] for answer in [compiled(batch)] for name in names}
    print("openvino", version("openvino"))
for size in map(int, batches):
    parts = [run(images[first : first + size]) for first in range(0, len(images), size)]
    columns = {name: numpy.concatenate([part[name] for part in parts]) for name in parts[0]}
    numpy.savez(f"{folder}/{size}.npz", **columns)
"""


def main(arguments: list[str] | None = None) -> None:
    """Print the differences; UserError when they are too large."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("python", nargs="+", help="of another environment")
    parser.add_argument("--model", type=Path, default=Path("models/model.onnx"))
    parser.add_argument("--images", type=int, default=50)
    given = parser.parse_args(arguments)
    facts, runner = open_onnx(given.model, 1)
    paths = [image["file_name"] for image in json.loads(TEST.read_text(encoding="utf-8"))["images"]][: given.images]
    pixels = [load_letterboxed(Path(path), facts.size, facts.fill).pixels for path in paths]
    images = np.stack(pixels).transpose(0, 3, 1, 2).copy()
    ours = [found for image in images for found in runner(image[None])]
    print(f"{given.model}: {len(paths)} images, {sum(len(found.labels) for found in ours):,} detections")
    outputs = (*OUTPUTS, *(STATE_OUTPUTS if facts.states else ()))
    different = []
    for python in given.python:
        name, answers = answers_of(python, given.model, outputs, images)
        for batch, theirs in answers.items():
            compared = compare(ours, theirs, TOLERANCE, facts.max_detections)
            worst = compared.worst
            print(f"  {name}, batches of {batch}: boxes to {worst.box:.1e} pixels, scores to {worst.score:.1e}, "
                  f"on one side only {worst.unmatched:.1e}")  # fmt: skip
            if not compared.is_within(TOLERANCE):
                different.append(f"{name}, batches of {batch}: {paths[compared.image]}")
    if different:
        raise UserError(f"answers differ by more than {TOLERANCE.box} pixels or {TOLERANCE.score}: {different}")


def answers_of(
    python: str, model: Path, outputs: tuple[str, ...], images: NDArray[np.uint8]
) -> tuple[str, dict[int, list[Detections]]]:
    """The runtime's name and version, and its answers to uint8 [N, 3, H, W] by the size of the batch."""
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "images.npy", images)
        command = [python, "-c", ANSWER, str(model), folder, ",".join(outputs), *map(str, BATCHES)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            raise UserError(f"{python}: {done.stderr.strip()}")
        return done.stdout.strip(), {batch: found_in(Path(folder) / f"{batch}.npz") for batch in BATCHES}


def found_in(path: Path) -> list[Detections]:
    """The images' detections, without padding."""
    with np.load(path) as file:
        nothing = np.zeros_like(file["category"])
        columns = [file.get(name, nothing) for name in (*OUTPUTS, *STATE_OUTPUTS)]
    answers = [Detections._make(row) for row in zip(*columns, strict=True)]
    return [one.chosen(one.labels > 0) for one in answers]


if __name__ == "__main__":
    run_command(main)
