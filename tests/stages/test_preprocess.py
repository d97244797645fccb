"""The stage as a user runs it: its outputs, and the same bytes each time."""

from __future__ import annotations

import csv
import json
import re
import shutil
import time
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from detector.manifest.manifest import CleanImage, Labels, read_labels, read_manifest
from detector.preprocessing.inspection_cache import CLOCK_STEP
from tests.support.preprocess_cases import BOX, build_box, build_image, build_line, run_preprocess, write_lines

EXIF = Image.Exif()
EXIF[0x0112] = 6


def write_dataset(folder: Path) -> None:
    """Valid, similar, convertible, broken and missing images, and one invalid box of each kind."""
    images = folder / "data" / "raw" / "set" / "images"
    images.mkdir(parents=True)
    for number in range(4):
        build_image(number).save(images / f"good{number}.jpg")
    build_image(0).save(images / "again.jpg", quality=40)
    shutil.copyfile(images / "good1.jpg", images / "copy.jpg")
    build_image(10).save(images / "turned.jpg", exif=EXIF)
    build_image(11).convert("L").save(images / "gray.png")
    shutil.copyfile(images / "gray.png", images / "gray copy.png")
    build_image(12).convert("CMYK").save(images / "cmyk.jpg")
    build_image(13).convert("RGBA").save(images / "alpha.png")
    (images / "cut.jpg").write_bytes((images / "good2.jpg").read_bytes()[:500])
    (images / "empty.jpg").touch()
    (images / "text.jpg").write_text("hello")
    good = build_box(*BOX, state="intact", trust=0.9)
    invalid = [
        build_box(-0.3, 0.1, 0.5, 0.5),
        build_box(0.5, 0.1, 0.5, 0.5),
        build_box(1.1, 0.1, 1.3, 0.5),
        build_box(0.6, 0.6, 0.61, 0.9),
        build_box(*BOX, trust=0.1),
        build_box(float("nan"), 0.1, 0.5, 0.5),
        build_box(10, 10, 50, 50),
        build_box(0.6, 0.6, 0.9, 0.9, label="ring", state="rusty"),
        build_box(0.6, 0.6, 0.9, 0.9, label="ring"),
    ]
    names = ["gray.png", "gray copy.png", "cmyk.jpg", "alpha.png", "again.jpg", "copy.jpg"]
    write_lines(
        folder,
        build_line("images/good0.jpg", good, *invalid, split="train"),
        build_line("images/good1.jpg", classification_annotations=[{"annotation_label": "sequence_7--frame_1"}]),
        *[build_line(f"images/good{number}.jpg", good) for number in (2, 3)],
        build_line("images/turned.jpg", build_box(0.0, 0.0, 0.5, 0.25, state="absent")),
        *[build_line(f"images/{name}", good) for name in names],
        *[build_line(f"images/{name}.jpg", good) for name in ("cut", "empty", "text", "missing")],
        build_line("images/../images/good2.jpg", good),
    )


def outputs(folder: Path) -> dict[str, bytes]:
    """Every file that the stage wrote, except its cache."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for place in ("data/clean", "metrics", "plots")
        for path in sorted((folder / place).rglob("*"))
        if path.is_file()
    }


class Done:
    """The outputs of a run."""

    def __init__(self, folder: Path, output: str) -> None:
        self.folder, self.output = folder, output
        self.outputs = outputs(folder)
        self.images: dict[str, CleanImage] = {
            image.source.removeprefix("data/raw/set/images/"): image
            for image in read_manifest(folder / "data/clean/manifest.jsonl")
        }
        self.metrics = json.loads(self.outputs["metrics/preprocess/details.json"])


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    folder = tmp_path_factory.mktemp("preprocess")
    write_dataset(folder)
    time.sleep(CLOCK_STEP)  # files that have only just changed are not remembered
    finished = run_preprocess(folder)
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == ""
    return Done(folder, finished.stdout)


FINDINGS = {
    "dropped_image": {
        "duplicate_entry": 1,
        "empty_file": 1,
        "missing_file": 1,
        "not_an_image": 1,
        "truncated_image": 1,
    },
    "dropped_box": {
        "box_outside_image": 1,
        "coordinate_out_of_range": 1,
        "duplicate_box": 1,
        "empty_box": 1,
        "non_finite_box": 1,
    },
    "excluded_box": {"low_trust": 1, "small_box": 1},
    "repaired": {"box_clipped": 1, "image_converted": 4, "image_reoriented": 1, "unknown_state": 1},
}


def test_the_stage_writes_the_files_in_its_docstring(done: Done) -> None:
    charts = "aspect_ratios box_sizes boxes_per_image class_states classes relative_sizes trust"
    names = {name for name in done.outputs if not name.startswith("data/clean/images/")}
    assert names == {
        *(f"data/clean/{name}" for name in ("manifest.jsonl", "labels.json", "findings.csv")),
        "metrics/preprocess.json",
        "metrics/preprocess/details.json",
        *(f"metrics/preprocess/{name}.json" for name in charts.split()),
        "plots/data/samples.jpg",
    }
    assert read_labels(done.folder / "data/clean/labels.json") == Labels(["bolt", "ring"], ["intact", "absent"])


def test_the_metrics(done: Done) -> None:
    assert done.metrics == {
        "files": {"found": 15, "images": 14, "annotations": 1, "passed_over": 0},
        "images_listed": 16,
        "images": 11,
        "images_without_boxes": 1,
        "boxes_listed": 24,
        "boxes_of_dropped_images": 5,
        "boxes": 12,
        "duplicate_groups": 3,
        "images_in_duplicate_groups": 6,
        "boxes_per_class": {"bolt": 11, "ring": 1},
        "boxes_per_state": {"intact": 9, "absent": 1, "unknown": 2},
        "findings": FINDINGS,
        "decisions": {"accept": 0, "fix": 0, "ignore": 0, "unmatched": 0},
    }


def test_files_images_and_boxes_add_up(done: Done) -> None:
    metrics = done.metrics
    files = metrics["files"]
    assert files["found"] == files["images"] + files["annotations"] + files["passed_over"]
    assert metrics["images_listed"] == metrics["images"] + sum(FINDINGS["dropped_image"].values())
    lost = sum(FINDINGS["dropped_box"].values()) + sum(FINDINGS["excluded_box"].values())
    assert metrics["boxes_listed"] == metrics["boxes"] + lost + metrics["boxes_of_dropped_images"]


def test_every_finding_is_listed_with_its_place(done: Done) -> None:
    rows = list(csv.DictReader(done.outputs["data/clean/findings.csv"].decode().splitlines()))
    found = Counter((row["severity"], row["kind"]) for row in rows)
    assert found == {(severity, kind): n for severity, kinds in FINDINGS.items() for kind, n in kinds.items()}
    by_kind = {row["kind"]: row for row in rows}
    truncated = by_kind["truncated_image"]
    assert (truncated["where"], truncated["image"], truncated["box"]) == ("dataset.jsonl:12", "images/cut.jpg", "")
    outside = by_kind["box_outside_image"]
    assert (outside["where"], outside["box"], outside["details"]) == (
        "dataset.jsonl:1",
        "4",
        "bolt [1.1, 0.1, 1.3, 0.5]",
    )


def test_the_console_summarizes_the_findings(done: Done) -> None:
    numbers, *lines = done.output.splitlines()
    assert [int(number) for number in re.findall(r"\d+", numbers)] == [11, 16, 12, 24, 15, 15]
    assert [int(number) for number in re.findall(r"\d+", lines[0])] == [15, 14, 1, 0]
    words = [line.split() for line in lines]
    for kinds in FINDINGS.values():
        assert any(line[-1] == str(sum(kinds.values())) for line in words)
        for kind, count in kinds.items():
            assert any(line[:2] == [str(count), kind] for line in words)
    assert done.output.endswith("see data/clean/findings.csv and plots/data\n")


def test_valid_images_are_referenced_and_not_copied(done: Done) -> None:
    for name in ("good0.jpg", "again.jpg", "copy.jpg"):
        assert done.images[name].image == done.images[name].source == f"data/raw/set/images/{name}"


def test_only_converted_images_are_written(done: Done) -> None:
    converted = {name: image for name, image in done.images.items() if image.image != image.source}
    assert sorted(converted) == ["alpha.png", "cmyk.jpg", "gray copy.png", "gray.png", "turned.jpg"]
    written = [name for name in done.outputs if name.startswith("data/clean/images/")]
    assert sorted(image.image for image in converted.values()) == written
    for image in done.images.values():
        with Image.open(done.folder / image.image) as opened:
            assert (opened.mode, opened.size) == ("RGB", (image.width, image.height))
            assert not dict(opened.getexif())


def test_two_converted_copies_are_two_images(done: Done) -> None:
    first, second = done.images["gray.png"], done.images["gray copy.png"]
    assert first.content == second.content
    assert first.image != second.image
    assert done.outputs[first.image] == done.outputs[second.image]


def test_boxes_of_a_reoriented_image_are_those_of_the_upright_image(done: Done) -> None:
    turned = done.images["turned.jpg"]
    assert (turned.width, turned.height) == (64, 96)
    assert turned.boxes[0].xyxy == (0, 0, 32, 24)


def test_groups_sequences_and_splits_are_in_the_manifest(done: Done) -> None:
    images = done.images
    assert images["again.jpg"].group == images["good0.jpg"].group == "data/raw/set/images/good0.jpg"
    assert images["copy.jpg"].group == images["good1.jpg"].group == "data/raw/set/images/good1.jpg"
    assert images["copy.jpg"].content == images["good1.jpg"].content
    assert images["gray copy.png"].group == images["gray.png"].image
    assert len({image.group for image in images.values()}) == 8
    assert [image.sequence for image in images.values() if image.sequence] == ["7"]
    assert [image.split for image in images.values() if image.split] == ["train"]


def test_a_second_run_opens_only_missing_files_and_writes_the_same_bytes(done: Done) -> None:
    again = run_preprocess(done.folder)
    assert "; opened 1 of 15 files\n" in again.stdout, "only the missing file is tried again"
    assert outputs(done.folder) == done.outputs


@pytest.mark.parametrize("executor", ["threads", pytest.param("dask", marks=pytest.mark.long)])
def test_another_folder_gives_the_same_bytes(done: Done, tmp_path: Path, executor: str) -> None:
    elsewhere = tmp_path / "a rather longer name"
    shutil.copytree(done.folder / "data" / "raw", elsewhere / "data" / "raw")
    (elsewhere / "data/clean/images").mkdir(parents=True)
    (elsewhere / "data/clean/images/old.png").touch()
    (elsewhere / "machine.yaml").write_text(f"executor: {executor}\n")
    finished = run_preprocess(elsewhere, "-X", "importtime", dataset="./data/raw/../raw/set/")
    assert finished.returncode == 0, finished.stderr
    assert outputs(elsewhere) == done.outputs
    assert "PIL.Image" in finished.stderr
    assert not any(name in finished.stderr for name in (" torch", " matplotlib", " pandas")), "not even for the plots"
    assert str(done.folder) not in "".join(data.decode("latin-1") for data in done.outputs.values())
