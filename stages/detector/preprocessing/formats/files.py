"""File helpers of the readers: read text, shorten paths, find images, infer splits from names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from detector.core.errors import UserError
from detector.preprocessing.findings import Finding, FindingKind, FindingLog
from detector.preprocessing.formats.fields import parse_json

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")

_SPLIT_BY_WORD = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_SPLIT_WORD = re.compile(r"(?<![a-z])(train|validation|valid|val|test)(?![a-z])\d*", re.IGNORECASE)


def make_dataset_relative(folder: Path, path: Path | str) -> str:
    """`path` in POSIX style: relative to the dataset folder if it lies inside, otherwise absolute."""
    root = folder.absolute()
    full = root / path
    if ".." in full.parts:  # follow links only then, since a linked image folder counts as inside
        root, full = root.resolve(), full.resolve()
    return full.relative_to(root).as_posix() if full.is_relative_to(root) else full.as_posix()


def is_file(path: Path) -> bool:
    """Like `Path.is_file`, but False for impossible names, such as one of 1,000 characters."""
    try:
        return path.is_file()
    except OSError:
        return False


def is_dir(path: Path) -> bool:
    """Like `Path.is_dir`, but False for impossible names."""
    try:
        return path.is_dir()
    except OSError:
        return False


def decode_utf8(data: bytes, name: str, first_line: int = 1) -> str:
    """Decode UTF-8, with or without a byte order mark; `data` starts on `first_line` of the file `name`."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = first_line + error.object.count(b"\n", 0, error.start)
        raise UserError(
            f"{name}:{line}: found the byte 0x{error.object[error.start]:02x}, expected UTF-8 text; "
            "save the file as UTF-8"
        ) from error


def read_text_file(folder: Path, path: Path) -> str:
    name = make_dataset_relative(folder, path)
    try:
        return decode_utf8(path.read_bytes(), name)
    except OSError as error:
        raise UserError(f"{name}: cannot be read: {error.strerror}") from error


def infer_split(name: str) -> str | None:
    """The split in the name of a file or folder: `instances_train2017` → train, `valid` → val."""
    splits = {_SPLIT_BY_WORD[match[1].lower()] for match in _SPLIT_WORD.finditer(name)}
    return splits.pop() if len(splits) == 1 else None


def infer_annotation_split(folder: Path, path: Path) -> str | None:
    """The split of an annotation file, from its name or else from the name of its folder inside the dataset."""
    inside = path.parent != folder
    return infer_split(path.stem) or (infer_split(path.parent.name) if inside else None)


def find_json_groups(folder: Path) -> list[list[Path]]:
    """The JSON files of each possible place: annotations/, the folder itself, train/ with valid/ and test/."""
    splits = [path for path in folder.glob("*") if infer_split(path.name) and path.is_dir()]
    return [
        sorted(folder.glob("annotations/*.json")),
        sorted(folder.glob("*.json")),
        sorted(path for split in splits for path in split.glob("*.json")),
    ]


def load_json_group(
    folder: Path,
    groups: Iterable[list[Path]],
    find_problem: Callable[[Any], str | None],
    log: FindingLog,
) -> Iterator[tuple[Path, Any]]:
    """Yield (file, content) of the first group that has files of the format; only one file is in memory at once.

    find_problem: returns why some content is not of the format, or None if it is. Other files are logged.
    Raises UserError when no group has a file of the format.
    """
    problems = []
    for group in groups:
        found = False
        for path in group:
            name = make_dataset_relative(folder, path)
            content = parse_json(read_text_file(folder, path), name)
            problem = find_problem(content)
            if problem is None:
                found = True
                yield path, content
            else:
                problems.append(f"{name}: {problem}")
                log.listed.append(Finding(FindingKind.SKIPPED_ANNOTATION_FILE, name, details=problem))
        if found:
            return
    if problems:
        raise UserError("\n".join([f"{folder}: no annotation file of this format:", *problems]))
    raise UserError(f"{folder}: found no *.json, expected one here, in annotations/, or in train/ and valid/")


def list_image_folders(folder: Path, annotations: Path) -> list[Path]:
    """The existing folders that may contain the images of an annotation file, those of its split first."""
    split = infer_annotation_split(folder, annotations)
    names = [annotations.stem, *(match[0] for match in _SPLIT_WORD.finditer(annotations.stem))]
    names += [word for word, its_split in _SPLIT_BY_WORD.items() if split in (None, its_split)]
    patterns = ("{}", "{}/images", "images/{}", "data/{}")
    places = [folder / pattern.format(name) for name in names for pattern in patterns]
    places += [annotations.parent, folder, folder / "images", folder / "data"]
    return [place for place in dict.fromkeys(places) if place.is_dir()]


def find_image(folder: Path, name: str, places: Iterable[Path]) -> str:
    """The path of an image in the first of `places` that has it; as given if none has it."""
    paths = (place / name for place in places)
    return make_dataset_relative(folder, next((path for path in paths if is_file(path)), Path(name)))
