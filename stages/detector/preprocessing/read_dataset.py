"""A dataset folder in any of the formats -> images that can be used, by the rules of preprocess."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm
from tqdm.contrib.concurrent import thread_map

from detector.core.errors import UserError
from detector.manifest.manifest import CleanImage, Labels
from detector.preprocessing.cleaning import Finding, PreprocessParams, clean_boxes, labels_of
from detector.preprocessing.duplicates import duplicate_groups
from detector.preprocessing.executors import Executor
from detector.preprocessing.formats import READERS
from detector.preprocessing.inspection import ImageFacts
from detector.preprocessing.inspection_cache import convert, inspect_all
from detector.preprocessing.raw_annotations import RawImage


class Cleaned(NamedTuple):
    """The usable images, and everything that was dropped or repaired."""

    images: list[CleanImage]
    findings: list[Finding]


class CleanFolder(NamedTuple):
    """images: those that can be used; findings: all that was dropped or repaired; notes: counts of the reader."""

    images: list[CleanImage]
    labels: Labels
    findings: list[Finding]
    notes: dict[str, int]


def read_folder(rules: PreprocessParams, split: str | None, converted: Path, memory: Path) -> CleanFolder:
    """Read `rules.dataset` in `rules.format`; with `split`, only the images of that list of the dataset's own.

    Images that cannot be used as they are (turned by EXIF, not RGB, ...) are written changed into the folder
    `converted`. memory: the folder in which preprocess keeps what it knows of files.
    Raises UserError when the folder, its annotations or that list cannot be used.
    """
    folder, notes = Path(rules.dataset), Counter[str]()
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    images, findings = read_dataset(rules, notes)
    labels = labels_of(images, rules)
    if split is not None:
        lists = sorted({image.split for image in images if image.split is not None})
        images = [image for image in images if image.split == split]
        if not images:
            raise UserError(f"{folder}: no image is in a list `{split}`; the dataset has {', '.join(lists) or 'none'}")
    facts, _ = inspect_all([folder / image.path for image in images], memory / "memory.sqlite", executor_of(rules))
    cleaned = clean(images, facts, labels, rules, converted, memory / "images")
    return CleanFolder(cleaned.images, labels, sorted(findings + cleaned.findings), dict(sorted(notes.items())))


def read_dataset(rules: PreprocessParams, notes: Counter[str]) -> tuple[list[RawImage], list[Finding]]:
    """All images of the folder `rules.dataset`, each file once, and a finding for each that is listed again.

    What the reader leaves out is counted in `notes`. Raises UserError when there is no image.
    """
    folder = Path(rules.dataset)
    images: dict[str, RawImage] = {}
    findings = []
    for image in READERS[rules.format](folder.absolute(), notes):
        if images.setdefault(os.path.normpath(folder / image.path), image) is not image:
            findings.append(Finding("image listed twice, dropped", image.where, image.path, "the first stays"))
    if not images:
        raise UserError(f"{folder}: no images in this {rules.format} dataset")
    return list(images.values()), findings


def executor_of(rules: PreprocessParams) -> Executor:
    """What opens the images."""
    return Executor(rules.executor, rules.dask_scheduler)


def clean(
    images: Sequence[RawImage], facts: Sequence[ImageFacts], labels: Labels, rules: PreprocessParams,
    converted: Path, memory: Path,
) -> Cleaned:  # fmt: skip
    """Apply the rules to every image; change those that need it; find the duplicates.

    facts: of each image's file. converted: the folder for changed images; memory: where such are kept by content.
    They are changed on this machine, whatever opened them.
    """
    usable: list[tuple[RawImage, ImageFacts]] = []
    findings: list[Finding] = []
    for image, fact in zip(images, facts, strict=True):
        if problem := _problem(image, fact):
            findings.append(problem)
        else:
            usable.append((image, fact))
    groups = duplicate_groups(
        [fact.content for _, fact in usable], [fact.thumbnail for _, fact in usable], rules.near_duplicate
    )
    changed = _convert_images(usable, Path(rules.dataset), converted, memory)
    cleaned: list[CleanImage] = []
    for index, (image, fact) in enumerate(tqdm(usable, desc="clean boxes", unit="image", disable=None)):
        source = repository_path(Path(rules.dataset) / image.path)
        path = changed.get(index, source)
        if fact.change:
            findings.append(Finding(f"{fact.change}, converted", image.where, image.path, ""))
        boxes, wrong = clean_boxes(image, fact.width, fact.height, labels, rules)
        findings += wrong
        group = path if groups[index] == index else cleaned[groups[index]].group
        cleaned.append(
            CleanImage(
                path, source, fact.content[:16], fact.width, fact.height, group, image.sequence, image.split, boxes
            )
        )
    return Cleaned(cleaned, findings)


def _problem(image: RawImage, fact: ImageFacts) -> Finding | None:
    """Why an image cannot be used at all; None when it can."""
    if fact.error:
        return Finding(f"{fact.error}, image dropped", image.where, image.path, "")
    if image.size in (None, (fact.width, fact.height)):
        return None
    detail = f"annotated at {image.size}, the upright file has {(fact.width, fact.height)} pixels"
    return Finding("annotated at another size, image dropped", image.where, image.path, detail)


def _convert_images(
    usable: Sequence[tuple[RawImage, ImageFacts]], dataset: Path, converted: Path, memory: Path
) -> dict[int, str]:
    """Write those that have to be changed into the folder `converted`; their new paths by their index.

    A file is named after its content, and the second one of the same content gets a number.
    """
    copies: Counter[str] = Counter()
    names: dict[int, str] = {}
    for index, (_, fact) in enumerate(usable):
        if fact.change:
            copies[fact.content] += 1
            names[index] = fact.content[:16] + (f"_{copies[fact.content]}" if copies[fact.content] > 1 else "")

    def write(index: int) -> str:
        image, fact = usable[index]
        return repository_path(convert(dataset / image.path, fact.content, converted / names[index], memory))

    written = thread_map(
        write, names, desc="convert images", unit="image", disable=None, max_workers=os.cpu_count(), leave=False
    )
    return dict(zip(names, written, strict=True))


def repository_path(path: Path) -> str:
    """The path relative to the repository, which holds in any clone; absolute when it lies outside."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100  resolve() would follow links out of the repository
    root = Path.cwd()
    return absolute.relative_to(root).as_posix() if absolute.is_relative_to(root) else absolute.as_posix()
