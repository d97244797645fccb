"""What the readers share about files: reading text, naming places, finding images, splits in names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from detector.core.errors import UserError
from detector.preprocessing.formats.fields import parse_json

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")

_SPLIT_OF_WORD = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_SPLIT_WORD = re.compile(r"(?<![a-z])(train|validation|valid|val|test)(?![a-z])\d*", re.IGNORECASE)


def dataset_path(folder: Path, path: Path | str) -> str:
    """`path` in posix style: relative to the dataset folder when it lies inside it, otherwise absolute."""
    root = folder.absolute()
    full = root / path
    if ".." in full.parts:  # only then follow links: a linked image folder is still inside
        root, full = root.resolve(), full.resolve()
    return full.relative_to(root).as_posix() if full.is_relative_to(root) else full.as_posix()


def is_file(path: Path) -> bool:
    """Like `Path.is_file`, but False for names that no file can have, such as one of 1,000 characters."""
    try:
        return path.is_file()
    except OSError:
        return False


def is_dir(path: Path) -> bool:
    """Like `Path.is_dir`, but False for names that no folder can have."""
    try:
        return path.is_dir()
    except OSError:
        return False


def decode(data: bytes, name: str, first_line: int = 1) -> str:
    """Decode UTF-8, with or without a byte order mark; `data` begins on `first_line` of the file `name`."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = first_line + error.object.count(b"\n", 0, error.start)
        raise UserError(
            f"{name}:{line}: found the byte 0x{error.object[error.start]:02x}, expected UTF-8 text; "
            "save the file as UTF-8"
        ) from error


def read_text(folder: Path, path: Path) -> str:
    name = dataset_path(folder, path)
    try:
        return decode(path.read_bytes(), name)
    except OSError as error:
        raise UserError(f"{name}: cannot be read: {error.strerror}") from error


def given_split(name: str) -> str | None:
    """The split that a file's or folder's name tells: `instances_train2017` → train, `valid` → val."""
    splits = {_SPLIT_OF_WORD[match[1].lower()] for match in _SPLIT_WORD.finditer(name)}
    return splits.pop() if len(splits) == 1 else None


def annotation_split(folder: Path, path: Path) -> str | None:
    """The split of an annotation file: from its name, or from the name of its folder inside the dataset."""
    inside = path.parent != folder
    return given_split(path.stem) or (given_split(path.parent.name) if inside else None)


def json_groups(folder: Path) -> list[list[Path]]:
    """JSON files by where they may lie: annotations/, the folder itself, train/ with valid/ and test/."""
    splits = [path for path in folder.glob("*") if given_split(path.name) and path.is_dir()]
    return [
        sorted(folder.glob("annotations/*.json")),
        sorted(folder.glob("*.json")),
        sorted(path for split in splits for path in split.glob("*.json")),
    ]


def load_json_group(
    folder: Path,
    groups: Iterable[list[Path]],
    problem: Callable[[Any], str | None],
    notes: Counter[str],
) -> Iterator[tuple[Path, Any]]:
    """Yield (file, content) of the first group with files of the format; `problem` tells why one is not.

    One file is in memory at a time. Files of another kind are noted; none of the right kind is an error.
    """
    problems = []
    for group in groups:
        found = False
        for path in group:
            name = dataset_path(folder, path)
            content = parse_json(read_text(folder, path), name)
            reason = problem(content)
            if reason is None:
                found = True
                yield path, content
            else:
                problems.append(f"{name}: {reason}")
                notes[f"annotation files left out: {reason}"] += 1
        if found:
            return
    if problems:
        raise UserError("\n".join(["no annotation file of this format:", *problems]))
    raise UserError(f"{folder}: found no *.json, expected one there, in annotations/, or in train/ and valid/")


def image_places(folder: Path, annotations: Path) -> list[Path]:
    """The folders that may hold the images of an annotation file, those of its own split first."""
    split = annotation_split(folder, annotations)
    names = [annotations.stem, *(match[0] for match in _SPLIT_WORD.finditer(annotations.stem))]
    names += [word for word, its_split in _SPLIT_OF_WORD.items() if split in (None, its_split)]
    patterns = ("{}", "{}/images", "images/{}", "data/{}")
    places = [folder / pattern.format(name) for name in names for pattern in patterns]
    places += [annotations.parent, folder, folder / "images", folder / "data"]
    return [place for place in dict.fromkeys(places) if place.is_dir()]


def find_image(folder: Path, name: str, places: Iterable[Path]) -> str:
    """An image's path in the first of `places` that has it, or as given: preprocess counts it as missing."""
    paths = (place / name for place in places)
    return dataset_path(folder, next((path for path in paths if is_file(path)), Path(name)))
