"""Which image a VOC file describes: one of its name, the nearest in the folders."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from detector.core.images import IMAGE_SUFFIXES
from detector.preprocessing.dataset_folder import find_files
from detector.preprocessing.formats.files import make_dataset_relative
from detector.preprocessing.formats.image_lookup import collect_folder_ends, find_folder_end, fold_name

# Folders of images, in lower case; others may hold pictures of the same names, such as VOC's SegmentationClass.
_IMAGE_FOLDERS = ("jpegimages", "images", "image", "imgs", "img", "photos", "data")


class PairedImage(NamedTuple):
    """file: relative to the dataset. ambiguity: the files that fit equally well, "" if one fits best."""

    file: str
    ambiguity: str = ""
    is_missing: bool = False


def name_image(path: str) -> str:
    """The name that an image shares with its annotations: the path without suffix, in composed Unicode."""
    pure = PurePosixPath(path.replace("\\", "/"))
    return unicodedata.normalize("NFC", (pure.parent / pure.stem).as_posix())  # with_suffix raises without a name


def get_last_part(name: str) -> str:
    """The part after the last slash or backslash."""
    return name.replace("\\", "/").rpartition("/")[2]


class ImagePairing:
    """The images of a dataset folder and the names of its annotations, relative to it."""

    def __init__(self, folder: Path, names: Collection[str]) -> None:
        self._files: dict[str, list[str]] = defaultdict(list)  # last part without suffix -> images
        self._names: dict[str, list[str]] = defaultdict(list)  # last part -> names of annotations
        files = [make_dataset_relative(folder, path) for path in find_files(folder, IMAGE_SUFFIXES)]
        self._folder_ends = collect_folder_ends(files)
        for file in files:
            self._files[get_last_part(name_image(file))].append(file)
        for name in names:
            self._names[get_last_part(name)].append(name)

    def find(self, name: str, filenames: list[str]) -> PairedImage:
        """The image of the annotations `name` whose <filename> elements are `filenames`.

        One named like the annotations, unless other annotations are nearer to it; else one that <filename> names and
        that has no annotations of its name; else a file that does not exist. For annotations in `a/`, where there are
        images in a folder `a/`, an image of another folder is not theirs.
        """
        lasts = [get_last_part(given) for given in filenames]
        end = find_folder_end(name, self._folder_ends)
        own = [file for file in self._files[get_last_part(name)] if self._is_nearest(name, file) and _has(end, file)]
        if own:
            image = _choose(name, own, lasts)
            rivals = self._find_rivals(name, image.file)
            return image if not rivals else image._replace(ambiguity=f"{', '.join(rivals)} may describe it, too")
        for given in lasts:
            if given and not self._names[get_last_part(name_image(given))]:
                files = [file for file in self._files[get_last_part(name_image(given))] if _has(end, file)]
                files = [file for file in files if get_last_part(file) == given]
                if files:
                    return _choose(name, files, lasts)
        return PairedImage(_expect_file(name, filenames, bool(self._files.get(get_last_part(name)))), is_missing=True)

    def _is_nearest(self, name: str, file: str) -> bool:
        distance = _measure_distance(name, file)
        return all(_measure_distance(other, file) >= distance for other in self._names[get_last_part(name)])

    def _find_rivals(self, name: str, file: str) -> list[str]:
        """Other annotations that are as near to the image; at most five."""
        distance, others = _measure_distance(name, file), self._names[get_last_part(name)]
        return [other for other in others if other != name and _measure_distance(other, file) == distance][:5]


def lies_elsewhere(name: str, file: str) -> bool:
    """Whether both paths have more than one folder that the other lacks: Annotations/a/ and JPEGImages/b/.

    One such as Annotations/ and JPEGImages/ is usual, and so are several on one side only: voc/Annotations/ and data/.
    """
    first, second, shared = _compare_folders(name, file)
    return min(first, second) - shared > 1


def _has(end: str, file: str) -> bool:
    """Whether the file lies in a folder of this end, or below one."""
    return not end or f"/{end}/" in f"/{fold_name(file.rpartition('/')[0])}/"


def _choose(name: str, files: list[str], lasts: list[str]) -> PairedImage:
    """The nearest file; of several with one name, that which <filename> names, or else the first."""
    ranks = {file: (_measure_distance(name, file), not _lies_among_images(file)) for file in files}
    best = sorted(file for file in files if ranks[file] == min(ranks.values()))
    if len({name_image(file) for file in best}) > 1:
        return PairedImage(best[0], f"{len(best)} files fit: {', '.join(best[:5])}")
    return PairedImage(next((file for file in best if get_last_part(file) in lasts), best[0]))


def _measure_distance(name: str, file: str) -> int:
    """How many folders two paths do not share, counted from both ends."""
    first, second, shared = _compare_folders(name, file)
    return first + second - 2 * shared


def _compare_folders(name: str, file: str) -> tuple[int, int, int]:
    """The number of folders of each path, and how many they share at both ends together."""
    first, second = name.split("/")[:-1], name_image(file).split("/")[:-1]
    head = _count_equal(first, second)
    tail = _count_equal(first[head:][::-1], second[head:][::-1])
    return len(first), len(second), head + tail


def _count_equal(first: Iterable[str], second: Iterable[str]) -> int:
    count = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        count += 1
    return count


def _lies_among_images(file: str) -> bool:
    return any(part.lower() in _IMAGE_FOLDERS for part in file.split("/")[:-1])


def _expect_file(name: str, filenames: list[str], is_of_others: bool) -> str:
    """Where the image of some annotations should be."""
    folder, _, last = name.rpartition("/")
    given = filenames[0] if filenames and not is_of_others else f"{last}.jpg"
    first, _, rest = folder.partition("/")
    folder = "/".join(filter(None, ["JPEGImages", rest])) if first == "Annotations" else folder
    return f"{folder}/{given}" if folder else given
