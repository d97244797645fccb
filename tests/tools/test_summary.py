"""The summary that `make repro` prints at the end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import summary
from detector.core.errors import UserError

EVALUATE = {"AP": 0.7412, "AP50": 0.9456, "threshold": 0.75607, "precision": 0.9086, "recall": 0.8284}
METRICS: dict[str, Any] = {  # the details of each stage
    "preprocess": {
        "images_listed": 1430,
        "images": 1424,
        "boxes": 5596,
        "findings": {
            "dropped_image": {"duplicate_entry": 1, "empty_file": 5},
            "dropped_box": {"duplicate_box": 4, "empty_box": 2, "non_finite_box": 1},
            "repaired": {"box_clipped": 5, "image_reoriented": 2},
        },
    },
    "split": {"images": {"train": 1000, "val": 224, "test": 200}},
    "evaluate": {"split": "test", "metrics": EVALUATE},
    "export": {"bytes": 10753728},
}


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the metrics of a run, as the working directory."""
    for name, details in METRICS.items():
        write_details(tmp_path, name, details)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_details(root: Path, stage: str, details: dict[str, Any]) -> None:
    (root / "metrics" / stage).mkdir(parents=True, exist_ok=True)
    (root / "metrics" / stage / "details.json").write_text(json.dumps(details))


def row(name: str) -> str:
    (line,) = [line for line in summary.build_summary() if line.split()[:1] == [name]]
    return line.strip().removeprefix(name).strip()


def test_it_shows_metrics_data_and_model(repository: Path) -> None:
    assert row("test") == "AP 0.741, AP50 0.946"
    assert row("threshold") == "0.756 (precision 0.909, recall 0.828)"
    assert row("data") == "1,424 images (1,000 train, 224 val, 200 test), 5,596 boxes; dropped 6 images, 7 boxes"
    assert row("model") == "models/model.onnx (10.8 MB)"


def test_the_split_that_was_judged_is_named(repository: Path) -> None:
    write_details(repository, "evaluate", {"split": "val", "metrics": EVALUATE})
    assert row("val") == "AP 0.741, AP50 0.946"
    assert row("predictions") == "data/predictions/val.json"


def test_it_is_short_and_aligned(repository: Path) -> None:
    lines = summary.build_summary()
    assert len(lines) <= 15
    assert max(map(len, lines)) <= 100
    for start, second in (("  test ", "AP"), ("  data ", "1,424"), ("  predictions ", "data/")):
        (line,) = [line for line in lines if line.startswith(start)]
        assert line.index(second) == len("  predictions  ")


def test_the_next_steps_begin_with_the_environment(repository: Path) -> None:
    assert "Next, after `source .venv/bin/activate`:" in summary.build_summary()


def test_the_training_time_is_shown_if_it_was_measured(repository: Path) -> None:
    (repository / "logs").mkdir()
    (repository / "logs/train.json").write_text('{"seconds": 113.3}')
    assert row("test") == "AP 0.741, AP50 0.946; trained in 1 min 53 s"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"seconds": null}'])
def test_an_invalid_time_is_left_out(repository: Path, text: str) -> None:
    (repository / "logs").mkdir()
    (repository / "logs/train.json").write_text(text)
    assert row("test") == "AP 0.741, AP50 0.946"


def test_an_undefined_metric_is_a_dash(repository: Path) -> None:
    write_details(repository, "evaluate", METRICS["evaluate"] | {"metrics": EVALUATE | {"AP": None, "AP50": None}})
    assert row("test") == "AP -, AP50 -"


def test_an_interval_follows_its_metric(repository: Path) -> None:
    intervals = {"AP_low": 0.70, "AP_high": 0.79, "AP50_low": None, "AP50_high": None}
    write_details(repository, "evaluate", METRICS["evaluate"] | {"metrics": EVALUATE | intervals})
    assert row("test") == "AP 0.741 (0.700 to 0.790), AP50 0.946"


@pytest.mark.parametrize("name", METRICS)
def test_a_missing_file_is_named(repository: Path, name: str) -> None:
    (repository / f"metrics/{name}/details.json").unlink()
    with pytest.raises(UserError, match=rf"{name}/details\.json is missing.*`dvc repro`"):
        summary.build_summary()


@pytest.mark.parametrize("name", METRICS)
def test_a_file_with_conflict_markers_is_named(repository: Path, name: str) -> None:
    (repository / f"metrics/{name}/details.json").write_text("<<<<<<< HEAD\n{}\n")
    with pytest.raises(UserError, match=rf"{name}/details\.json is not JSON .*`dvc repro`"):
        summary.build_summary()


@pytest.mark.parametrize("name", METRICS)
def test_files_of_an_older_version_are_an_error(repository: Path, name: str) -> None:
    (repository / f"metrics/{name}/details.json").write_text("{}")
    with pytest.raises(UserError, match=r"older version.*`dvc repro`"):
        summary.build_summary()


def test_the_command_prints_the_summary_or_an_error(repository: Path) -> None:
    def call() -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, summary.__file__], capture_output=True, text=True, check=False)

    assert call().stdout.splitlines() == summary.build_summary()
    (repository / "metrics/export/details.json").unlink()
    result = call()
    assert (result.returncode, result.stdout) == (1, "")
    assert "error: metrics/export/details.json is missing" in result.stderr
