"""Mutations of annotations as values: types, keys, ids, boxes, names, elements and lines."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

from tests.fuzz.datasets import FuzzDataset
from tests.fuzz.values import PATHS, TEXTS, XML_BODIES, XML_PROLOGS, YAML_BOMB, YAMLS, Raw, hostile, nested

# A change of these may change which image a record is about.
_NAMING = (
    "image_path",
    "file_name",
    "filename",
    "id",
    "image_id",
    "category_id",
    "source",
    "split",
    "images",
    "categories",
)
Place = tuple[Any, Any, tuple[Any, ...]]  # a list or dict, a key of it, and the keys that lead there


def mutate_document(dataset: FuzzDataset, rng: random.Random) -> None:
    """Change one document, as its kind allows."""
    path = rng.choice(sorted(dataset.documents))
    document = dataset.documents[path]
    if isinstance(document, Raw):
        dataset.story.append(f"{path}: left as it is")
    elif path.endswith(".xml"):
        dataset.touch(_find_by_stem(dataset, path))
        dataset.story.append(f"{path}: " + _mutate_xml(dataset, path, document, rng))
    elif path.endswith(".txt"):
        dataset.touch(_find_by_stem(dataset, path))
        dataset.story.append(f"{path}: " + _mutate_lines(document, rng))
    elif path.endswith(".yaml") and rng.random() < 0.5:
        dataset.touched = None
        dataset.documents[path] = _choose_yaml(rng)
        dataset.story.append(f"{path}: {dataset.documents[path][:80]!r}")
    else:
        dataset.story.append(f"{path}: " + _mutate_json(dataset, path, document, rng))


def _choose_yaml(rng: random.Random) -> Raw:
    text = rng.choice((*YAMLS, YAML_BOMB)).replace("{}", "names: *a\ntrain: .\n")
    return Raw(text + rng.choice(("", "\nval: images/val", "\nval: valid/images", "\nval: .")))


def _find_by_stem(dataset: FuzzDataset, path: str) -> str | None:
    """The image that a document of one image belongs to; None for a document of all."""
    stem = path.rpartition("/")[2].rpartition(".")[0]
    names = [image.name for image in dataset.images if image.name.rpartition("/")[2].rpartition(".")[0] == stem]
    return names[0] if names and path.rpartition("/")[0] else None


def _walk(value: Any, keys: tuple[Any, ...] = ()) -> Iterator[Place]:
    if isinstance(value, (list, dict)):
        for key, item in list(value.items() if isinstance(value, dict) else enumerate(value)):
            yield value, key, (*keys, key)
            yield from _walk(item, (*keys, key))


def _mutate_json(dataset: FuzzDataset, path: str, document: Any, rng: random.Random) -> str:
    if rng.random() < 0.03:
        dataset.touched = None
        values: list[Any] = [[], {}, [[]], [None], [document], [nested(rng)], [hostile(rng)]]
        dataset.documents[path] = value = rng.choice(values)
        return f"replaced by {_show(value)}"
    places = list(_walk(document))
    if not places:
        return "nothing left to change"
    parent, key, keys = rng.choice(places)
    dataset.touch(_find_owner(dataset, document, keys))
    shown = ".".join(map(str, keys))
    change = rng.choice(_CHANGES)
    return f"{shown}: {change.__name__.strip('_')}: {change(parent, key, rng)}"


def _find_owner(dataset: FuzzDataset, document: Any, keys: tuple[Any, ...]) -> str | None:
    """The image that the record at these keys is about, unless the change may make it another one."""
    if any(key in _NAMING for key in keys[-1:]) or len(keys) < 2:
        return None
    record, name = None, None
    if dataset.format in ("jsonl", "archive"):
        record = document[keys[0]]
        name = record.get("image_path") if isinstance(record, dict) else None
    elif dataset.format == "parts":
        name = keys[0]
    elif dataset.format == "coco" and keys[0] in ("images", "annotations") and isinstance(document[keys[0]], list):
        record = document[keys[0]][keys[1]]
        if len(keys) > 2 and isinstance(record, dict) and isinstance(document["images"], list):
            key = "id" if keys[0] == "images" else "image_id"
            rows = [row for row in document["images"] if isinstance(row, dict) and row.get("id") == record.get(key)]
            name = rows[0].get("file_name") if rows else None
    names = [image.name for image in dataset.images if isinstance(name, str) and image.name.endswith(name)]
    return names[0] if len(names) == 1 else None


def _replace(parent: Any, key: Any, rng: random.Random) -> str:
    parent[key] = hostile(rng)
    return _show(parent[key])


def _retype(parent: Any, key: Any, rng: random.Random) -> str:
    """The same value as another type."""
    value = parent[key]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        parent[key] = rng.choice(
            (str(value), float(value), bool(value), [value], {"value": value}, int(value), Raw(f"{value}e0"))
        )
    elif isinstance(value, str):
        parent[key] = rng.choice(
            ([value], {"name": value}, value.upper(), f" {value} ", len(value), value + "\0", value + "\n")
        )
    else:
        parent[key] = rng.choice(([value], {"0": value}, str(value), bool(value), None))
    return _show(parent[key])


def _shift(parent: Any, key: Any, rng: random.Random) -> str:
    """Another number, or a number of a box among them."""
    value = parent[key]
    if isinstance(value, (int, float)):
        parent[key] = rng.choice(
            (-value, value + 1, value - 1, value * 100, value / 640, value + 0.4, value * 1e9, 0, value * 2)
        )
    elif isinstance(value, list):
        parent[key] = rng.choice(
            (value[::-1], value[:-1], value * 2, [*value, 0], [[item] for item in value], [None] * len(value))
        )
    else:
        parent[key] = rng.choice(TEXTS if rng.random() < 0.5 else PATHS)
    return _show(parent[key])


def _remove(parent: Any, key: Any, rng: random.Random) -> str:
    del parent[key]
    return ""


def _double(parent: Any, key: Any, rng: random.Random) -> str:
    """The same key or item twice, perhaps with another value."""
    if isinstance(parent, list):
        parent.insert(rng.randrange(len(parent) + 1), copy.deepcopy(parent[key]))
        return "item"
    value = rng.choice(("null", "0", '"bolt"', "[]", "{}"))
    parent[Raw(f'"{key}": {value}')] = None
    return f"key with {value}"


def _rename(parent: Any, key: Any, rng: random.Random) -> str:
    if isinstance(parent, list):
        parent[key] = {str(key): parent[key]}
        return "wrapped"
    name = str(key)
    new = rng.choice(
        (name.upper(), name.title(), f"{name} ", f"{name}s", name[:-1], f"\ufeff{name}", name.replace("_", "-"), "")
    )
    if rng.random() < 0.3:
        new = rng.choice((rng.choice(TEXTS), rng.choice(PATHS)))
    value = parent.pop(key)
    parent[new] = value
    return _show(new)


def _swap(parent: Any, key: Any, rng: random.Random) -> str:
    other = rng.choice(list(parent) if isinstance(parent, dict) else range(len(parent)))
    parent[key], parent[other] = parent[other], parent[key]
    return f"with {other}"


_CHANGES = (_replace, _replace, _replace, _retype, _retype, _shift, _shift, _remove, _double, _rename, _swap)


def _mutate_xml(dataset: FuzzDataset, path: str, root: ElementTree.Element, rng: random.Random) -> str:
    if rng.random() < 0.2:
        prolog, body = rng.choice(("", *XML_PROLOGS)), rng.choice(("", *XML_BODIES))
        text = ElementTree.tostring(root, encoding="unicode").replace("</annotation>", body + "</annotation>")
        dataset.documents[path] = Raw(prolog + text)
        return f"prolog {prolog[:60]!r}, body {body[:60]!r}"
    parents = [element for element in root.iter() if len(element)]
    parent = rng.choice(parents or [root])
    if not len(parent):
        return "nothing left to change"
    child = rng.choice(list(parent))
    choice = rng.randrange(9)
    if choice < 3:
        child.text = str(hostile(rng))
    elif choice == 3:
        parent.remove(child)
    elif choice == 4:
        parent.insert(rng.randrange(len(parent)), copy.deepcopy(child))
    elif choice == 5:
        child.tag = rng.choice((child.tag.upper(), f"{child.tag}s", f"x{child.tag}", "object", "name", "bndbox"))
    elif choice == 6:
        child.append(copy.deepcopy(rng.choice(list(root.iter()))))
    elif choice == 7:
        child.attrib[rng.choice(("xmlns", "value", "id"))] = str(rng.choice(TEXTS))
    else:
        child.text, child.tail = None, child.text
    return f"{parent.tag}/{child.tag}: change {choice}: {_show(child.text)}"


def _mutate_lines(lines: list[Any], rng: random.Random) -> str:
    if not lines:
        lines.append(str(hostile(rng)))
        return f"added {_show(lines[0])}"
    number = rng.randrange(len(lines))
    fields = lines[number].split(" ")
    position = rng.randrange(len(fields))
    choice = rng.randrange(10)
    if choice < 3:
        fields[position] = str(hostile(rng))
    elif choice == 3:
        del fields[position]
    elif choice == 4:
        fields.insert(position, rng.choice(fields))
    elif choice == 5:
        fields += ["0.5"] * rng.choice((1, 2, 4, 6, 51, 1000))
    elif choice == 6:
        fields[position] = rng.choice(
            ("-1", "0.0", "1.0", "2", "640", "1e-9", "１", "0x1", "1_0", "+0.5", ".5", "-0", "5,0")
        )
    elif choice == 7:
        lines.insert(rng.randrange(len(lines)), lines[number])
    elif choice == 8:
        fields = ["\t".join(fields)]
    else:
        fields = [str(rng.choice(TEXTS if rng.random() < 0.5 else PATHS))]
    lines[number] = " ".join(fields)
    return f"line {number}: change {choice}: {_show(lines[number])}"


def _show(value: Any) -> str:
    return repr(value)[:60] if not isinstance(value, (list, dict)) else f"{type(value).__name__} of {len(value)}"
