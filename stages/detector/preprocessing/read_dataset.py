"""Read a raw dataset in any of the formats and clean it by the rules of preprocess."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from detector.core.errors import UserError
from detector.core.path_lists import find_path_problem
from detector.manifest.manifest import CleanImage, Labels
from detector.preprocessing.cleaning import clean_boxes, collect_labels
from detector.preprocessing.dataset_folder import count_files
from detector.preprocessing.duplicates import group_duplicates
from detector.preprocessing.executors import Executor
from detector.preprocessing.findings import Finding, FindingKind, FindingLog
from detector.preprocessing.formats import ANNOTATION_SUFFIXES, READERS
from detector.preprocessing.formats.files import make_relative
from detector.preprocessing.formats.recognition import recognize_format
from detector.preprocessing.inspection import ImageInfo
from detector.preprocessing.inspection_cache import convert_cached, inspect_images
from detector.preprocessing.raw_annotations import RawImage
from detector.preprocessing.settings import PreprocessParams

MAX_SHOWN = 200  # characters of a path that is no path


class CleanDataset(NamedTuple):
    """The usable images of a dataset, its classes and states, and everything that was found."""

    images: list[CleanImage]
    labels: Labels
    log: FindingLog


def read_clean_dataset(params: PreprocessParams, split: str | None, converted: Path, cache: Path) -> CleanDataset:
    """Read and clean `params.dataset`; with `split`, only the images of that predefined split.

    converted: folder for images that have to be converted (turned by EXIF, not RGB, ...).
    cache: folder of preprocess's caches.
    Raises UserError when the folder, its annotations or that split cannot be used.
    """
    folder, log = Path(params.dataset), FindingLog()
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    images = read_raw_dataset(params, log)
    labels = collect_labels(images, params)
    if split is not None:
        splits = sorted({name for image in images if image.split for name in image.split.split("+")})
        images = [image for image in images if image.split and split in image.split.split("+")]
        if not images:
            raise UserError(
                f"{folder}: no image belongs to split `{split}`; predefined splits: {', '.join(splits) or 'none'}"
            )
    paths = [folder / image.path for image in images]
    infos, _ = inspect_images(paths, cache / "inspections.sqlite", Executor())
    clean = clean_images(images, infos, labels, params, log=log, converted=converted, cache=cache / "images")
    return CleanDataset(clean, labels, log)


def read_raw_dataset(params: PreprocessParams, log: FindingLog) -> list[RawImage]:
    """All images of `params.dataset` whose path can be kept; a file that is listed more than once counts once.

    Raises UserError when there is no image.
    """
    folder = Path(params.dataset)
    format_: str = params.format
    if format_ == "auto":
        found = recognize_format(folder)
        format_, log.format = found.format, f"{folder}: {found}"
    images: dict[str, RawImage] = {}
    unusable = []
    for image in READERS[format_](folder.absolute(), log):
        log.boxes += len(image.boxes)
        path = os.path.normpath(os.path.join(folder, image.path))  # noqa: PTH118
        if problem := find_path_problem(image.path):
            unusable.append(path)
            finding = Finding(FindingKind.UNUSABLE_NAME, image.where, image.path[:MAX_SHOWN], details=problem)
            log.drop_image(finding, len(image.boxes))
            continue
        if image.ambiguity:
            finding = Finding(FindingKind.AMBIGUOUS_PATH, image.where, image.path, details=image.ambiguity)
            log.drop_image(finding, len(image.boxes))
            continue
        first = images.setdefault(path, image)
        if first is not image:
            details = f"first entry: {first.where}"
            log.drop_image(
                Finding(FindingKind.DUPLICATE_ENTRY, image.where, image.path, details=details), len(image.boxes)
            )
        elif image.split and "+" in image.split:
            log.listed.append(Finding(FindingKind.SEVERAL_SPLITS, image.where, image.path, details=image.split))
    if not images:
        raise UserError(f"{folder}: no images in this {format_} dataset")
    log.files = count_files(folder, [*images, *unusable], ANNOTATION_SUFFIXES[format_], log)
    return list(images.values())


def clean_images(
    images: Sequence[RawImage],
    infos: Sequence[ImageInfo],
    labels: Labels,
    params: PreprocessParams,
    *,
    log: FindingLog,
    converted: Path,
    cache: Path,
) -> list[CleanImage]:
    """Drop unusable images, convert those that need it, clean the boxes and group duplicates.

    infos: inspection results of the images' files. converted: folder for converted images; cache: folder that
    keeps them by content. The conversion runs on this machine, whatever executor inspected the images.
    """
    usable: list[tuple[RawImage, ImageInfo]] = []
    for image, info in zip(images, infos, strict=True):
        if problem := _find_image_problem(image, info):
            log.drop_image(problem, len(image.boxes))
        else:
            usable.append((image, info))
    groups = group_duplicates(
        [info.content for _, info in usable],
        [info.thumbnail for _, info in usable],
        params.near_duplicate_similarity,
    )
    dataset = Path(params.dataset)
    converted_paths = _convert_images(usable, dataset, converted, cache)
    clean: list[CleanImage] = []
    for index, (image, info) in enumerate(tqdm(usable, desc="clean boxes", unit="image", disable=None)):
        source = make_repository_relative(dataset / image.path)
        path = converted_paths.get(index, source)
        if info.finding is not None:
            log.listed.append(Finding(info.finding, image.where, image.path, details=info.details))
        boxes, findings = clean_boxes(image, info.width, info.height, labels, params)
        log.listed += findings
        clean.append(
            CleanImage(
                image=path,
                source=source,
                content=info.content[:16],
                width=info.width,
                height=info.height,
                group=path if groups[index] == index else clean[groups[index]].group,
                sequence=image.sequence,
                split=image.split,
                boxes=boxes,
            )
        )
    return clean


def _find_image_problem(image: RawImage, info: ImageInfo) -> Finding | None:
    """Why the image cannot be used at all; None when it can."""
    if info.finding is not None and not info.is_usable:
        return Finding(info.finding, image.where, image.path, details=info.details)
    if image.size in (None, (info.width, info.height)):
        return None
    details = f"annotated at {image.size}, but the upright image has {(info.width, info.height)} pixels"
    return Finding(FindingKind.SIZE_MISMATCH, image.where, image.path, details=details)


def _convert_images(
    usable: Sequence[tuple[RawImage, ImageInfo]], dataset: Path, converted: Path, cache: Path
) -> dict[int, str]:
    """Write the images that need a conversion into the folder `converted`; returns their new paths by index.

    A file is named after its content; further files of the same content get a number.
    """
    copies: Counter[str] = Counter()
    names: dict[int, str] = {}
    for index, (_, info) in enumerate(usable):
        if info.needs_conversion:
            copies[info.content] += 1
            names[index] = info.content[:16] + (f"_{copies[info.content]}" if copies[info.content] > 1 else "")

    def convert(index: int) -> str:
        image, info = usable[index]
        written = convert_cached(dataset / image.path, info.content, converted / names[index], cache)
        return make_repository_relative(written)

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        written = threads.map(convert, names)
        bar = tqdm(written, total=len(names), desc="convert images", unit="image", disable=None, leave=False)
        return dict(zip(names, bar, strict=True))


def make_repository_relative(path: Path) -> str:
    """The path relative to the repository, valid in any clone; absolute when it lies outside the repository."""
    absolute = os.path.abspath(path)  # noqa: PTH100  resolve() would follow links out of the repository
    return make_relative(absolute, os.getcwd())  # noqa: PTH109
