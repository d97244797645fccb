"""A dataset folder in any of the formats -> images that can be used, by the rules of preprocess."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from detector.data.cleaning import Finding, PreprocessParams, clean_boxes, labels_of
from detector.data.duplicates import duplicate_groups
from detector.data.formats import READERS
from detector.data.inspection import ImageFacts
from detector.data.manifest import CleanImage, Labels
from detector.data.memory import convert, inspect_all
from detector.data.records import RawImage
from detector.errors import UserError


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
    listed = list(READERS[rules.format](folder.absolute(), notes))
    images, findings = _once(folder, listed)
    if not images:
        raise UserError(f"{folder}: no images in this {rules.format} dataset")
    labels = labels_of(images, rules)
    if split is not None:
        lists = sorted({image.split for image in images if image.split is not None})
        images = [image for image in images if image.split == split]
        if not images:
            raise UserError(f"{folder}: no image is in a list `{split}`; the dataset has {', '.join(lists) or 'none'}")
    facts, _ = inspect_all([folder / image.path for image in images], memory / "memory.sqlite")
    usable = []
    for image, fact in zip(images, facts, strict=True):
        if problem := _problem(image, fact):
            findings.append(Finding(problem, image.where, image.path, ""))
        else:
            usable.append((image, fact))
    groups = duplicate_groups(
        [fact.content for _, fact in usable], [fact.thumbnail for _, fact in usable], rules.near_duplicate
    )
    cleaned: list[CleanImage] = []
    for index, (image, fact) in enumerate(usable):
        path = folder / image.path
        if fact.change:
            findings.append(Finding(f"{fact.change}, converted", image.where, image.path, ""))
            path = convert(path, fact.content, converted / fact.content[:16], memory / "images")
        boxes, wrong = clean_boxes(image, fact.width, fact.height, labels, rules)
        findings += wrong
        name, source = _from_here(path), _from_here(folder / image.path)
        group = name if groups[index] == index else cleaned[groups[index]].group
        cleaned.append(
            CleanImage(
                name, source, fact.content[:16], fact.width, fact.height, group, image.sequence, image.split, boxes
            )
        )
    return CleanFolder(cleaned, labels, sorted(findings), dict(sorted(notes.items())))


def _once(folder: Path, listed: list[RawImage]) -> tuple[list[RawImage], list[Finding]]:
    """Each file once, and a finding for each that is listed again."""
    images: dict[str, RawImage] = {}
    findings = []
    for image in listed:
        if images.setdefault(os.path.normpath(folder / image.path), image) is not image:
            findings.append(Finding("image listed twice, dropped", image.where, image.path, "the first stays"))
    return list(images.values()), findings


def _problem(image: RawImage, fact: ImageFacts) -> str:
    """Why an image cannot be used at all; "" when it can."""
    if fact.error:
        return f"{fact.error}, image dropped"
    annotated_alike = image.size in (None, (fact.width, fact.height))
    return "" if annotated_alike else "annotated at another size, image dropped"


def _from_here(path: Path) -> str:
    """Relative to the working directory when it lies inside, otherwise absolute."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100  resolve() would follow links
    here = Path.cwd()
    return absolute.relative_to(here).as_posix() if absolute.is_relative_to(here) else absolute.as_posix()
