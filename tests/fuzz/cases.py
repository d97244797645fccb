"""One case: make a dataset, run preprocess, split and coco-convert on it as the stages do, and check the result."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import os
import random
import shutil
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from PIL import Image

import coco_convert
import preprocess
import split
from detector.core.errors import run_command
from detector.core.images import IMAGE_FORMATS
from detector.core.tar_shards import read_image_bytes
from detector.manifest.manifest import CleanImage, read_manifest
from detector.preprocessing.findings import FindingKind, FindingLog
from tests.fuzz.counting import Contents, count_contents
from tests.fuzz.datasets import VARIANTS, FuzzDataset, build_dataset
from tests.fuzz.document_mutations import mutate_document
from tests.fuzz.file_mutations import mutate_file
from tests.fuzz.harmless_mutations import change_harmlessly

ROOT = Path(__file__).parents[2]
DATASET = Path("data/raw/set")
MAX_MESSAGE = 20_000  # characters of an error message
HARMLESS_SHARE = 0.15
_SETTINGS: dict[str, dict[str, Any]] = {
    "preprocess": {
        "dataset": str(DATASET), "classes": None, "states": None, "min_trust": 0.5, "min_box_size": 3,
        "duplicate_iou": 0.9, "near_duplicate_similarity": 0.95, "on_error": "drop",
    },
    "split": {"strategy": "stratified", "ratios": {"train": 0.5, "val": 0.25, "test": 0.25}, "seed": 0},
    "coco_convert": {"absent_states": ["absent"]},
}  # fmt: skip
_LOGS: list[FindingLog] = []  # of the runs in this process


class Case(NamedTuple):
    """Outcome of one seed: "accepted", "user error" or "wrong"; details: the message, or what is wrong."""

    format: str
    seed: int
    story: tuple[str, ...]
    outcome: str
    details: str = ""


class _Wrong(Exception):
    """What a check found."""


def prepare_process() -> None:
    """Let this process keep the logs of its runs, draw no samples and not ask git. Call once, before `run_case`."""
    preprocess.FindingLog = _new_log  # type: ignore[misc,assignment]
    preprocess.draw_samples = lambda *_: None
    split.read_committed = lambda path: ""


def _new_log() -> FindingLog:
    _LOGS.append(FindingLog())
    return _LOGS[-1]


def make_dataset(format_: str, seed: int) -> tuple[FuzzDataset, bool]:
    """The dataset of a seed, and whether its changes must not matter."""
    rng = random.Random(f"{format_} {seed}")
    dataset = build_dataset(format_, seed % VARIANTS)
    if rng.random() < HARMLESS_SHARE:
        change_harmlessly(dataset, rng)
        return dataset, True
    count = rng.choice((1, 1, 1, 2, 3))
    of_documents = sum(rng.random() < 0.5 for _ in range(count))
    for _ in range(of_documents):
        mutate_document(dataset, rng)
    dataset.serialize()
    for _ in range(count - of_documents):
        mutate_file(dataset, rng)
    return dataset, False


def write_dataset(dataset: FuzzDataset, folder: Path) -> None:
    """Write all files, then what is no file. A file in the way of a folder is left out."""
    for name, data in sorted(dataset.files.items()):
        path = folder / os.fsdecode(name)
        with contextlib.suppress(FileExistsError, NotADirectoryError, IsADirectoryError):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    folder.mkdir(parents=True, exist_ok=True)
    for create in dataset.specials:
        create(folder)


def run_case(
    format_: str, seed: int, folder: Path, guard: Callable[[Path], contextlib.AbstractContextManager[list[str]]]
) -> Case:
    """Run a seed in the new folder `folder`; guard: collects what the run must not do outside of a folder."""
    dataset, harmless = make_dataset(format_, seed)
    story = (f"variant {seed % VARIANTS}", *dataset.story)
    with _inside(folder):
        write_dataset(dataset, DATASET)
        _write_settings(format_)
        with guard(folder) as violations:
            outcome, details = _run_stages()
        if violations:
            return Case(format_, seed, story, "wrong", "\n".join(violations))
        try:
            if outcome == "accepted":
                _check_result(dataset)
                _check_touched(dataset, harmless, _find_expected(format_, seed % VARIANTS))
            elif harmless and outcome == "user error":
                raise _Wrong(f"a change that must not matter is an error: {details}")
        except _Wrong as error:
            return Case(format_, seed, story, "wrong", str(error))
        except Exception:
            return Case(format_, seed, story, "wrong", f"the check failed:\n{traceback.format_exc()[-1500:]}")
    return Case(format_, seed, story, outcome, details)


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    here = Path.cwd()
    folder.mkdir(parents=True)
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(here)


def _write_settings(format_: str) -> None:
    settings = {**_SETTINGS, "preprocess": _SETTINGS["preprocess"] | {"format": format_}}
    Path("params.yaml").write_text(yaml.safe_dump(settings))
    shutil.copy(ROOT / "versions.yaml", "versions.yaml")
    shutil.copy(ROOT / "data/decisions.csv", "data/decisions.csv")


def _run_stages() -> tuple[str, str]:
    """Outcome and details of the three stages; an error of split is one of the user, since so few images are few."""
    _LOGS.clear()
    for stage in (preprocess, split, coco_convert):
        try:
            with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO(), encoding="utf-8")):
                run_command(stage.main)
        except SystemExit as end:
            message = str(end.code)
            if stage is coco_convert or not 10 < len(message) < MAX_MESSAGE:
                return "wrong", f"{stage.__name__}: {message[:500]!r} of {len(message):,} characters"
            return ("accepted" if stage is split else "user error"), message
        except BaseException:
            return "wrong", f"{stage.__name__}: {traceback.format_exc()[-1500:]}"
    return "accepted", ""


def _check_result(dataset: FuzzDataset) -> None:
    """The outputs are usable, and images, boxes and files in = kept + counted drops."""
    log, images = _LOGS[-1], list(read_manifest(preprocess.CLEAN / "manifest.jsonl"))
    for image in images:
        _check_image(image)
    metrics = json.loads(preprocess.DETAILS.read_text())
    counted = {severity: sum(of_kinds.values()) for severity, of_kinds in log.counts().items()}
    kept, dropped = sum(len(image.boxes) for image in images), counted.get("dropped_image", 0)
    lost = counted.get("dropped_box", 0) + counted.get("excluded_box", 0) + log.boxes_of_dropped_images
    _expect(log.boxes == kept + lost, f"{log.boxes} boxes in, {kept} kept, {lost} counted")
    _expect(metrics["images"] == len(images), f"metrics of {metrics['images']} images, {len(images)} kept")
    contents = count_contents(
        DATASET,
        dataset.format,
        skipped=set(_find_places(log, FindingKind.SKIPPED_ANNOTATION_FILE)),
        again=_find_places(log, FindingKind.SHARED_LABEL_FILE),
    )
    _expect(contents.boxes == log.boxes, f"{contents.boxes} boxes in the annotations, {log.boxes} counted: {metrics}")
    listed = f"{contents.images} images listed, {len(images)} kept, {dropped} dropped"
    _expect(contents.images in (None, len(images) + dropped), listed)
    _check_files(contents, log, images)
    _check_coco(images)


def _find_places(log: FindingLog, kind: FindingKind) -> list[str]:
    return [finding.where for finding in log.listed if finding.kind is kind]


def _check_files(contents: Contents, log: FindingLog, images: list[CleanImage]) -> None:
    """Every file is used or counted, and every image file and member of a shard is kept or named by a finding."""
    files, found = log.files, len(contents.files)
    _expect(files.found == files.images + files.annotations + files.passed_over, f"{files} do not add up")
    notes = sum(log.counts().get("note", {}).get(kind.key, 0) for kind in _PASSED_OVER)
    _expect(files.passed_over == notes, f"{files}: {notes} findings about files passed over")
    fits = files.found >= found if contents.has_links else files.found == found
    _expect(fits, f"{found} files in the folder, {files}")
    named = [DATASET / name for finding in log.listed for name in (finding.image, finding.where)]
    named += [Path(image.source) for image in images]
    places = {_locate(path) for path in named}
    for picture in contents.pictures:
        _expect(_locate(picture) in places, f"{str(picture)!r} is neither kept nor named by a finding")
    members = {str(path) for path in named if path.parent.suffix == ".tar"}
    unused = len(_find_places(log, FindingKind.UNUSED_MEMBER))
    _expect(
        contents.members <= len(members) + unused, f"{contents.members} in shards, {members} named, {unused} unused"
    )


def _locate(path: Path) -> Path:
    """The place of a file, with links of folders resolved; a linked file is another file than its target."""
    return path.parent.resolve() / path.name


_PASSED_OVER = (
    FindingKind.SKIPPED_ANNOTATION_FILE, FindingKind.UNUSED_IMAGE, FindingKind.UNUSED_FILE, FindingKind.HIDDEN_FILE,
    FindingKind.SPECIAL_FILE, FindingKind.BROKEN_LINK, FindingKind.SKIPPED_FOLDER,
)  # fmt: skip


def _expect(holds: bool, message: str) -> None:
    if not holds:
        raise _Wrong(message)


def _check_image(image: CleanImage) -> None:
    """Pillow alone opens the image, which is upright 8-bit RGB of the size that the manifest says."""
    for name in {image.image, image.source}:
        try:
            with Image.open(io.BytesIO(read_image_bytes(Path(name))), formats=IMAGE_FORMATS) as opened:
                opened.load()
                found = opened.mode, opened.size
        except Exception as error:
            raise _Wrong(f"{name!r} is kept, but Pillow refuses it: {error!r}") from None
        _expect(name != image.image or found == ("RGB", (image.width, image.height)), f"{name!r}: {found} of {image}")
    for box in image.boxes:
        left, top, right, bottom = box.xyxy
        _expect(0 <= left < right <= image.width and 0 <= top < bottom <= image.height, f"{name!r}: {box}")


def _check_coco(images: list[CleanImage]) -> None:
    """The COCO files together have the images and boxes of the manifest; without files, split has refused."""
    paths = sorted(coco_convert.COCO.glob("*.json"))
    if not paths:
        return
    contents = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    names = sorted(row["file_name"] for content in contents for row in content["images"])
    _expect(names == sorted(image.image for image in images), f"COCO has {names}")
    boxes = sum(len(content["annotations"]) for content in contents)
    _expect(boxes == sum(len(image.boxes) for image in images), f"COCO has {boxes} boxes")


Summary = dict[str, Any]  # by content: what must stay


def _summarize() -> Summary:
    images = read_manifest(preprocess.CLEAN / "manifest.jsonl")
    return {
        image.content: (image.width, image.height, image.split, image.sequence, sorted(map(str, image.boxes)))
        for image in images
    }


def _check_touched(dataset: FuzzDataset, harmless: bool, expected: Summary) -> None:
    """Images that no mutation touched came out as those of the valid dataset did."""
    if dataset.touched is None and not harmless:
        return
    found, touched = _summarize(), dataset.touched or set()
    for image in dataset.images:
        content = hashlib.sha256(image.data).hexdigest()[:16]
        if harmless or image.name not in touched:
            same = found.get(content) == expected[content]
            _expect(same, f"{image.name} was not touched: {found.get(content)}, expected {expected[content]}")
    _expect(not harmless or len(found) == len(expected), f"{len(found)} images, expected {len(expected)}")


@functools.cache
def _find_expected(format_: str, variant: int) -> Summary:
    """What comes out of the valid dataset."""
    dataset = build_dataset(format_, variant)
    dataset.serialize()
    with _inside(Path("valid").absolute()):
        write_dataset(dataset, DATASET)
        _write_settings(format_)
        outcome, details = _run_stages()
        _expect(outcome == "accepted" and not details, f"the valid dataset: {outcome}: {details}")
        _check_result(dataset)
        _expect(len(_summarize()) == len(dataset.images), "images of the valid dataset are missing")
        return _summarize()
