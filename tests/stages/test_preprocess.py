"""The stage as a user runs it: what it writes, and the same bytes each time."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from detector.manifest.manifest import CleanImage, Labels, read_labels, read_manifest
from tests.support.preprocess_cases import BOX, box, line, picture, run, write_lines

EXIF = Image.Exif()
EXIF[0x0112] = 6


def write_dataset(folder: Path) -> None:
    """Images of every kind: good, alike, to be changed, broken, missing; and one wrong box of each kind."""
    images = folder / "data" / "raw" / "set" / "images"
    images.mkdir(parents=True)
    for number in range(4):
        picture(number).save(images / f"good{number}.jpg")
    picture(0).save(images / "again.jpg", quality=40)
    shutil.copyfile(images / "good1.jpg", images / "copy.jpg")
    picture(10).save(images / "turned.jpg", exif=EXIF)
    picture(11).convert("L").save(images / "grey.png")
    shutil.copyfile(images / "grey.png", images / "grey copy.png")
    picture(12).convert("CMYK").save(images / "cmyk.jpg")
    picture(13).convert("RGBA").save(images / "alpha.png")
    (images / "cut.jpg").write_bytes((images / "good2.jpg").read_bytes()[:500])
    (images / "empty.jpg").touch()
    (images / "text.jpg").write_text("hello")
    good = box(*BOX, state="intact", trust=0.9)
    wrong = [
        box(-0.3, 0.1, 0.5, 0.5),
        box(0.5, 0.1, 0.5, 0.5),
        box(1.1, 0.1, 1.3, 0.5),
        box(0.6, 0.6, 0.61, 0.9),
        box(*BOX, trust=0.1),
        box(float("nan"), 0.1, 0.5, 0.5),
        box(10, 10, 50, 50),
        box(0.6, 0.6, 0.9, 0.9, label="ring", state="rusty"),
        box(0.6, 0.6, 0.9, 0.9, label="ring"),
    ]
    names = ["grey.png", "grey copy.png", "cmyk.jpg", "alpha.png", "again.jpg", "copy.jpg"]
    write_lines(
        folder,
        line("images/good0.jpg", good, *wrong, split="train"),
        line("images/good1.jpg", classification_annotations=[{"annotation_label": "sequence_7--frame_1"}]),
        *[line(f"images/good{number}.jpg", good) for number in (2, 3)],
        line("images/turned.jpg", box(0.0, 0.0, 0.5, 0.25, state="absent")),
        *[line(f"images/{name}", good) for name in names],
        *[line(f"images/{name}.jpg", good) for name in ("cut", "empty", "text", "missing")],
        line("images/../images/good2.jpg", good),
    )


def outputs(folder: Path) -> dict[str, bytes]:
    """Every file that the stage wrote, but for its memory."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for place in ("data/clean", "metrics", "plots")
        for path in sorted((folder / place).rglob("*"))
        if path.is_file()
    }


class Done:
    """What a run wrote and said."""

    def __init__(self, folder: Path, output: str) -> None:
        self.folder, self.output = folder, output
        self.outputs = outputs(folder)
        self.images: dict[str, CleanImage] = {
            image.source.removeprefix("data/raw/set/images/"): image
            for image in read_manifest(folder / "data/clean/manifest.jsonl")
        }
        self.metrics = json.loads(self.outputs["metrics/preprocess.json"])


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    folder = tmp_path_factory.mktemp("preprocess")
    write_dataset(folder)
    finished = run(folder)
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == ""
    return Done(folder, finished.stdout)


FINDINGS = {
    "image listed twice, dropped": 1,
    "truncated image, image dropped": 1,
    "empty file, image dropped": 1,
    "not an image, image dropped": 1,
    "missing file, image dropped": 1,
    "EXIF orientation 6, converted": 1,
    "mode L, converted": 2,
    "mode CMYK, converted": 1,
    "mode RGBA, converted": 1,
    "box outside the image, clipped": 1,
    "box without area, dropped": 1,
    "box wholly outside the image, dropped": 1,
    "box smaller than min_box_size, left out": 1,
    "trust below threshold, box left out": 1,
    "coordinate not finite, box dropped": 1,
    "normalized coordinate far outside 0..1, box dropped": 1,
    "state unknown, box kept without a state": 1,
    "same-class duplicate box, dropped": 1,
}


def test_the_files_that_the_docstring_names(done: Done) -> None:
    plots = ["box_sizes.png", "boxes_per_image.png", "class_states.png", "classes.png", "samples.jpg"]
    names = {name for name in done.outputs if not name.startswith("data/clean/images/")}
    assert names == {
        *(f"data/clean/{name}" for name in ("manifest.jsonl", "labels.json", "findings.csv")),
        "metrics/preprocess.json",
        *(f"plots/data/{name}" for name in plots),
    }
    assert read_labels(done.folder / "data/clean/labels.json") == Labels(["bolt", "ring"], ["intact", "absent"])


def test_the_metrics(done: Done) -> None:
    assert done.metrics == {
        "images_listed": 16,
        "images": 11,
        "images_without_boxes": 1,
        "boxes": 12,
        "duplicate_groups": 3,
        "images_in_duplicate_groups": 6,
        "boxes_per_class": {"bolt": 11, "ring": 1},
        "boxes_per_state": {"intact": 9, "absent": 1, "unknown": 2},
        "findings": dict(sorted(FINDINGS.items())),
        "decisions": {"accept": 0, "fix": 0, "ignore": 0, "unmatched": 0},
    }


def test_every_finding_is_listed_with_its_place(done: Done) -> None:
    rows = list(csv.DictReader(done.outputs["data/clean/findings.csv"].decode().splitlines()))
    assert Counter(row["reason"] for row in rows) == FINDINGS
    assert rows == sorted(rows, key=lambda row: tuple(row.values()))
    cut = next(row for row in rows if row["reason"].startswith("truncated"))
    assert (cut["where"], cut["image"]) == ("dataset.jsonl:12", "images/cut.jpg")


def test_the_console_says_what_was_found(done: Done) -> None:
    assert done.output.startswith("11 of 16 images, 12 boxes; opened 15 of 15 files\n")
    for reason, count in FINDINGS.items():
        assert f"     {count}  {reason}\n" in done.output
    assert done.output.endswith("see data/clean/findings.csv and plots/data\n")


def test_good_images_are_pointed_at_and_not_copied(done: Done) -> None:
    for name in ("good0.jpg", "again.jpg", "copy.jpg"):
        assert done.images[name].image == done.images[name].source == f"data/raw/set/images/{name}"


def test_changed_images_lie_in_one_folder_and_no_other_does(done: Done) -> None:
    changed = {name: image for name, image in done.images.items() if image.image != image.source}
    assert sorted(changed) == ["alpha.png", "cmyk.jpg", "grey copy.png", "grey.png", "turned.jpg"]
    written = [name for name in done.outputs if name.startswith("data/clean/images/")]
    assert sorted(image.image for image in changed.values()) == written
    for image in done.images.values():
        with Image.open(done.folder / image.image) as opened:
            assert (opened.mode, opened.size) == ("RGB", (image.width, image.height))
            assert not dict(opened.getexif())


def test_two_copies_that_are_changed_are_two_images(done: Done) -> None:
    first, second = done.images["grey.png"], done.images["grey copy.png"]
    assert first.content == second.content
    assert first.image != second.image
    assert done.outputs[first.image] == done.outputs[second.image]


def test_boxes_of_a_turned_image_are_of_the_upright_one(done: Done) -> None:
    turned = done.images["turned.jpg"]
    assert (turned.width, turned.height) == (64, 96)
    assert turned.boxes[0].xyxy == (0, 0, 32, 24)


def test_groups_sequences_and_splits_are_in_the_manifest(done: Done) -> None:
    images = done.images
    assert images["again.jpg"].group == images["good0.jpg"].group == "data/raw/set/images/good0.jpg"
    assert images["copy.jpg"].group == images["good1.jpg"].group == "data/raw/set/images/good1.jpg"
    assert images["copy.jpg"].content == images["good1.jpg"].content
    assert images["grey copy.png"].group == images["grey.png"].image
    assert len({image.group for image in images.values()}) == 8
    assert [image.sequence for image in images.values() if image.sequence] == ["7"]
    assert [image.split for image in images.values() if image.split] == ["train"]


def test_a_second_run_opens_nothing_and_writes_the_same_bytes(done: Done) -> None:
    again = run(done.folder)
    assert "; opened 1 of 15 files\n" in again.stdout, "only the missing one is looked for again"
    assert outputs(done.folder) == done.outputs


@pytest.mark.parametrize("executor", ["threads", "dask"])
def test_another_folder_gives_the_same_bytes(done: Done, tmp_path: Path, executor: str) -> None:
    elsewhere = tmp_path / "a rather longer name"
    shutil.copytree(done.folder / "data" / "raw", elsewhere / "data" / "raw")
    (elsewhere / "data/clean/images").mkdir(parents=True)
    (elsewhere / "data/clean/images/old.png").touch()
    finished = run(elsewhere, "-X", "importtime", dataset="./data/raw/../raw/set/", executor=executor)
    assert finished.returncode == 0, finished.stderr
    assert outputs(elsewhere) == done.outputs
    assert "matplotlib" in finished.stderr
    assert "torch" not in finished.stderr, "not even for the figures"
    assert str(done.folder) not in "".join(data.decode("latin-1") for data in done.outputs.values())
