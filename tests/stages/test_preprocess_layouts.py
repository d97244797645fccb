"""The stage with `format: auto`, with paths of another computer, and with a mistake in another stage's parameters."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import yaml

from detector.manifest.manifest import read_manifest
from tests.support.preprocess_cases import (
    BOX,
    PARAMS,
    SCRIPT,
    build_box,
    build_image,
    build_line,
    run_preprocess,
    write_lines,
)


def test_images_are_found_recognized_and_counted(tmp_path: Path) -> None:
    dataset = tmp_path / "data/raw/set"
    for number, name in enumerate(["data/1.jpg", "night/2.jpg", "a/3.jpg", "b/3.jpg"]):
        (dataset / name).parent.mkdir(parents=True, exist_ok=True)
        build_image(number).save(dataset / name)
    box = build_box(*BOX)
    write_lines(
        tmp_path,
        build_line("1.jpg", box),
        build_line("C:\\photos\\NIGHT\\2.jpg", box, box),
        build_line("3.jpg", box, box, box),
        build_line("4.jpg", box),
    )
    done = run_preprocess(tmp_path, format="auto")
    assert done.returncode == 0, done.stderr
    recognized, kept, *_ = done.stdout.splitlines()
    assert recognized == "data/raw/set: format jsonl, recognized by dataset.jsonl"
    assert kept == "kept 2 of 4 images with 2 of 7 boxes; opened 3 of 3 files"
    images = read_manifest(tmp_path / "data/clean/manifest.jsonl")
    assert [image.source for image in images] == ["data/raw/set/data/1.jpg", "data/raw/set/night/2.jpg"]
    with (tmp_path / "data/clean/findings.csv").open(newline="") as file:
        rows = {row["kind"]: row for row in csv.DictReader(file)}
    assert rows["ambiguous_path"]["where"] == "dataset.jsonl:3"
    assert rows["ambiguous_path"]["details"] == "2 files fit: a/3.jpg, b/3.jpg"
    found = "C:\\photos\\NIGHT\\2.jpg -> night/2.jpg (other case, other folder)"
    assert rows["image_found_elsewhere"]["details"] == found
    assert rows["missing_file"]["image"] == "4.jpg"


def test_two_formats_are_a_question(tmp_path: Path) -> None:
    write_lines(tmp_path, build_line("1.jpg"))
    (tmp_path / "data/raw/set/labels.json").write_text('{"images": [], "annotations": [], "categories": []}')
    done = run_preprocess(tmp_path, format="auto")
    assert done.returncode == 1
    message = "more than one format fits: jsonl (dataset.jsonl) and coco (labels.json); set `preprocess.format`"
    assert message in done.stderr


def test_a_mistake_in_the_parameters_of_a_later_stage_stops_before_anything_is_read(tmp_path: Path) -> None:
    sections = {"preprocess": {**PARAMS, "dataset": "nowhere"}, "export": {"precison": "int8"}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(sections))
    done = subprocess.run([sys.executable, SCRIPT], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "params.yaml: unknown key `export.precison`; did you mean `precision`?" in done.stderr
    assert "`export.precision` is missing" in done.stderr
