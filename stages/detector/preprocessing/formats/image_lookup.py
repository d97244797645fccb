"""Find the images that annotations name by a path of another computer, by a URL, or in another case.

Labeling tools write the path that an image had where it was labeled. A path that leads to no file is therefore
compared with the images in the dataset folder, part by part from its end: `/home/me/night/1.jpg` fits
`images/night/1.jpg` better than `images/1.jpg`. The one file that fits best is used and counted
(`image_found_elsewhere`). Where several fit equally well, or one fits several entries, nothing is guessed: the image is
dropped with their names (`ambiguous_path`).
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
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

Index = Mapping[str, list[str]]  # folded base name -> files, relative to the dataset


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
    """The images in their order, with the file that fits where the path leads to none, or with an `ambiguity`."""
    read = list(images)
    located = locate_paths(folder, {image.path: image.where for image in read}, log)
    for image in read:
        found = located.get(image.path)
        yield image if found is None else replace(image, path=found.file, ambiguity=found.ambiguity)


def locate_paths(folder: Path, wheres: Mapping[str, str], log: FindingLog) -> dict[str, Located]:
    """What fits those of the paths that lead to no file; the result lacks the paths that nothing fits.

    wheres: the place in the annotations of each path, relative to the dataset folder or absolute.
    """
    missing = [path for path in wheres if not find_path_problem(path) and not is_file(folder / path)]
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
    return located


def _index_images(folder: Path, named: Iterable[str]) -> Index:
    """The image files of the dataset that no entry names as they are."""
    index: dict[str, list[str]] = defaultdict(list)
    taken = set(named)
    for path in find_files(folder, IMAGE_SUFFIXES):
        file = make_dataset_relative(folder, path)
        if file not in taken and is_file(path):
            index[_fold(path.name)].append(file)
    return index


def _fit_path(path: str, index: Index) -> _Fit | None:
    for spelled, change in _spell(path):
        parts = _split(spelled)
        files = index.get(_fold(parts[-1]), []) if parts else []
        if not files:
            continue
        shared = {file: _count_shared(parts, _split(file)) for file in files}
        most = max(shared.values())
        best = [file for file in files if shared[file] == most]
        reasons = [change] if change else []
        reasons += ["other case"] if most[1] < most[0] else []
        reasons += ["other folder"] if most[0] < max(len(parts), len(_split(best[0]))) else []
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
    parts = _split(decoded)
    if parts and _UPLOAD_PREFIX.match(parts[-1]):
        yield "/".join([*parts[:-1], parts[-1][9:]]), "without the prefix of an upload"


def _split(path: str) -> list[str]:
    return [part for part in path.replace("\\", "/").split("/") if part not in ("", ".", "..")]


def _fold(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _count_shared(first: list[str], second: list[str]) -> tuple[int, int]:
    """How many parts from the end are equal but for their case, and how many of these in their case too."""
    shared = exact = 0
    for one, other in zip(reversed(first), reversed(second), strict=False):
        if _fold(one) != _fold(other):
            break
        shared += 1
        exact += unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other)
    return shared, exact


def _name_some(names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMED:,} more" if len(names) > MAX_NAMED else ""
    return ", ".join(sorted(names)[:MAX_NAMED]) + more
