"""The programs in examples/ answer like the library's own runner."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detector.engine.detections import rescale_scores
from detector.runners.onnx_runner import open_onnx
from detector.runners.tiled import detect_images
from tests.support.bright_model import METADATA, make_image, write_bright

EXAMPLES = Path(__file__).parents[1] / "examples"
SHAPES = {"wide.png": (641, 333), "tall.png": (301, 530), "small.png": (50, 41)}  # width, height


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with its sidecar, and three noisy images with a white and a red region each."""
    made = tmp_path_factory.mktemp("examples")
    write_bright(made / "model.onnx")
    (made / "model.json").write_text(json.dumps(METADATA))
    for number, (name, (width, height)) in enumerate(SHAPES.items()):
        white = (width // 7, height // 5, width // 2, height - 9)
        red = (width // 2 + 5, 7, width - 11, height // 3)
        pixels = np.asarray(make_image((width, height), white, red)).astype(int)
        noise = np.random.default_rng(number).integers(-60, 60, pixels.shape)
        image = Image.fromarray((pixels * 3 // 4 + 30 + noise).clip(0, 255).astype(np.uint8))
        if name.startswith("small"):
            image.putalpha(Image.linear_gradient("L").resize(image.size).point(lambda value: 155 + value // 3))
        image.save(made / name)
    return made


def answer(folder: Path) -> list[dict[str, Any]]:
    """What the library finds, in the form that the programs print."""
    metadata, runner = open_onnx(folder / "model.onnx", 1)
    rows = []
    for name, found in zip(SHAPES, detect_images([folder / name for name in SHAPES], runner, metadata, 1), strict=True):
        scores = rescale_scores(found.scores.astype(float), metadata.temperature)
        boxes = found.boxes_xyxy.clip(0, [*SHAPES[name], *SHAPES[name]])
        for index, label in enumerate(found.labels):
            row = {
                "image": name,
                "class": metadata.classes[label - 1],
                "state": metadata.states[found.states[index] - 1],
            }
            rows.append(row | {"score": scores[index], "box": boxes[index]})
    return rows


def run_python() -> list[str]:
    return [sys.executable, str(EXAMPLES / "python/detect.py")]


def run_javascript() -> list[str]:
    if shutil.which("node") is None or not (EXAMPLES / "javascript/node_modules/onnxruntime-node").exists():
        pytest.skip("no Node.js, or `npm ci --ignore-scripts` was not run in examples/javascript")
    return ["node", str(EXAMPLES / "javascript/detect.js")]


def run_cpp() -> list[str]:
    root = os.environ.get("ONNXRUNTIME_ROOT")
    if root is None or shutil.which("cmake") is None:
        pytest.skip("no CMake, or ONNXRUNTIME_ROOT names no folder with ONNX Runtime's include/ and lib/")
    build = Path(root) / "detect-build"
    for arguments in (
        ["-S", str(EXAMPLES / "cpp"), "-B", str(build), f"-DONNXRUNTIME_ROOT={root}"],
        ["--build", str(build)],
    ):
        subprocess.run(["cmake", *arguments], check=True, capture_output=True)
    return [str(build / "detect")]


@pytest.mark.parametrize("program", [run_python, run_javascript, run_cpp])
def test_a_program_answers_like_the_library(folder: Path, program: Callable[[], list[str]]) -> None:
    done = subprocess.run(
        [*program(), "model.onnx", *SHAPES], cwd=folder, check=False, capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    expected = answer(folder)
    assert len(expected) == 6, "a white and a red region in each image"
    for row, one in zip(rows, expected, strict=True):
        assert (row["image"], row["class"], row["state"]) == (one["image"], one["class"], one["state"])
        assert row["score"] == pytest.approx(one["score"], abs=1e-5)
        assert row["box"] == pytest.approx(one["box"], abs=0.006)


def test_the_python_program_is_short_and_stands_alone() -> None:
    lines = [line for line in (EXAMPLES / "python/detect.py").read_text(encoding="utf-8").splitlines() if line]
    imports = {line.split()[1] for line in lines if line.startswith(("import ", "from "))}
    assert imports == {"json", "sys", "numpy", "onnxruntime", "PIL"}
    assert len(lines) < 40
