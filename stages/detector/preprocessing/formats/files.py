"""File helpers of the readers: read text, resolve paths, find images and annotation files, infer splits from names."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from detector.core.errors import UserError
from detector.core.input_files import check_is_file
from detector.core.path_lists import find_path_problem
from detector.preprocessing.dataset_folder import is_hidden_name
from detector.preprocessing.findings import Finding, FindingKind, FindingLog
from detector.preprocessing.formats.fields import parse_json

MAX_JSON_BYTES = 16 << 30
MAX_TEXT_BYTES = 256 << 20  # of other annotation files

_SPLIT_BY_WORD = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_SPLIT_WORD = re.compile(r"(?<![a-z])(train|validation|valid|val|test)(?![a-z])\d*", re.IGNORECASE)
_SUBSET = re.compile(r"(?:instances|annotations|labels)[_-](.+)")  # CVAT and Datumaro name a file after its subset


def make_dataset_relative(folder: Path, path: Path | str) -> str:
    """`path` in POSIX style: relative to the dataset folder if it lies inside, otherwise absolute.

    Links are kept: a linked image folder counts as inside, and an image that DVC linked into its cache keeps its
    name. Only where a `..` leaves a link is the folder resolved.
    """
    root = folder.absolute()
    full = root / path
    if ".." in full.parts:
        plain_root, plain = Path(os.path.normpath(root)), Path(os.path.normpath(full))
        is_plain = _is_same_folder(plain_root, root) and _is_same_folder(plain.parent, full.parent)
        root, full = (plain_root, plain) if is_plain else (root.resolve(), full.parent.resolve() / full.name)
    return make_relative(full, root)


def make_relative(path: Path | str, root: Path | str) -> str:
    """An absolute path in POSIX style: relative to `root` if it lies inside; faster than `Path.relative_to`."""
    full, start = (os.fspath(place).replace(os.sep, "/") for place in (path, root))
    return "." if full == start else full.removeprefix(start.rstrip("/") + "/")


def _is_same_folder(first: Path, second: Path) -> bool:
    try:
        return first.samefile(second)
    except OSError:  # neither exists
        return True


def is_file(path: Path | str) -> bool:
    """Like `Path.is_file`, but False for impossible names, such as one of 1,000 characters."""
    return os.path.isfile(path)  # noqa: PTH113


def is_dir(path: Path) -> bool:
    """Like `Path.is_dir`, but False for impossible names."""
    return os.path.isdir(path)  # noqa: PTH112


def spell_path(name: str) -> list[str]:
    """The ways in which a path may be spelled on disk: as given, composed or decomposed Unicode, with / for \\."""
    spelled = [name, name.replace("\\", "/")]
    if not name.isascii():
        spelled += [unicodedata.normalize(form, path) for path in spelled for form in ("NFC", "NFD")]
    return list(dict.fromkeys(spelled))


def find_image(folder: Path, name: str, places: Iterable[Path]) -> str:
    """The path of an image, named in annotations, in the first of `places` that has it; as given if none has it.

    The result is relative to the dataset folder if it lies inside, otherwise absolute.
    """
    if find_path_problem(name):
        return name
    paths = (os.path.join(place, spelled) for place in places for spelled in spell_path(name))  # noqa: PTH118
    return make_dataset_relative(folder, next(filter(is_file, paths), name))


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


def open_annotations(folder: Path, path: Path, log: FindingLog, max_bytes: int = MAX_TEXT_BYTES) -> str:
    """Note that an annotation file is read, and return its name for messages. Raises UserError if it is no file."""
    name = make_dataset_relative(folder, path)
    try:
        check_is_file(path, max_bytes)
    except OSError as error:
        raise UserError(f"{name}: cannot be read: {error.strerror}") from error
    log.annotation_files.add(str(path))
    return name


def read_bytes(folder: Path, path: Path, log: FindingLog, max_bytes: int = MAX_TEXT_BYTES) -> bytes:
    """The bytes of an annotation file. Raises UserError if it is no file, too large or cannot be read."""
    name = open_annotations(folder, path, log, max_bytes)
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{name}: cannot be read: {error.strerror}") from error


def read_text_file(folder: Path, path: Path, log: FindingLog, max_bytes: int = MAX_TEXT_BYTES) -> str:
    """The text of an annotation file. Raises UserError as `read_bytes`, and if it is not UTF-8."""
    return decode_utf8(read_bytes(folder, path, log, max_bytes), make_dataset_relative(folder, path))


def infer_split(name: str) -> str | None:
    """The split in the name of a file or folder: `instances_train2017` → train, `valid` → val."""
    splits = {_SPLIT_BY_WORD[match[1].lower()] for match in _SPLIT_WORD.finditer(name)}
    return splits.pop() if len(splits) == 1 else None


def infer_annotation_split(folder: Path, path: Path) -> str | None:
    """The split of an annotation file, from its name or else from the name of its folder inside the dataset."""
    inside = path.parent != folder
    return infer_split(path.stem) or (infer_split(path.parent.name) if inside else None)


def infer_folder_split(path: str) -> str | None:
    """The split that the folders of a file are named after, if they agree: `valid/images/1.jpg` → val."""
    splits = {infer_split(part) for part in path.split("/")[:-1]} - {None}
    return splits.pop() if len(splits) == 1 else None


def find_json_groups(folder: Path) -> list[list[Path]]:
    """The JSON files of each possible place: annotations/, the folder itself, and folders such as train/ and valid/.

    In a folder that is not named after a split, only Roboflow's _annotations.coco.json counts.
    """
    folders = [path for path in sorted(folder.glob("*")) if is_dir(path) and not is_hidden_name(path.name)]
    of_splits = [path for path in folders if path.name != "annotations" and infer_split(path.name)]
    others = [path / "_annotations.coco.json" for path in folders if path not in of_splits]
    split_files = [path for split in of_splits for path in _list_json(split)]
    return [
        _list_json(folder / "annotations"),
        _list_json(folder),
        sorted(split_files + [path for path in others if is_file(path)]),
    ]


def _list_json(folder: Path) -> list[Path]:
    paths = folder.glob("*") if is_dir(folder) else ()
    return sorted(path for path in paths if path.suffix.lower() == ".json" and not is_hidden_name(path.name))


def load_json_groups(
    folder: Path,
    groups: Iterable[list[Path]],
    find_problem: Callable[[Any], str | None],
    log: FindingLog,
) -> Iterator[tuple[Path, Any]]:
    """Yield (file, content) of all files of the format; only one file is in memory at once.

    find_problem: returns why some content is not of the format, or None if it is. Other files are logged.
    Raises UserError when there is no file of the format.
    """
    problems = []
    found = False
    for path in (path for group in groups for path in group):
        name = make_dataset_relative(folder, path)
        content = parse_json(read_text_file(folder, path, log, MAX_JSON_BYTES), name)
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
    subset = _SUBSET.fullmatch(annotations.stem)
    names = [annotations.stem, *(match[0] for match in _SPLIT_WORD.finditer(annotations.stem))]
    names += [subset[1]] if subset else []
    names += [word for word, its_split in _SPLIT_BY_WORD.items() if split in (None, its_split)]
    patterns = ("{}", "{}/images", "images/{}", "data/{}")
    places = [folder / pattern.format(name) for name in names for pattern in patterns]
    places += [annotations.parent, annotations.parent / "images", folder, folder / "images", folder / "data"]
    return [place for place in dict.fromkeys(places) if place.is_dir()]


def read_head(path: Path) -> str:
    """The first 64 KB of a file as text, for a look at what it holds; "" if it cannot be read."""
    if not is_file(path):
        return ""
    try:
        with path.open("rb") as file:
            return file.read(1 << 16).decode("utf-8-sig", errors="replace")
    except OSError:
        return ""
