"""Errors of `tools/predict.py`: each gives a message, the right exit code, and valid files."""

from __future__ import annotations

import csv
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

import predict
from detector.inference.video import VideoWriter
from tests.support.bright_model import make_image, write_bright
from tests.support.predict_cases import SCRIPT, make_predict_folder, read_predictions, run_predict


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_predict_folder(tmp_path, 3)


def test_unreadable_images_are_reported_and_the_rest_is_processed(folder: Path) -> None:
    whole = (folder / "photos/00.png").read_bytes()
    (folder / "photos/00_cut.png").write_bytes(whole[:-40])
    (folder / "photos/00_empty.jpg").touch()
    (folder / "photos/01_text.jpg").write_text("hello")
    (folder / "photos/01_link.jpg").symlink_to("nowhere.jpg")
    (folder / "photos/notes.txt").write_text("")
    done = run_predict(folder, "photos", "--format", "coco,csv,jsonl,pictures", code=3)
    assert [Path(image["file_name"]).name for image in read_predictions(folder)["images"]] == [
        "00.png",
        "01.png",
        "02.png",
    ]
    assert [image["id"] for image in read_predictions(folder)["images"]] == [1, 2, 3]
    assert len((folder / "predictions/dataset.jsonl").read_text().splitlines()) == 3
    assert "photos/00_cut.png: " in done.stderr
    assert "photos/00_empty.jpg: the file is empty\n" in done.stderr
    assert "photos/01_text.jpg: not an image" in done.stderr
    assert "photos/01_link.jpg: no such file\n" in done.stderr
    assert "could not be read completely: 4\n" in done.stdout
    assert re.search(r"^other files.*: 1$", done.stdout, re.M)


def test_what_is_refused_before_anything_is_written(folder: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        (folder / name).touch()
    assert "--format cvat takes images" in run_predict(folder, "a.mp4", "b.mp4", "--format", "cvat", code=1).stderr
    assert not (folder / "predictions").exists()
    (folder / "predictions").mkdir()
    (folder / "predictions/dataset.jsonl").write_text("corrected\n")
    done = run_predict(folder, "photos", "--format", "coco,jsonl", code=1)
    assert "predictions/dataset.jsonl: exists and may hold corrections" in done.stderr
    assert [path.name for path in (folder / "predictions").iterdir()] == ["dataset.jsonl"]
    assert (folder / "predictions/dataset.jsonl").read_text() == "corrected\n"


def test_names_that_results_cannot_contain(folder: Path) -> None:
    (folder / "photos/a\udcff.mp4").touch()
    done = run_predict(folder, "photos", "--format", "label-studio", code=3)
    assert ".mp4: the name is not UTF-8" in done.stderr
    (folder / "photos").rename(folder / "photos\udcff")
    done = run_predict(folder, "photos\udcff", "--format", "label-studio", code=1)
    assert "the name is not UTF-8; rename the folder" in done.stderr


def test_only_unreadable_images(folder: Path) -> None:
    (folder / "a.jpg").write_text("hello")
    assert run_predict(folder, "a.jpg", code=3).stdout.startswith("0 images, 0 detections")
    assert read_predictions(folder)["images"] == []


def test_a_video_that_ends_too_early(folder: Path) -> None:
    video = VideoWriter(folder / "clip.mkv", 10.0, (128, 96))
    for number in range(60):
        video.add(make_image((128, 96), (number, 32, 64 + number, 80)))
    video.close()
    data = (folder / "clip.mkv").read_bytes()
    (folder / "clip.mkv").write_bytes(data[: len(data) // 2])
    done = run_predict(folder, "clip.mkv", "photos/00.png", "--format", "coco,pictures", code=3)
    assert "clip.mkv: it ended after " in done.stderr
    assert len(read_predictions(folder)["images"]) > 10
    assert (folder / "predictions/pictures/clip.mkv.mp4").stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.jpg"], "error: nothing.jpg: no such file or folder"),
        (["https://example.org/a.jpg"], "URLs are not supported"),
        (["99"], "99: no such camera"),
        (["photos", "--out", "model.onnx"], "model.onnx: cannot create folder (File exists)"),
        (["photos", "--out", "model.onnx/x"], "cannot create folder (Not a directory)"),
        (["photos", "--tile", "8"], "--tile 8: "),
        (["photos", "--tile", "64", "--overlap", "1"], "--overlap 1.0: "),
        (["photos", "--provider", "cuda"], "provider cuda is not available"),
        (["photos", "--tile", "auto"], "tile auto: the model file has no `object_size`"),
        (["photos", "--overlap", "0.5"], "error: --overlap needs --tile\n"),
        (["photos", "--classes", "wite"], "--classes: 'wite' is no class of the model; did you mean 'white'?"),
        (["photos", "--classes", "white,"], "--classes: '' is no class of the model"),
    ],
)
def test_user_errors_give_one_message(folder: Path, arguments: list[str], message: str) -> None:
    done = run_predict(folder, *arguments, code=3 if arguments == ["99"] else 1)
    assert message in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--threshold", "1.5"],
        ["--threshold", "much"],
        ["--threads", "0"],
        ["--threads", "100000"],
        ["--batch-size", "100000000"],
        ["--batch-size", "-1"],
        ["--format", "xml"],
        ["--format", ""],
        ["--provider", "abacus"],
        ["--tile", "small"],
        ["--tile", "-5"],
    ],
)
def test_invalid_options(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        predict.parse(["model.onnx", "photos", *arguments])
    assert ended.value.code == 2
    assert f"argument {arguments[0]}: " in capsys.readouterr().err


def test_unusable_models(folder: Path) -> None:
    (folder / "model.onnx").unlink()
    assert "model.onnx: no such file" in run_predict(folder, "photos", code=1).stderr
    (folder / "model.onnx").write_text("no ONNX")
    assert "model.onnx: ONNX Runtime cannot load it" in run_predict(folder, "photos", code=1).stderr
    write_bright(folder / "model.onnx", classes=None)
    assert "model.onnx: `metadata.classes` is None" in run_predict(folder, "photos", code=1).stderr
    assert not (folder / "predictions").exists()


def test_full_disk(folder: Path) -> None:
    """No file can exceed 20,000 bytes; everything written before that is complete."""
    for number in range(300):
        os.link(folder / "photos/00.png", folder / f"photos/again{number}.png")
    command = [sys.executable, str(SCRIPT), "model.onnx", "photos", "--format", "coco,jsonl,csv"]
    # Coverage's own data file would not fit either.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
    )
    assert done.returncode == 1
    assert "predictions/dataset.jsonl: cannot be written (File too large)" in done.stderr
    assert "Traceback" not in done.stderr
    assert not [path for path in (folder / "predictions").iterdir() if "part" in path.name]
    lines = (folder / "predictions/dataset.jsonl").read_text().splitlines()
    assert [json.loads(line)["image_path"] for line in lines][:2] == ["images/00.png", "images/01.png"]
    assert len(lines) > 20
    assert abs(len(read_predictions(folder)["images"]) - len(lines)) <= 1, "it was shorter and could be completed"


def test_pictures_on_a_full_disk(folder: Path) -> None:
    command = [sys.executable, str(SCRIPT), "model.onnx", "photos", "--format", "csv,pictures"]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, 3_000)),
    )  # fmt: skip
    assert done.returncode == 1
    assert ".png.jpg: cannot be written (File too large)" in done.stderr
    assert list((folder / "predictions/pictures").iterdir()) == [], "no incomplete picture"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interruption(folder: Path, number: signal.Signals, code: int) -> None:
    """The results up to that point are written, in every format."""
    Image.new("L", (2500, 2500), "white").save(folder / "photos/large.png")  # takes a while, each time
    for again in range(1000):
        os.link(folder / "photos/large.png", folder / f"photos/large{again}.png")
    command = [sys.executable, str(SCRIPT), "model.onnx", "photos", "--format", "coco,jsonl,csv"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    lines = folder / "predictions/dataset.jsonl"
    deadline = time.monotonic() + 60
    while (not lines.exists() or lines.read_text().count("\n") < 5) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert f"{number.name}: stopped; predictions " in errors
    assert "Traceback" not in errors
    done = len(read_predictions(folder)["images"])
    assert 5 <= done < 1000
    assert output.startswith(f"{done} images")
    assert [json.loads(line)["image_path"] for line in lines.read_text().splitlines()] == [
        f"images/{image['file_name']}" for image in read_predictions(folder)["images"]
    ]
    with (folder / "predictions/predictions.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == len(read_predictions(folder)["annotations"])


def test_interruption_within_a_tiled_image(folder: Path) -> None:
    """Tens of thousands of tiles; the image that was finished before is in the results."""
    Image.new("L", (7000, 7000), "white").save(folder / "photos/large.png")
    command = [sys.executable, str(SCRIPT), "model.onnx", "photos/00.png", "photos/large.png", "--tile", "32"]
    process = subprocess.Popen(
        [*command, "--format", "coco,csv"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    rows = folder / "predictions/predictions.csv"
    deadline = time.monotonic() + 60
    while (not rows.exists() or rows.read_text().count("\n") < 2) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert output.startswith("1 image, 2 detections")
    assert "SIGINT: stopped; predictions contains the results so far" in errors
    assert [image["file_name"] for image in read_predictions(folder)["images"]] == ["00.png"]


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_reader_that_left_ends_the_command_quietly(folder: Path, stream: str) -> None:
    (folder / "photos/00_empty.jpg").touch()  # reported on stderr
    end, start = os.pipe()
    os.close(end)
    command = [sys.executable, str(SCRIPT), "model.onnx", "photos"]
    with os.fdopen(start, "w") as pipe:
        outputs = (pipe, subprocess.PIPE) if stream == "stdout" else (subprocess.PIPE, pipe)
        done = subprocess.run(command, cwd=folder, text=True, stdout=outputs[0], stderr=outputs[1], check=False)
    assert done.returncode == 141
    assert "Traceback" not in (done.stderr or "")
    read_predictions(folder)  # complete JSON
