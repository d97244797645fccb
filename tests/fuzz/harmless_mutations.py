"""Changes that must not matter: the same images and boxes come out."""

from __future__ import annotations

import os
import random
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from tests.fuzz.datasets import FuzzDataset
from tests.fuzz.values import Raw, picture

_NEW_KEYS = {
    "info": {"year": 2017},
    "license": 1,
    "x-note": "=1+1",
    "attributes": [1, None, {"a": "\u2028"}],
    "\u00e9": 1e300,
}
_MARK = b"\xef\xbb\xbf"


def change_harmlessly(dataset: FuzzDataset, rng: random.Random) -> None:
    """Apply one or two changes to the documents, and one or two to the files once they are written."""
    chosen = rng.sample(_DOCUMENT_CHANGES, rng.choice((0, 1, 2)))
    for change in chosen:
        dataset.story.append(f"harmless: {change.__name__.strip('_')}")
        for path in sorted(dataset.documents):
            dataset.documents[path] = change(path, dataset.documents[path], rng)
    if rng.random() < 0.3:
        dataset.json_options = rng.choice(
            ({"ensure_ascii": True}, {"separators": (",", ":")}, {"separators": (" , ", " :\t")})
        )
    dataset.serialize()
    for change_file in rng.sample(_FILE_CHANGES, rng.choice((1, 1, 2)) if chosen else 1):
        dataset.story.append(f"harmless: {change_file.__name__.strip('_')}")
        change_file(dataset, rng)


def _shuffle(path: str, document: Any, rng: random.Random) -> Any:
    """Other orders of records and keys, where the format gives them no meaning."""
    if isinstance(document, ElementTree.Element):
        document[:] = rng.sample(list(document), len(document))
        return document
    if path == "data.yaml":
        return dict(rng.sample(list(document.items()), len(document)))
    if isinstance(document, list):
        return [_shuffle_keys(item, rng) for item in rng.sample(document, len(document))]
    shuffled = {key: rng.sample(item, len(item)) if isinstance(item, list) else item for key, item in document.items()}
    return _shuffle_keys(shuffled, rng)


def _shuffle_keys(value: Any, rng: random.Random) -> Any:
    if not isinstance(value, dict):
        return value
    return {key: _shuffle_keys(item, rng) for key, item in rng.sample(list(value.items()), len(value))}


def _add_keys(path: str, document: Any, rng: random.Random) -> Any:
    """Keys that no reader knows, in every record."""
    if isinstance(document, ElementTree.Element):
        for element in list(document.iter()):
            if len(element) or element is document:
                ElementTree.SubElement(element, "note").text = "a & b"
        return document
    if path.endswith(".txt"):
        return document
    if path == "data.yaml":
        return {**document, "roboflow": {"license": "CC BY 4.0", "url": "=x"}, "download": None}
    return _extend(document, _NEW_KEYS, is_record=not _is_keyed(path, document))


def _is_keyed(path: str, document: Any) -> bool:
    """Whether the keys of the document are names of images, as in the format `parts`."""
    return isinstance(document, dict) and "annotations" not in document


def _extend(value: Any, new: dict[str, Any], *, is_record: bool = True) -> Any:
    if isinstance(value, list):
        return [_extend(item, new) for item in value]
    if not isinstance(value, dict):
        return value
    extended = {key: _extend(item, new, is_record=key != "parts") for key, item in value.items()}
    return {**extended, **new} if is_record else extended


def _respell_numbers(path: str, document: Any, rng: random.Random) -> Any:
    """1 as 1.0, 1e0 or 10e-1; not the ids of classes."""
    if path.endswith(".txt"):
        return [re.sub(r"(?<= )\d+\.\d+$", lambda match: f"{float(match[0]):.12e}", line) for line in document]
    if isinstance(document, ElementTree.Element):
        for element in document.iter():
            if element.tag in ("xmin", "ymin", "xmax", "ymax", "trust"):
                element.text = rng.choice(
                    (f" {element.text}\n", f"{float(element.text or 0)}", f"{float(element.text or 0):e}")
                )
        return document
    return document if path == "data.yaml" else _respell(document, rng)


def _respell(value: Any, rng: random.Random) -> Any:
    if isinstance(value, list):
        return [_respell(item, rng) for item in value]
    if isinstance(value, dict):
        return {key: _respell(item, rng) for key, item in value.items()}
    if isinstance(value, (int, float)) and "e" not in repr(value):
        return rng.choice((value, Raw(f"{float(value)!r}"), Raw(f"{value!r}e0"), Raw(f"{value!r}E+00")))
    return value


def _respell_ids(path: str, document: Any, rng: random.Random) -> Any:
    """Ids of COCO as text, as floats, or all of them larger."""
    if not isinstance(document, dict) or "annotations" not in document:
        return document
    ids = [row["id"] for row in document["images"]] + [row["image_id"] for row in document["annotations"]]
    if any(isinstance(id_, Raw) for id_ in ids):  # respelled as numbers already
        return document
    spell: Callable[[int], Any] = rng.choice((str, float, lambda id_: id_ + 10**12, lambda id_: f"image-{id_:03}"))
    for row in document["images"]:
        row["id"] = spell(row["id"])
    for annotation in document["annotations"]:
        annotation["image_id"] = spell(annotation["image_id"])
    return document


def _decompose_names(path: str, document: Any, rng: random.Random) -> Any:
    """An accent as a character of its own, as macOS writes names."""
    return _map_texts(document, lambda text: unicodedata.normalize("NFD", text))


def _respell_paths(path: str, document: Any, rng: random.Random) -> Any:
    """Paths as Windows writes them, or from the current folder; those of shards are no person's."""
    if path.startswith("shard-"):
        return document
    spell = rng.choice((lambda text: text.replace("/", "\\"), lambda text: f"./{text}"))
    suffixes = (".png", ".jpg", ".bmp", ".webp")
    return _map_texts(document, lambda text: spell(text) if text.endswith(suffixes) else text)


def _map_texts(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, ElementTree.Element):
        for element in value.iter():
            element.text = change(element.text or "")
        return value
    if isinstance(value, list):
        return [_map_texts(item, change) for item in value]
    if isinstance(value, dict):
        return {_map_texts(key, change): _map_texts(item, change) for key, item in value.items()}
    return change(value) if isinstance(value, str) and not isinstance(value, Raw) else value


def _mark_as_utf8(dataset: FuzzDataset, rng: random.Random) -> None:
    """A byte order mark."""
    _edit_texts(dataset, lambda path, data: data if data.startswith((b"\xff\xfe", _MARK)) else _MARK + data)


def _end_lines_as_windows(dataset: FuzzDataset, rng: random.Random) -> None:
    _edit_texts(dataset, lambda path, data: data.replace(b"\n", b"\r\n"))


def _add_blank_lines(dataset: FuzzDataset, rng: random.Random) -> None:
    _edit_texts(dataset, lambda path, data: data if path.endswith(b".xml") else data.replace(b"\n", b"\n\n") + b"\n \n")


def _cut_last_line_end(dataset: FuzzDataset, rng: random.Random) -> None:
    _edit_texts(dataset, lambda path, data: data.rstrip(b"\n"))


def _comment(dataset: FuzzDataset, rng: random.Random) -> None:
    """Comments in YAML and XML, and XML in UTF-16."""

    def edit(path: bytes, data: bytes) -> bytes:
        data = data.removeprefix(_MARK)
        if path.endswith(b".yaml"):
            return b"# names: [other]\n%YAML 1.2\n---\n" + data if rng.getrandbits(1) else data + b"# end\n"
        if not path.endswith(b".xml"):
            return data
        data = data.replace(b"<object>", b"<!-- <object/> --><object>").replace(b"bolt", b"<![CDATA[bolt]]>")
        return rng.choice((data, ('<?xml version="1.0" encoding="utf-16"?>' + data.decode()).encode("utf-16")))

    _edit_texts(dataset, edit)


def _edit_texts(dataset: FuzzDataset, edit: Callable[[bytes, bytes], bytes]) -> None:
    for path in sorted(dataset.files):
        if path.endswith((b".json", b".jsonl", b".yaml", b".xml", b".txt")):
            dataset.files[path] = edit(path, dataset.files[path])


def _add_hidden_files(dataset: FuzzDataset, rng: random.Random) -> None:
    """What macOS, Windows and notebooks leave in folders."""
    for path in rng.sample(sorted(dataset.files), min(4, len(dataset.files))):
        folder, _, name = path.rpartition(b"/")
        prefix = folder + b"/" * bool(folder)
        stem, _, suffix = name.rpartition(b".")
        dataset.files[prefix + b"._" + name] = b"\x00\x05\x16\x07" + b"\0" * 100
        dataset.files[prefix + b".ipynb_checkpoints/" + stem + b"-checkpoint." + suffix] = dataset.files[path]
        dataset.files[prefix + rng.choice((b".DS_Store", b"Thumbs.db", b"desktop.ini"))] = b"\0\0\0\1Bud1"
        dataset.files[b"__MACOSX/" + prefix + b"._" + name] = b"\x00\x05\x16\x07"


def _add_other_files(dataset: FuzzDataset, rng: random.Random) -> None:
    """Files that are no part of a dataset, and images that nothing names, where a format lists its images."""
    new = {
        b"README.md": b"# data\n",
        b"docs/license.pdf": b"%PDF-1.4",
        b"\xff\xfe": b"",
        b"model.pt": b"PK",
        b"a\nb.log": b"",
    }
    if dataset.format != "yolo":
        new |= {b"unused/7.png": picture(60, 20, 20, ".png"), b"unused/8.jpg": b"no image"}
    dataset.files |= dict(rng.sample(sorted(new.items()), 3))


def _link_files(dataset: FuzzDataset, rng: random.Random) -> None:
    """Files as links to a cache outside of the dataset, as DVC makes them."""
    paths = rng.sample(sorted(dataset.files), min(len(dataset.files), rng.choice((1, 3, 20))))

    def link(folder: Path) -> None:
        cache = folder.absolute().parent.parent / "cache"
        cache.mkdir(exist_ok=True)
        for number, name in enumerate(paths):
            path = folder / os.fsdecode(name)
            path.rename(cache / f"{number:032x}")
            path.symlink_to(cache / f"{number:032x}")

    dataset.specials.append(link)


def _link_folder(dataset: FuzzDataset, rng: random.Random) -> None:
    """A folder of the dataset as a link to a folder outside of it."""
    folders = sorted({path.split(b"/")[0] for path in dataset.files if b"/" in path})
    if not folders:
        return
    name = os.fsdecode(rng.choice(folders))

    def link(folder: Path) -> None:
        target = folder.parent.parent / "elsewhere"
        (folder / name).rename(target)
        (folder / name).symlink_to(rng.choice((str(target.absolute()), f"../../{target.name}")))

    dataset.specials.append(link)


_DOCUMENT_CHANGES = (_shuffle, _add_keys, _respell_numbers, _respell_ids, _decompose_names, _respell_paths)
_FILE_CHANGES = (
    _mark_as_utf8, _end_lines_as_windows, _add_blank_lines, _cut_last_line_end, _comment, _add_hidden_files,
    _add_hidden_files, _add_other_files, _link_files, _link_folder,
)  # fmt: skip
