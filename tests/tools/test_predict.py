"""`tools/predict.py` from input files to output files, with a detector whose detections are known."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import predict
from detector.inference.inputs import Input
from detector.inference.video import VideoWriter, read_frames
from tests.support.bright_model import CALIBRATED_SCORES, make_image, write_bright
from tests.support.predict_cases import SCRIPT, make_predict_folder, read_predictions, run_predict

WHITE_BOX, RED_BOX = [16, 32, 48, 48], [80, 8, 32, 16]  # xywh of the first image
HEAVY = ("torch", "hotcoco", "tqdm", "pandas", "matplotlib", "onnx", "cv2", "scipy", "yaml", "dvc")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_predict_folder(tmp_path, 12)


def test_all_formats_contain_the_same_detections(folder: Path) -> None:
    done = run_predict(folder, "photos", "--format", "coco,jsonl,csv,pictures", "--batch-size", "5")
    written = read_predictions(folder)
    assert [image["file_name"] for image in written["images"]] == [f"{n:02}.png" for n in range(12)]
    first, second, third = written["annotations"][:3]
    assert (first["bbox"], first["category_id"], first["score"]) == (WHITE_BOX, 1, CALIBRATED_SCORES[0])
    assert (second["bbox"], second["category_id"], second["score"]) == (RED_BOX, 2, CALIBRATED_SCORES[1])
    assert (first["state"], second["state"], first["state_score"]) == (1, 2, 0.9)
    assert third["image_id"] == 2
    assert [one["bbox"][2] for one in written["annotations"] if one["category_id"] == 1] == list(range(48, 72, 2))
    lines = [json.loads(line) for line in (folder / "predictions/dataset.jsonl").read_text().splitlines()]
    assert [len(line["bounding_box_annotations"]) for line in lines] == [2, 1, 1] * 4
    assert lines[0]["bounding_box_annotations"][1]["state"] == "damaged"
    with (folder / "predictions/predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows[:3]] == ["white", "rot ü", "white"]
    assert rows[0]["image"] == "00.png"
    assert len(list((folder / "predictions/pictures").iterdir())) == 12
    assert done.stdout.startswith("12 images, 16 detections, ")
    assert "white: 12\n  rot ü: 4\nstates: intact 12, damaged 4\n" in done.stdout


def test_only_the_requested_formats_are_written(folder: Path) -> None:
    run_predict(folder, "photos")
    assert [path.name for path in (folder / "predictions").iterdir()] == ["predictions.json"]
    run_predict(folder, "photos", "--format", "csv", "--out", "deep/er")
    assert [path.name for path in (folder / "deep/er").iterdir()] == ["predictions.csv"]


def test_formats_of_other_tools(folder: Path) -> None:
    done = run_predict(folder, "photos", "--format", "coco-results,yolo,cvat,label-studio", "--save-crops")
    out = folder / "predictions"
    assert {path.name for path in out.iterdir()} == {
        "classes.txt", "crops", "cvat.xml", "cvat_labels.json", "label_studio.json", "label_studio.xml", "labels",
        "results.json",
    }  # fmt: skip
    assert len(json.loads((out / "results.json").read_text())) == 16
    assert sum(path.read_text().count("\n") for path in (out / "labels").iterdir()) == 16
    assert (out / "cvat.xml").read_text("utf-8").count("<box ") == 16
    results = [part for task in json.loads((out / "label_studio.json").read_text()) for part in task["predictions"]]
    assert sum(part["type"] == "rectanglelabels" for one in results for part in one["result"]) == 16
    assert len(list((out / "crops/white").iterdir())) == 12
    with Image.open(out / "crops/rot ü/00_2.jpg") as crop:
        assert crop.size == (32, 16)
    assert f"images are named relative to {folder / 'photos'}" in done.stdout


def test_no_path_in_an_output_leads_out_of_a_folder(folder: Path) -> None:
    run_predict(folder, "photos/00.png", "--format", "coco,coco-results,yolo,cvat,label-studio,jsonl,csv")
    for path in (folder / "predictions").rglob("*.*"):
        if path.suffix != ".png":
            assert "../" not in path.read_text("utf-8"), path


@pytest.mark.parametrize(
    ("options", "counts"),
    [
        (["--classes", "white"], {1: 12}),
        (["--classes", "rot ü,white"], {1: 12, 2: 4}),
        (["--classes", "rot ü", "--classes", "rot ü"], {2: 4}),
    ],
)
def test_only_the_given_classes_are_detected(folder: Path, options: list[str], counts: dict[int, int]) -> None:
    done = run_predict(folder, "photos", *options)
    assert Counter(one["category_id"] for one in read_predictions(folder)["annotations"]) == counts
    assert ("white: " in done.stdout) == (1 in counts)


def test_a_class_name_may_contain_a_comma(folder: Path) -> None:
    classes = ["white, bright", "rot ü"]
    write_bright(folder / "model.onnx", classes=classes, threshold=dict.fromkeys(classes, 0.2))
    run_predict(folder, "photos", "--classes", "white, bright")
    assert {one["category_id"] for one in read_predictions(folder)["annotations"]} == {1}


@pytest.mark.parametrize(
    ("given", "names", "problem"),
    [
        (b"photos/00.png\nphotos/03.png\nphotos/gone.png\n", ["00.png", "03.png"], "gone.png: no such file"),
        (b"photos/\xff.png\nphotos/00.png\n", ["00.png"], "the name is not UTF-8"),
    ],
)
def test_paths_from_standard_input(folder: Path, given: bytes, names: list[str], problem: str) -> None:
    """A path that cannot be read, or cannot be written to an output, is reported."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "model.onnx", "-"], cwd=folder, capture_output=True, input=given, check=False
    )
    assert done.returncode == 3, done.stderr
    assert [image["file_name"] for image in read_predictions(folder)["images"]] == names
    assert problem in done.stderr.decode()


@pytest.mark.parametrize(("threshold", "classes"), [("0.1", {1, 2}), ("0.5", {1}), ("0.7", set())])
def test_a_given_threshold_applies_to_the_calibrated_score(folder: Path, threshold: str, classes: set[int]) -> None:
    run_predict(folder, "photos/00.png", "--threshold", threshold)
    assert {one["category_id"] for one in read_predictions(folder)["annotations"]} == classes


def test_the_stored_thresholds_apply_to_the_uncalibrated_score(folder: Path) -> None:
    write_bright(folder / "model.onnx", threshold={"white": 0.61, "rot ü": 0.29})
    run_predict(folder, "photos/00.png")
    assert [one["category_id"] for one in read_predictions(folder)["annotations"]] == [2], (
        "its calibrated score is 0.155"
    )


def test_a_model_without_states(folder: Path) -> None:
    write_bright(folder / "model.onnx", states=[])
    done = run_predict(folder, "photos/00.png", "--format", "coco,csv,jsonl")
    assert "states: " not in done.stdout
    assert all("state" not in one for one in read_predictions(folder)["annotations"])
    assert "state" not in (folder / "predictions/dataset.jsonl").read_text()


def test_tiles_detect_objects_that_are_too_small_in_the_whole_image(folder: Path) -> None:
    make_image((900, 700), (431, 203, 434, 206)).save(folder / "large.png")
    run_predict(folder, "large.png")
    assert read_predictions(folder)["annotations"] == []
    run_predict(folder, "large.png", "--tile", "64", "--overlap", "0.25")
    (found,) = read_predictions(folder)["annotations"]
    assert found["bbox"] == [431, 203, 3, 3]


def test_automatic_tiles_come_from_the_model(folder: Path) -> None:
    size = {"image_side": 64, "p10": 2.0, "p50": 3.0, "p90": 15.0}
    write_bright(folder / "model.onnx", object_size=size)
    make_image((900, 700), (431, 203, 434, 206)).save(folder / "large.png")
    done = run_predict(folder, "large.png")
    assert "images with more than 2 times the pixels per side of those trained on (see --tile auto): 1\n" in done.stdout
    done = run_predict(folder, "large.png", "--tile", "auto")
    assert "tiles: 64 pixels, overlapping by 0.25\n" in done.stdout
    (found,) = read_predictions(folder)["annotations"]
    assert found["bbox"] == [431, 203, 3, 3]
    assert "overlapping by 0.5\n" in run_predict(folder, "large.png", "--tile", "auto", "--overlap", "0.5").stdout


def test_max_detections_applies_to_each_tile(folder: Path) -> None:
    write_bright(folder / "model.onnx", max_detections=1)
    large = Image.new("RGB", (256, 64))
    for left in (8, 72, 136, 200):
        large.paste((255, 255, 255), (left, 20, left + 30, 50))
    large.save(folder / "large.png")
    run_predict(folder, "large.png", "--tile", "64", "--overlap", "0")
    boxes = sorted(one["bbox"] for one in read_predictions(folder)["annotations"] if one["bbox"][2] == 30)
    assert boxes == [[left, 20, 30, 30] for left in (8, 72, 136, 200)]


def test_results_do_not_depend_on_threads_and_batch_size(folder: Path) -> None:
    written = []
    for options in (["--threads", "1", "--batch-size", "1"], ["--threads", "4", "--batch-size", "100"]):
        run_predict(folder, "photos", "--provider", "cpu", *options)
        written.append((folder / "predictions/predictions.json").read_bytes())
    assert written[0] == written[1]


def test_images_patterns_and_duplicates(folder: Path) -> None:
    done = run_predict(folder, "photos/0[0-3].png", "photos/11.png", "photos/00.png")
    assert [Path(image["file_name"]).stem for image in read_predictions(folder)["images"]] == [
        "00",
        "01",
        "02",
        "03",
        "11",
    ]
    assert re.search(r"^inputs given more than once.*: 1$", done.stdout, re.M)


def test_a_second_run_ignores_the_pictures_of_the_first(folder: Path) -> None:
    for _ in range(2):
        assert run_predict(folder, ".", "--format", "pictures").stdout.startswith("12 images")


def test_a_video(folder: Path) -> None:
    video = VideoWriter(folder / "clip.mp4", 10.0, (128, 96))
    for number in range(20):
        video.add(make_image((128, 96), (16 + number, 32, 64 + number, 80)))
    video.close()
    done = run_predict(folder, "clip.mp4", "--format", "coco,jsonl,csv,pictures")
    assert done.stdout.startswith("20 images, 20 detections")
    written = read_predictions(folder)
    assert [(image["frame"], image["seconds"]) for image in written["images"][:2]] == [(1, 0.0), (2, 0.1)]
    lefts = [one["bbox"][0] for one in written["annotations"]]
    assert lefts == pytest.approx([16 + number for number in range(20)], abs=2.5)
    frames = [image for _, image in read_frames(Input(folder / "predictions/pictures/clip.mp4", "video"))]
    assert len(frames) == 20
    assert {frame.size for frame in frames} == {(640, 480)}
    assert len(list((folder / "predictions/frames/clip.mp4").iterdir())) == 20


def test_only_four_packages_are_imported(folder: Path) -> None:
    """This holds for images; videos need a fifth package."""
    code = f"import sys; sys.path.insert(0, {str(SCRIPT.parent)!r}); import predict; predict.main(sys.argv[1:]); " + (
        f"print('imported', sorted(set(sys.modules) & set({HEAVY!r})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "model.onnx", "photos", "--format", "coco,jsonl,csv,pictures", "--tile", "64"],
        cwd=folder, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.endswith("imported []\n")


def test_pictures_are_placed_relative_to_the_common_folder(folder: Path) -> None:
    (folder / "photos/deep").mkdir()
    Image.new("RGB", (9, 9)).save(folder / "photos/deep/00.png")
    run_predict(folder, "photos/deep", "photos/00.png", "--format", "pictures")
    pictures = folder / "predictions/pictures"
    assert sorted(path.relative_to(pictures).as_posix() for path in pictures.rglob("*.jpg")) == [
        "00.png.jpg", "deep/00.png.jpg",
    ]  # fmt: skip
    shown = np.asarray(Image.open(pictures / "00.png.jpg"))
    assert shown.shape == (480, 640, 3)


def test_help_lists_all_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        predict.parse(["--help"])
    text = capsys.readouterr().out
    for word in (
        "--out",
        "--format",
        "--threshold",
        "--classes",
        "--save-crops",
        "--tile",
        "--overlap",
        "--provider",
        "--threads",
        "--batch-size",
    ):
        assert word in text


@pytest.mark.parametrize(("live", "shown"), [(True, "\r3 / 12 images"), (False, "3 / 12 images")])
def test_progress(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, live: bool, shown: str) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: live)
    clock: list[Any] = [0.0]
    monkeypatch.setattr("detector.inference.progress.time.perf_counter", lambda: clock[0])
    progress = predict.Progress(12)
    for _ in range(3):
        clock[0] += 40
        progress.step()
    progress.print_line("a problem")
    text = capsys.readouterr().err
    assert f"{shown}, 0.03 images/s, 6:00 left" in text
    assert text.endswith("a problem\n")
    clock[0] += 40
    progress.count_tiles(5, 10)
    assert f"{shown}, tile 5 / 10, 0.02 images/s, 6:29 left" in capsys.readouterr().err


def test_progress_within_the_first_image(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    clock = [0.0]
    monkeypatch.setattr("detector.inference.progress.time.perf_counter", lambda: clock[0])
    progress = predict.Progress(1)
    progress.count_tiles(0, 40)
    clock[0] += 10
    progress.count_tiles(10, 40)
    lines = [line.strip() for line in capsys.readouterr().err.split("\r")]
    assert lines == ["", "0 / 1 images, tile 0 / 40", "0 / 1 images, tile 10 / 40, 0:30 left"]
