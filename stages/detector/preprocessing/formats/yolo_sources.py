"""What a YOLO dataset says about itself: class names and image sources, in data.yaml, obj.data or classes.txt."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from detector.core.errors import UserError
from detector.core.yaml_files import parse_yaml
from detector.preprocessing.dataset_folder import is_hidden_name
from detector.preprocessing.findings import FindingLog
from detector.preprocessing.formats.fields import build_mismatch_error, check_mapping, check_string, parse_number
from detector.preprocessing.formats.files import (
    infer_split,
    is_dir,
    is_file,
    make_dataset_relative,
    read_head,
    read_text_file,
    spell_path,
)
from detector.preprocessing.formats.image_lookup import split_path

MAX_CONFIG_BYTES = 1 << 20
SPLIT_KEYS = {"train": "train", "val": "val", "valid": "val", "test": "test"}  # key of data.yaml → split
_KEYS = [re.compile(rf"^['\"]?{key}['\"]?\s*:", re.MULTILINE) for key in ("names", "(train|val|valid|test)")]
_NAME_LISTS = ("classes.txt", "obj.names")  # LabelImg and Label Studio; darknet and CVAT


class YoloSources(NamedTuple):
    """What to read. name: the file that says so; root: what its paths are relative to.

    entries: (key, path of a folder or list of images); none: every image of the dataset, with the split of its folder.
    keypoint_values: numbers after each box in a keypoint dataset.
    """

    name: str
    classes: dict[int, str]
    root: Path
    entries: list[tuple[str, str]]
    keypoint_values: int = 0


def read_sources(folder: Path, log: FindingLog) -> YoloSources:
    """Read data.yaml or another YAML file with `names`, a darknet *.data file, or classes.txt, whichever is there."""
    path = find_config(folder)
    if path.suffix in (".yaml", ".yml"):
        return _read_yaml(folder, path, log)
    if path.suffix == ".data":
        return _read_darknet(folder, path, log)
    lists = [(key, f"{key}.txt") for key in SPLIT_KEYS if is_file(folder / f"{key}.txt")]
    return YoloSources(path.name, _parse_classes(path.name, _read_lines(folder, path, log)), folder, lists)


def find_config(folder: Path) -> Path:
    """The file that names the classes. Raises UserError when there is none, or more than one of a kind."""
    data = folder / "data.yaml"
    if data.exists():
        return data
    paths = sorted(path for path in folder.glob("*") if not is_hidden_name(path.name) and is_file(path))
    kinds = (
        [path for path in paths if path.suffix in (".yaml", ".yml") and _has_keys(path)],
        [path for path in paths if path.suffix == ".data"],
        [path for name in _NAME_LISTS for path in paths if path.name == name]
        or [path for path in paths if path.suffix == ".names"],
    )
    found = next((paths for paths in kinds if paths), [])
    if not found:
        expected = "data.yaml with the keys names, train and val; obj.data; or classes.txt"
        raise UserError(f"{folder}: data.yaml is missing, expected one of: {expected}")
    if len(found) > 1:
        raise UserError(f"{folder}: found {', '.join(path.name for path in found)}; name the right one data.yaml")
    return found[0]


def _has_keys(path: Path) -> bool:
    head = read_head(path)
    return all(key.search(head) for key in _KEYS)


def find_place(folder: Path, root: Path, key: str, entry: str) -> Path | None:
    """The folder or list that an entry names: below `root` or `folder`, or for an absolute path, its end.

    What lies in the dataset folder comes first: the path may lead to the folder that the dataset was copied from. The
    end of such a path counts only if it names the split of `key`: `/content/set/train/images` → `train/images`.
    """
    given = entry.replace("\\", "/")
    inside = given
    while inside.startswith("../"):
        inside = inside[len("../") :]
    ends = _list_ends(inside)[1:] if _is_foreign(given) else []
    ends = [end for end in ends if SPLIT_KEYS[key] in {infer_split(part) for part in end.split("/")}]
    names = [spelled for name in (entry, inside or entry, *ends) for spelled in spell_path(name)]
    places = [base / name for base in (root, folder) for name in names]
    return _choose_inside(folder, (place for place in places if is_dir(place) or is_file(place)))


def _choose_inside(folder: Path, places: Iterable[Path]) -> Path | None:
    """The first place in the dataset folder, or else the first."""
    found = list(places)
    inside = (place for place in found if not make_dataset_relative(folder, place).startswith("/"))
    return next(inside, found[0] if found else None)


def _list_ends(path: str) -> list[str]:
    """The ends of a path, the longest first: `/a/b` → a/b, b."""
    parts = split_path(path)
    return ["/".join(parts[start:]) for start in range(len(parts))]


def _is_foreign(path: str) -> bool:
    """Absolute, or below the data/ of darknet, which CVAT puts before every path."""
    return path.startswith(("/", "data/")) or re.match("[A-Za-z]:", path) is not None


def _read_yaml(folder: Path, path: Path, log: FindingLog) -> YoloSources:
    name = path.name
    try:  # reads scalars as text, so that a class called `no` or `1` keeps its name
        content = parse_yaml(read_text_file(folder, path, log, MAX_CONFIG_BYTES), scalars_as_text=True)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{name}:{line}: invalid YAML: {str(error.problem)[:200]}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{name}: invalid YAML: {str(error)[:200]}") from error
    config = check_mapping(name, content)
    if not any(key in config for key in SPLIT_KEYS):
        raise build_mismatch_error(name, list(config), "the keys names, train and val")
    given = config.get("path") or ""
    if not isinstance(given, str):
        raise build_mismatch_error(f"{name}: path", given, "a folder")
    roots = [folder / spelled for end in (given, *_list_ends(given)) for spelled in spell_path(end)]
    root = _choose_inside(folder, filter(is_dir, roots)) or folder
    classes = _parse_classes(f"{name}: names", config.get("names"))
    return YoloSources(name, classes, root, list(_list_entries(name, config)), _count_keypoint_values(name, config))


def _list_entries(name: str, config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key in SPLIT_KEYS:
        entries = config.get(key) or []
        for entry in entries if isinstance(entries, list) else [entries]:
            if entry in ("null", "~"):
                continue
            if not isinstance(entry, str):
                raise build_mismatch_error(f"{name}: {key}", entry, "a folder, a .txt list, or a list of these")
            yield key, entry


def _read_darknet(folder: Path, path: Path, log: FindingLog) -> YoloSources:
    """A file of lines such as `train = data/train.txt` and `names = data/obj.names`."""
    pairs = [line.partition("=")[::2] for line in _read_lines(folder, path, log) if "=" in line]
    config = {key.strip(): value.strip() for key, value in pairs}
    given = config.get("names", "obj.names")
    names = next((folder / end for end in _list_ends(given) if is_file(folder / end)), None)
    if names is None:
        raise build_mismatch_error(f"{path.name}: names", given, f"a file of class names in {folder}")
    classes = _parse_classes(names.name, _read_lines(folder, names, log))
    entries = [(key, config[key]) for key in SPLIT_KEYS if config.get(key)]
    if not entries:
        raise build_mismatch_error(path.name, list(config), "the keys names, train and valid")
    return YoloSources(path.name, classes, folder, entries)


def _read_lines(folder: Path, path: Path, log: FindingLog) -> list[str]:
    """The lines of a small text file, without spaces around them and without empty lines at its end."""
    text = read_text_file(folder, path, log, MAX_CONFIG_BYTES)
    return [line.strip() for line in text.rstrip().split("\n")]


def _parse_classes(where: str, names: Any) -> dict[int, str]:
    if isinstance(names, list):
        names = {str(index): name for index, name in enumerate(names)}
    if not isinstance(names, dict) or not names:
        raise build_mismatch_error(where, names, "the class names as a list or as {0: name, …}")
    classes: dict[int, str] = {}
    for key, value in names.items():
        id_, name = parse_class_id(where, key), check_string(f"{where}: {key}", value)
        if id_ in classes:
            raise build_mismatch_error(f"{where}: {key}", name, f"one name per id; {id_} is {classes[id_]!r}")
        if name in classes.values():
            raise build_mismatch_error(f"{where}: {key}", name, "each class once")
        classes[id_] = name
    return classes


def parse_class_id(where: str, source: str) -> int:
    """The id of a class, which some tools write as 0.0."""
    value = parse_number(where, source)
    if not value.is_integer():
        raise build_mismatch_error(where, source, "an integer class id")
    return int(value)


def _count_keypoint_values(name: str, config: Mapping[str, Any]) -> int:
    """How many numbers follow each box in a keypoint dataset; 0 in other datasets."""
    if "kpt_shape" not in config:
        return 0
    shape = config["kpt_shape"]
    texts = shape if isinstance(shape, list) and all(isinstance(value, str) for value in shape) else []
    match = re.fullmatch(r"(\d{1,4}),([23])", ",".join(texts))
    if not match:
        raise build_mismatch_error(f"{name}: kpt_shape", shape, "[number of keypoints, 2 or 3]")
    return int(match[1]) * int(match[2])
