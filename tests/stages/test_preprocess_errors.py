"""Errors in `preprocess:` and in the dataset: one message each, no traceback."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import preprocess
from tests.support.preprocess_cases import (
    BOX,
    DECISIONS,
    PARAMS,
    SCRIPT,
    build_box,
    build_image,
    build_line,
    run_preprocess,
    write_lines,
)


def error_message(folder: Path, **changes: Any) -> str:
    """The message of a failing run: exit code 1, one message, no traceback, no metrics."""
    done = run_preprocess(folder, **changes)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert done.stderr.count("error:") == 1
    assert not (folder / "metrics").exists()
    return done.stderr


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A folder with a dataset of one valid image."""
    write_lines(tmp_path, build_line("1.jpg", build_box(*BOX)))
    build_image(0).save(tmp_path / "data/raw/set/1.jpg")
    return tmp_path


def test_an_unknown_key(small: Path) -> None:
    message = error_message(small, min_turst=0.5)
    assert "`preprocess.min_turst`" in message
    assert "did you mean `min_trust`?" in message


def test_an_unknown_format(small: Path) -> None:
    message = error_message(small, format="json")
    assert "`preprocess.format` is 'json'" in message
    assert "'jsonl', 'parts', 'coco', 'voc', 'yolo' or 'archive'" in message


def test_a_missing_dataset(small: Path) -> None:
    assert "`preprocess.dataset` is 'data/raw/sets', which is not a folder" in error_message(
        small, dataset="data/raw/sets"
    )


def test_a_dataset_without_images(small: Path) -> None:
    write_lines(small, "")
    assert "data/raw/set: no images in this jsonl dataset" in error_message(small)


def test_a_malformed_line(small: Path) -> None:
    write_lines(small, build_line("1.jpg", build_box(*BOX)), '{"image_path": 3')
    message = error_message(small)
    assert "dataset.jsonl:2: found" in message
    assert "valid JSON" in message


def test_no_usable_box(small: Path) -> None:
    write_lines(small, build_line("1.jpg", build_box(0.5, 0.5, 0.5, 0.5), build_box(-1, 0, 2, 1)))
    message = error_message(small)
    assert "data/raw/set: no usable box in 1 readable images" in message
    assert "1 coordinate_out_of_range, 1 empty_box" in message


def test_a_class_without_a_usable_box(small: Path) -> None:
    write_lines(small, build_line("1.jpg", build_box(*BOX), build_box(0.5, 0.5, 0.5, 0.5, label="nut")))
    message = error_message(small)
    assert "no usable box of class nut; findings: 1 empty_box;" in message
    assert "`preprocess.classes`" in message


def test_on_error_stop_lists_the_errors(small: Path) -> None:
    lines = [build_line(f"none{number}.jpg") for number in range(30)]
    write_lines(small, build_line("1.jpg", build_box(*BOX), build_box(0.5, 0.5, 0.5, 0.5)), *lines)
    message = error_message(small, on_error="stop")
    assert "data/raw/set: 31 " in message
    assert "`preprocess.on_error`" in message
    assert "  dataset.jsonl:2: none0.jpg: " in message
    assert "  and 11 more" in message
    assert message.count("\n  dataset.jsonl:") == 20


def test_on_error_stop_accepts_repairs_and_boxes_excluded_by_params(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boxes = [
        build_box(*BOX, state="rusty"),
        build_box(-0.2, 0.6, 0.5, 0.9),
        build_box(0.6, 0.6, 0.61, 0.9),
        build_box(0.7, 0.7, 0.9, 0.9, trust=0.1),
        build_box(*BOX, label="nut"),
        build_box(0.6, 0.1, 0.9, 0.5, state="intact"),
    ]
    write_lines(small, build_line("1.jpg", *boxes))
    (small / "params.yaml").write_text(
        yaml.safe_dump({"preprocess": {**PARAMS, "on_error": "stop", "classes": ["bolt"]}})
    )
    shutil.copy(DECISIONS, small / "data")
    monkeypatch.chdir(small)
    monkeypatch.setattr(preprocess, "draw_samples", lambda *_: None)
    preprocess.main()
    assert json.loads((small / "metrics/preprocess.json").read_text())["boxes"] == 3


def test_params_without_the_section(small: Path) -> None:
    (small / "params.yaml").write_text("split: {}")
    done = subprocess.run([sys.executable, SCRIPT], cwd=small, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "\nerror: params.yaml: section `preprocess` is missing or not a mapping\n"
