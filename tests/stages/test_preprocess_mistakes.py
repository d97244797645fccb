"""A user's mistakes in `preprocess:` and in the dataset, each with one message and no traceback."""

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
from tests.support.preprocess_cases import BOX, DECISIONS, PARAMS, SCRIPT, box, line, picture, run, write_lines


def refusal(folder: Path, **changes: Any) -> str:
    """The message of a run that a mistake stops: exit code 1, one message, no traceback, no metrics."""
    done = run(folder, **changes)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert done.stderr.count("error:") == 1
    assert not (folder / "metrics").exists()
    return done.stderr


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A folder with a dataset of one good image."""
    write_lines(tmp_path, line("1.jpg", box(*BOX)))
    picture(0).save(tmp_path / "data/raw/set/1.jpg")
    return tmp_path


def test_an_unknown_key(small: Path) -> None:
    assert "unknown key `preprocess.trust_treshold`; did you mean `trust_threshold`?" in refusal(
        small, trust_treshold=0.5
    )


def test_an_unknown_format(small: Path) -> None:
    message = refusal(small, format="json")
    assert "`preprocess.format` is 'json'" in message
    assert "'jsonl', 'parts', 'coco', 'voc', 'yolo' or 'archive'" in message


def test_a_dataset_that_is_not_there(small: Path) -> None:
    assert "`preprocess.dataset` is 'data/raw/sets', which is not a folder" in refusal(small, dataset="data/raw/sets")


def test_a_dataset_without_images(small: Path) -> None:
    write_lines(small, "")
    assert "data/raw/set: no images in this jsonl dataset" in refusal(small)


def test_a_malformed_line(small: Path) -> None:
    write_lines(small, line("1.jpg", box(*BOX)), '{"image_path": 3')
    message = refusal(small)
    assert "dataset.jsonl:2: found" in message
    assert "valid JSON" in message


def test_no_boxes_left(small: Path) -> None:
    write_lines(small, line("1.jpg", box(0.5, 0.5, 0.5, 0.5), box(-1, 0, 2, 1)))
    message = refusal(small)
    assert "data/raw/set: no box is left of 1 readable images" in message
    assert "1 x box without area, dropped, 1 x normalized coordinate far outside 0..1, box dropped" in message


def test_a_class_without_a_usable_box(small: Path) -> None:
    write_lines(small, line("1.jpg", box(*BOX), box(0.5, 0.5, 0.5, 0.5, label="nut")))
    message = refusal(small)
    assert "no usable box is left of nut (1 x box without area, dropped)" in message
    assert "`preprocess.classes`" in message


def test_on_error_stop_lists_the_problems(small: Path) -> None:
    lines = [line(f"none{number}.jpg") for number in range(30)]
    write_lines(small, line("1.jpg", box(*BOX), box(0.5, 0.5, 0.5, 0.5)), *lines)
    message = refusal(small, on_error="stop")
    assert "31 problems in data/raw/set and `preprocess.on_error` is stop:" in message
    assert "  dataset.jsonl:2: none0.jpg: missing file, image dropped" in message
    assert "  and 11 more" in message
    assert message.count("dropped") == 20


def test_on_error_stop_goes_on_with_repairs_and_with_what_params_leave_out(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boxes = [
        box(*BOX, state="rusty"),
        box(-0.2, 0.6, 0.5, 0.9),
        box(0.6, 0.6, 0.61, 0.9),
        box(0.7, 0.7, 0.9, 0.9, trust=0.1),
        box(*BOX, label="nut"),
        box(0.6, 0.1, 0.9, 0.5, state="intact"),
    ]
    write_lines(small, line("1.jpg", *boxes))
    (small / "params.yaml").write_text(
        yaml.safe_dump({"preprocess": {**PARAMS, "on_error": "stop", "classes": ["bolt"]}})
    )
    shutil.copy(DECISIONS, small / "data")
    monkeypatch.chdir(small)
    monkeypatch.setattr(preprocess, "draw", lambda *_: None)
    preprocess.main()
    assert json.loads((small / "metrics/preprocess.json").read_text())["boxes"] == 3


def test_params_without_the_section(small: Path) -> None:
    (small / "params.yaml").write_text("split: {}")
    done = subprocess.run([sys.executable, SCRIPT], cwd=small, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "\nerror: params.yaml: section `preprocess` is missing or not a mapping\n"
