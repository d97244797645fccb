"""The JSON Lines written by `tools/predict.py` are read by the real preprocess stage."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

from detector.core.images import ORIENTATION_TAG
from detector.manifest.manifest import read_manifest
from tests.support.bright_model import make_image
from tests.support.predict_cases import make_predict_folder, run_predict

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Create images, one with EXIF rotation, and the folder for raw datasets."""
    make_predict_folder(tmp_path, 4)
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = 6
    make_image((128, 96), (16, 32, 64, 80)).save(tmp_path / "photos/turned.jpg", quality=95, exif=exif)
    (tmp_path / "data").mkdir()
    shutil.copy(ROOT / "data/decisions.csv", tmp_path / "data")
    return tmp_path


def test_corrected_predictions_are_read_as_a_dataset(folder: Path) -> None:
    run_predict(folder, "photos", "--out", "data/raw/new", "--format", "jsonl")
    listed = folder / "data/raw/new/dataset.jsonl"
    lines = [json.loads(line) for line in listed.read_text().splitlines()]
    lines[1]["bounding_box_annotations"][0]["state"] = "damaged"  # a correction
    listed.write_text("".join(json.dumps(line) + "\n" for line in lines))
    params = yaml.safe_load((ROOT / "params.yaml").read_text())["preprocess"]
    params |= {"dataset": "data/raw/new", "states": None, "near_duplicate_similarity": None}
    (folder / "params.yaml").write_text(yaml.safe_dump({"preprocess": params}))
    done = subprocess.run(
        [sys.executable, str(ROOT / "stages/preprocess.py")], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    images = sorted(read_manifest(folder / "data/clean/manifest.jsonl"), key=lambda image: image.source)
    assert [Path(image.source).name for image in images] == ["00.png", "01.png", "02.png", "03.png", "turned.jpg"]
    assert [len(image.boxes) for image in images] == [2, 1, 1, 2, 1]
    white, red = images[0].boxes
    assert (white.label, white.state) == ("white", "intact")
    assert white.xyxy == pytest.approx((16, 32, 64, 80), abs=0.01)
    assert (red.label, red.state) == ("rot ü", "damaged")
    assert red.xyxy == pytest.approx((80, 8, 112, 24), abs=0.01)
    assert images[1].boxes[0].state == "damaged"
    turned = images[4]
    assert (turned.width, turned.height) == (96, 128)
    assert turned.boxes[0].xyxy == pytest.approx((16, 16, 64, 64), abs=3)
