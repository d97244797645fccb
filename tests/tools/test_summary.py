"""What `make repro` prints at its end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import summary
from detector.core.errors import UserError

METRICS: dict[str, Any] = {
    "preprocess": {
        "images_listed": 1430,
        "images": 1424,
        "boxes": 5596,
        "findings": {
            "EXIF orientation 6, converted": 2,
            "box outside the image, clipped": 5,
            "box without area, dropped": 2,
            "coordinate not finite, box dropped": 1,
            "empty file, image dropped": 5,
            "image listed twice, dropped": 1,
            "same-class duplicate box, dropped": 4,
        },
    },
    "split": {"images": {"train": 1000, "val": 224, "test": 200}},
    "evaluate": {"AP": 0.7412, "AP50": 0.9456, "threshold": 0.75607, "precision": 0.9086, "recall": 0.8284},
    "evaluate/details": {"split": "test"},
    "export": {"bytes": 10753728},
}


@pytest.fixture
def repository(tmp_path, monkeypatch) -> Path:
    """A folder with the metrics of a run, as the working directory."""
    (tmp_path / "metrics/evaluate").mkdir(parents=True)
    for name, metrics in METRICS.items():
        (tmp_path / f"metrics/{name}.json").write_text(json.dumps(metrics))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def row(name: str) -> str:
    (line,) = [line for line in summary.summary() if line.split()[:1] == [name]]
    return line.strip().removeprefix(name).strip()


def test_it_says_what_was_reached(repository):
    assert row("test") == "AP 0.741, AP50 0.946"
    assert row("threshold") == "0.756, with precision 0.909 and recall 0.828"
    assert row("data") == "1,424 images (1,000 train, 224 val, 200 test), 5,596 boxes; dropped 6 images, 7 boxes"
    assert row("model") == "models/model.onnx (10.8 MB)"


def test_the_split_that_was_judged_is_named(repository):
    (repository / "metrics/evaluate/details.json").write_text('{"split": "val"}')
    assert row("val") == "AP 0.741, AP50 0.946"
    assert row("predictions") == "data/predictions/val.json"


def test_it_is_short_and_aligned(repository):
    lines = summary.summary()
    assert len(lines) <= 15
    assert max(map(len, lines)) <= 100
    for start, second in (("  test ", "AP"), ("  data ", "1,424"), ("  predictions ", "data/")):
        (line,) = [line for line in lines if line.startswith(start)]
        assert line.index(second) == len("  predictions  ")


def test_the_training_time_is_told_where_it_was_measured(repository):
    (repository / "logs").mkdir()
    (repository / "logs/train.json").write_text('{"seconds": 113.3}')
    assert row("test") == "AP 0.741, AP50 0.946; trained in 1 min 53 s"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"seconds": null}'])
def test_a_broken_time_is_left_out(repository, text):
    (repository / "logs").mkdir()
    (repository / "logs/train.json").write_text(text)
    assert row("test") == "AP 0.741, AP50 0.946"


def test_a_number_that_does_not_exist_is_a_dash(repository):
    (repository / "metrics/evaluate.json").write_text(json.dumps(METRICS["evaluate"] | {"AP": None, "AP50": None}))
    assert row("test") == "AP -, AP50 -"


def test_an_interval_stands_beside_its_number(repository):
    intervals = {"AP_low": 0.70, "AP_high": 0.79, "AP50_low": None, "AP50_high": None}
    (repository / "metrics/evaluate.json").write_text(json.dumps(METRICS["evaluate"] | intervals))
    assert row("test") == "AP 0.741 (0.700 to 0.790), AP50 0.946"


@pytest.mark.parametrize("name", METRICS)
def test_a_missing_file_is_told_with_advice(repository, name):
    (repository / f"metrics/{name}.json").unlink()
    with pytest.raises(UserError, match=rf"{name}\.json is missing: run `dvc repro`"):
        summary.summary()


@pytest.mark.parametrize("name", METRICS)
def test_a_file_with_conflict_marks_is_told(repository, name):
    (repository / f"metrics/{name}.json").write_text("<<<<<<< HEAD\n{}\n")
    with pytest.raises(UserError, match=rf"{name}\.json is not JSON .*run `dvc repro`"):
        summary.summary()


@pytest.mark.parametrize("name", METRICS)
def test_a_file_of_another_version_is_told(repository, name):
    (repository / f"metrics/{name}.json").write_text("{}")
    with pytest.raises(UserError, match="an older version wrote them: run `dvc repro`"):
        summary.summary()


def test_the_command_prints_or_advises(repository):
    def call() -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, summary.__file__], capture_output=True, text=True, check=False)

    assert call().stdout.splitlines() == summary.summary()
    (repository / "metrics/export.json").unlink()
    done = call()
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.strip() == ("error: metrics/export.json is missing: run `dvc repro` in the repository's root")
