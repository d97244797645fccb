"""Find the images that annotations name by a path of another computer, by a URL, or in another case.

Labeling tools write the path that an image had where it was labeled. A path that leads to no file in the dataset folder
is therefore compared with the images there, part by part from its end: `/home/me/night/1.jpg` fits `images/night/1.jpg`
better than `images/1.jpg`. The one file that fits best is used and counted (`image_found_elsewhere`). If there is a
folder of images with the path's name (`night`), only its files fit: that of another folder is another image. Where
several fit equally well, or one fits several entries, nothing is guessed: the image is dropped with their names
(`ambiguous_path`). A file outside the dataset folder is used only if none inside fits (`outside_image`).
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from detector.core.images import IMAGE_SUFFIXES
from detector.core.path_lists import find_path_problem
from detector.preprocessing.dataset_folder import find_files
from detector.preprocessing.findings import Finding, FindingKind, FindingLog
from detector.preprocessing.formats.files import is_file, make_dataset_relative
from detector.preprocessing.raw_annotations import RawImage

MAX_NAMED = 5  # files in a message
_UPLOAD_PREFIX = re.compile(r"[0-9a-f]{8}-(?=.)")  # Label Studio puts it before the name of an uploaded file


class _Index(NamedTuple):
    """files: by folded base name, those that no entry names, relative to the dataset. folders: ends of all folders."""

    files: Mapping[str, list[str]]
    folders: Collection[str]


class Located(NamedTuple):
    """The file that a path means; ambiguity: why it may be another one, "" if it cannot."""

    file: str
    ambiguity: str = ""


class _Fit(NamedTuple):
    """The files that fit a path best: `parts` of their ends are equal, `exact` of these in the same case."""

    files: list[str]
    parts: int
    exact: int
    reason: str


def locate_images(folder: Path, images: Iterable[RawImage], log: FindingLog) -> Iterator[RawImage]:
    """The images in their order, with the file that fits where the path leads to none inside, or an `ambiguity`."""
    read = list(images)
    located = locate_paths(folder, {image.path: image.where for image in read}, log)
    for image in read:
        found = located.get(image.path)
        yield image if found is None else replace(image, path=found.file, ambiguity=found.ambiguity)


def locate_paths(folder: Path, wheres: Mapping[str, str], log: FindingLog) -> dict[str, Located]:
    """What fits those of the paths that lead to no file in the dataset; the result lacks the paths that nothing fits.

    wheres: the place in the annotations of each path, relative to the dataset folder or absolute.
    """
    outside = [path for path in wheres if path.startswith("/") and not find_path_problem(path)]
    inside = [path for path in wheres if not path.startswith("/") and not find_path_problem(path)]
    missing = [*outside, *(path for path in inside if not is_file(f"{folder}/{path}"))]
    if not missing:
        return {}
    index = _index_images(folder, wheres.keys() - set(missing))
    fits = {path: fit for path in missing if (fit := _fit_path(path, index)) is not None}
    rivals: dict[str, list[str]] = defaultdict(list)  # file -> the paths that it alone fits
    for path, fit in fits.items():
        if len(fit.files) == 1:
            rivals[fit.files[0]].append(path)
    located: dict[str, Located] = {}
    for path, fit in fits.items():
        best = fit.files[0]
        if len(fit.files) > 1:
            located[path] = Located(path, f"{len(fit.files)} files fit: {_name_some(fit.files)}")
            continue
        equal = [other for other in rivals[best] if fits[other][1:3] >= fit[1:3]]
        if equal == [path]:
            located[path] = Located(best)
            details = f"{path} -> {best} ({fit.reason})"
            log.listed.append(Finding(FindingKind.IMAGE_FOUND_ELSEWHERE, wheres[path], best, details=details))
        elif all(fits[other][1:3] == fit[1:3] for other in equal):
            places = _name_some([f"{other} ({wheres[other]})" for other in equal])
            located[path] = Located(path, f"{best} fits {len(equal)} entries: {places}")
    for path in outside:
        if path not in located and is_file(Path(path)):
            log.listed.append(Finding(FindingKind.OUTSIDE_IMAGE, wheres[path], path))
    return located


def collect_folder_ends(files: Iterable[str]) -> set[str]:
    """The ends of the folders of these files, folded: `A/b/1.jpg` → a/b, b."""
    folders = {file.rpartition("/")[0] for file in files}
    parts = [fold_name(folder).split("/") for folder in folders if folder]
    return {"/".join(names[start:]) for names in parts for start in range(len(names))}


def find_folder_end(path: str, ends: Collection[str]) -> str:
    """The longest end of the folder of `path` that is among these, folded; "" if none is."""
    parts = [fold_name(part) for part in split_path(path)[:-1]]
    names = ("/".join(parts[start:]) for start in range(len(parts)))
    return next((name for name in names if name in ends), "")


def _index_images(folder: Path, named: Iterable[str]) -> _Index:
    """The image files of the dataset."""
    index: dict[str, list[str]] = defaultdict(list)
    taken = set(named)
    files = [make_dataset_relative(folder, path) for path in find_files(folder, IMAGE_SUFFIXES)]
    for file in files:
        if file not in taken and is_file(folder / file):
            index[fold_name(file.rpartition("/")[2])].append(file)
    return _Index(index, collect_folder_ends(files))


def _fit_path(path: str, index: _Index) -> _Fit | None:
    for spelled, change in _spell(path):
        parts = split_path(spelled)
        files = index.files.get(fold_name(parts[-1]), []) if parts else []
        if end := find_folder_end(spelled, index.folders):
            tail = f"/{end}/{fold_name(parts[-1])}"
            files = [file for file in files if f"/{fold_name(file)}".endswith(tail)]
        if not files:
            continue
        shared = {file: _count_shared(parts, split_path(file)) for file in files}
        most = max(shared.values())
        best = [file for file in files if shared[file] == most]
        reasons = [change] if change else []
        reasons += ["other case"] if most[1] < most[0] else []
        reasons += ["other folder"] if most[0] < max(len(parts), len(split_path(best[0]))) else []
        return _Fit(best, *most, ", ".join(reasons) or "other spelling")
    return None


def _spell(path: str) -> Iterator[tuple[str, str]]:
    """What a path may mean, the most likely meaning first, each with what was changed."""
    decoded = unquote(path)
    if "?" in decoded:  # Label Studio: /data/local-files/?d=night/1.jpg
        before, _, query = decoded.partition("?")
        yield (query.removeprefix("d=") if query.startswith("d=") else before), "from a URL"
    yield path, ""
    if decoded != path:
        yield decoded, "URL-decoded"
    parts = split_path(decoded)
    if parts and _UPLOAD_PREFIX.match(parts[-1]):
        yield "/".join([*parts[:-1], parts[-1][9:]]), "without the prefix of an upload"


def split_path(path: str) -> list[str]:
    """The names in a path with / or \\, without `.` and `..`."""
    return [part for part in path.replace("\\", "/").split("/") if part not in ("", ".", "..")]


def fold_name(name: str) -> str:
    """The name without regard to case and Unicode form."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _count_shared(first: list[str], second: list[str]) -> tuple[int, int]:
    """How many parts from the end are equal but for their case, and how many of these in their case too."""
    shared = exact = 0
    for one, other in zip(reversed(first), reversed(second), strict=False):
        if fold_name(one) != fold_name(other):
            break
        shared += 1
        exact += unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other)
    return shared, exact


def _name_some(names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMED:,} more" if len(names) > MAX_NAMED else ""
    return ", ".join(sorted(names)[:MAX_NAMED]) + more
