"""The comparison with YOLO over several datasets: replicates, the mean, the worst dataset, and reuse of results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import accuracy
from benchmarks.accuracy import Result, compare, compute_key, compute_replicates
from detector.engine.ground_truth import pack_ground_truth

TRUTH: dict[str, Any] = {
    "images": [{"id": number, "file_name": f"{number}.png", "width": 99, "height": 99} for number in (1, 2, 3)],
    "annotations": [
        {
            "id": number,
            "image_id": number,
            "category_id": 1,
            "bbox": [9, 9, 40, 40],
            "area": 1600,
            "iscrowd": 0,
            "state": 0,
        }
        for number in (1, 2)
    ],
    "categories": [{"id": 1, "name": "a"}],
    "states": [],
}


def detect(*image_ids: int) -> list[Any]:
    return [
        {"image_id": number, "category_id": 1, "bbox": [9, 9, 40, 40], "score": 0.9, "state": 0, "state_score": 0.0}
        for number in image_ids
    ]


def test_the_first_replicate_is_the_ap_of_all_images() -> None:
    truth = pack_ground_truth(TRUTH)
    perfect, half = compute_replicates(truth, detect(1, 2)), compute_replicates(truth, detect(1))
    assert len(perfect) == accuracy.BOOTSTRAP_SAMPLES + 1
    assert perfect[0] == 1
    assert half[0] == pytest.approx(51 / 101)  # COCO samples recall at 101 points
    defined = ~np.isnan(perfect)
    assert not defined.all()  # a sample may consist of the image without objects
    assert (perfect[defined] == 1).all()
    assert 0 <= half[defined].min() < half[defined].max() == 1


def make(wall: float, ap: float, spread: float = 0.0) -> Result:
    return Result(wall, ap, ap + spread * np.linspace(-1, 1, 100))


@pytest.mark.parametrize(("worst", "time", "verdict"), [(0.5, 40.0, "pass"), (0.49, 40.0, "MISS"), (0.5, 51.0, "MISS")])
def test_a_row_has_the_mean_the_worst_dataset_and_the_time(worst: float, time: float, verdict: str) -> None:
    results = {
        ("cells", "default", 0): make(time, worst, 0.01),
        ("cells", "default", 1): make(time, worst, 0.01),
        ("cars", "default", 0): make(time, 0.8),
        ("cars", "default", 1): make(time, 0.6),
        ("cells", "yolo11n, best", 0): make(100, 0.5),
        ("cells", "yolo11n, best", 1): make(100, 0.5),
        ("cars", "yolo11n, best", 0): make(100, 0.5),
        ("cars", "yolo11n, best", 1): make(100, 0.5),
    }
    row = compare(results, "default", "yolo11n, best")
    assert row[:2] == ("default", "yolo11n, best")
    gain = 0.1 + (worst - 0.5) / 2  # the datasets vary by 0.01 and by nothing
    assert row[2] == f"{gain:+.3f} ({gain - 0.005:+.3f} to {gain + 0.005:+.3f})"
    assert row[3] == f"{worst - 0.5:+.3f} cells"
    assert row[4] == f"{time / 100:.2f} ×"
    assert row[-1] == verdict


def make_data(folder: Path) -> Path:
    for name, content in {
        "params.yaml": "a: 1",
        "stages/train.py": "pass",
        "data/coco/test.json": json.dumps(TRUTH),
    }.items():
        (folder / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "data" / name).write_text(content)
    return folder / "data"


def test_results_are_reused_while_nothing_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, trained = make_data(tmp_path), []

    def train(data: Path, folder: Path, training: str, seed: int) -> tuple[float, list[Any], int]:
        trained.append((folder.name, training, seed))
        return 12.0, detect(1, 2), 9

    monkeypatch.setattr(accuracy, "train", train)
    first = accuracy.run_training(data, "default, short", 1)
    again = accuracy.run_training(data, "default, short", 1)
    assert trained == [("default-short-1", "default, short", 1)]
    assert (first.wall, first.ap) == (again.wall, again.ap) == (12.0, 1.0)
    (data / "stages/train.py").write_text("raise")
    accuracy.run_training(data, "default, short", 1)
    assert len(trained) == 2


@pytest.mark.parametrize("name", ["params.yaml", "stages/train.py", "data/coco/test.json"])
def test_code_parameters_and_data_decide_the_key(tmp_path: Path, name: str) -> None:
    data = make_data(tmp_path)
    before = compute_key(data, "default", 0)
    assert before not in (compute_key(data, "default", 1), compute_key(data, "simple", 0))
    (data / name).write_text("changed")
    assert compute_key(data, "default", 0) != before


def test_a_training_of_theirs_is_reused_whatever_our_code_is(tmp_path: Path) -> None:
    data = make_data(tmp_path)
    before = compute_key(data, "yolo11n, best", 0)
    assert before not in (compute_key(data, "yolo11n, best", 1), compute_key(data, "yolo11n, default", 0))
    (data / "stages/train.py").write_text("changed")
    assert compute_key(data, "yolo11n, best", 0) == before
    (data / "data/coco/test.json").write_text("changed")
    assert compute_key(data, "yolo11n, best", 0) != before
