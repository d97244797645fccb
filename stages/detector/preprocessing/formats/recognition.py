"""`preprocess.format: auto`: the format of a dataset folder, by the files in it.

Files in the folder itself and in its subfolders count, where all formats have their annotations. Only where these show
nothing, files further down are looked at, which only VOC can have.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from detector.core.errors import UserError
from detector.core.images import IMAGE_SUFFIXES
from detector.preprocessing.dataset_folder import find_files, is_hidden_name
from detector.preprocessing.findings import FindingLog
from detector.preprocessing.formats.files import (
    find_json_groups,
    infer_annotation_split,
    is_dir,
    is_file,
    make_dataset_relative,
    read_head,
)
from detector.preprocessing.formats.yolo_sources import find_config, read_sources

_JSON_LIST = re.compile(r'"(?:images|annotations)"\s*:\s*\[')
_PARTS = re.compile(r'"parts"\s*:\s*\{')
_VOC_ROOT = re.compile(r"<annotation[\s/>]")
_LABEL_LINE = re.compile(r"\d+(\.0+)?(\s+-?[\d.]+(e-?\d+)?){4,}\s*$", re.IGNORECASE | re.MULTILINE)
_LOOKED_AT = 200  # files of a kind that are opened


class Recognition(NamedTuple):
    """A format of READERS, the file that shows it, relative to the dataset folder, and others that were not chosen."""

    format: str
    evidence: str
    others: str = ""

    def __str__(self) -> str:
        others = f"; {self.others} is not read, unless `preprocess.format` says so" if self.others else ""
        return f"format {self.format}, recognized by {self.evidence}{others}"


def recognize_format(folder: Path) -> Recognition:
    """The format of the dataset in `folder`. Raises UserError when none fits, or more than one."""
    near, deep = _find_evidence(folder.absolute())
    found = near or deep
    if not found:
        raise UserError(f"{folder}: {_describe_contents(folder)}")
    if len(found) > 1:
        listed = " and ".join(f"{name} ({evidence})" for name, evidence in found.items())
        raise UserError(
            f"{folder}: more than one format fits: {listed}; set `preprocess.format` to the right one, such as "
            f"`-S preprocess.format={next(iter(found))}` (FORMAT={next(iter(found))} of `make repro`)"
        )
    (format_, evidence), *_ = found.items()
    others = ", ".join(f"{name} ({path})" for name, path in deep.items() if name != format_)
    return Recognition(format_, evidence, others)


def _find_evidence(folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """The first file of each format: in the folder and its subfolders, and those further down."""
    near: dict[str, str] = {}
    deep: dict[str, str] = {}
    for format_, path in itertools.chain(_find_files(folder), _find_voc(folder)):
        name = make_dataset_relative(folder, path)
        (near if name.count("/") < 2 else deep).setdefault(format_, name)
    return near, deep


def _find_files(folder: Path) -> Iterator[tuple[str, Path]]:
    names = sorted(path for path in folder.glob("*") if not is_hidden_name(path.name))
    yield from (("archive", path) for path in names if re.fullmatch(r"shard-\d{5}\.(tar|jsonl)", path.name))
    inner = (path for place in names if is_dir(place) for path in sorted(place.glob("*.jsonl")))
    lists = [path for path in names if path.suffix == ".jsonl" and not path.name.startswith("shard-")]
    yield from (("jsonl", path) for path in lists or [path for path in inner if infer_annotation_split(folder, path)])
    if _is_yolo(folder):
        yield "yolo", find_config(folder)
    for path in (path for group in find_json_groups(folder) for path in group):
        head = read_head(path)
        if head.lstrip().startswith("{"):
            yield from [("coco", path)] if _JSON_LIST.search(head) else []
            yield from [("parts", path)] if _PARTS.search(head) else []


def _is_yolo(folder: Path) -> bool:
    """A YAML or *.data file is enough; beside a mere list of class names, there has to be a file of labels."""
    try:
        if find_config(folder).suffix in (".yaml", ".yml", ".data"):
            return True
        read_sources(folder, FindingLog())
    except UserError:
        return (folder / "data.yaml").exists()
    return any(_LABEL_LINE.match(read_head(path)) for path in find_files(folder, (".txt",))[:_LOOKED_AT])


def _find_voc(folder: Path) -> Iterator[tuple[str, Path]]:
    """The first VOC file in or just below the folder, or else further down."""
    paths = [path for path in find_files(folder, (".xml",)) if is_file(path)]
    paths.sort(key=lambda path: len(path.parts))
    yield from (("voc", path) for path in paths[:_LOOKED_AT] if _VOC_ROOT.search(read_head(path)))


def _describe_contents(folder: Path) -> str:
    """What is there instead of a dataset, and what to do."""
    advice = "; docs/data.md shows the formats and layouts that are read"
    for place in sorted(path for path in folder.glob("*") if is_dir(path) and not is_hidden_name(path.name)):
        near, _ = _find_evidence(place)
        if near:
            return f"found no dataset, but {place} holds one ({', '.join(near)}): name that folder"
    if any("<annotations" in read_head(path) for path in folder.glob("*.xml")):
        return "found CVAT's own XML, which is not read; export the dataset as COCO, which CVAT writes too"
    if any(_LABEL_LINE.match(read_head(path)) for path in find_files(folder, (".txt",))[:_LOOKED_AT]):
        return f"found YOLO labels, but neither data.yaml nor classes.txt, which name the classes{advice}"
    images = len(find_files(folder, IMAGE_SUFFIXES))
    return (
        f"found {images:,} images, but no annotations: no *.jsonl, data.yaml, classes.txt, COCO or DelftBikes JSON, "
        f"VOC XML or tar shards{advice}"
    )
