"""Reading a COCO file entry by entry, with a small part of its text in memory."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, TextIO, TypeVar

from detector.core.errors import UserError
from detector.engine.dataset import LabelNames, read_label_names
from detector.engine.ground_truth import GroundTruth, GroundTruthPacker

BLOCK = 2**20  # characters read at a time
MAX_ENTRY = 2**26  # characters: where so many are no entry, the file is damaged, and the rest would not help

_find_character = re.compile(r"[^ \t\n\r]").search
_decode = json.JSONDecoder().raw_decode


Packed = TypeVar("Packed", covariant=True)


class Packer(Protocol[Packed]):
    """What the entries of a COCO file are given to, one by one, such as an `AnnotationPacker`."""

    def add_image(self, image: dict[str, Any]) -> None: ...

    def add_object(self, annotation: dict[str, Any]) -> None: ...

    def pack(self) -> Packed: ...


def read_ground_truth(path: Path) -> GroundTruth:
    """Read a COCO file as coco-convert writes it. Raises UserError as `read_packed`."""
    (images, objects), names = read_packed(path, GroundTruthPacker())
    return GroundTruth(names, images, objects)


def read_packed(path: Path, packer: Packer[Packed]) -> tuple[Packed, LabelNames]:
    """Read a COCO file as coco-convert writes it with `packer`. Raises UserError when it is damaged or another file."""
    names: dict[str, list[dict[str, Any]]] = {"categories": [], "states": []}
    add: dict[str, Callable[[dict[str, Any]], None]]
    add = {"images": packer.add_image, "annotations": packer.add_object, **{key: names[key].append for key in names}}
    with path.open(encoding="utf-8", newline="") as file:
        text = _Text(file)
        try:
            for key, entries in _iterate_lists(text):
                add_entry = add.pop(key)
                for entry in entries:
                    add_entry(entry)
            if add:
                raise ValueError(f"{', '.join(add)} missing")
            return packer.pack(), read_label_names(names)
        except json.JSONDecodeError as error:
            place = text.offset + error.pos
            raise UserError(f"{path}: not valid JSON: {error.msg} at character {place:,}") from None
        except UnicodeDecodeError as error:
            raise UserError(f"{path} is not UTF-8 text: {error}") from None
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise UserError(f"{path}: not as coco-convert writes it: {error!r}; `dvc repro` writes it again") from None


def _iterate_lists(text: _Text) -> Iterator[tuple[str, Iterator[Any]]]:
    """Each key of a JSON object with the entries of its list, which must be consumed before the next key is read."""
    text.take("{")
    while True:
        key = text.decode()
        text.take(":")
        yield key, _iterate_entries(text)
        if text.take(",}") == "}":
            break
    text.take("")


def _iterate_entries(text: _Text) -> Iterator[Any]:
    text.take("[")
    if text.peek() == "]":
        text.take("]")
        return
    while True:
        yield text.decode()
        if text.take(",]") == "]":
            return


class _Text:
    """The text of a file, of which a block is in memory; offset: the characters before it."""

    def __init__(self, file: TextIO) -> None:
        self.offset = 0
        self._file, self._block, self._at = file, "", 0

    def peek(self) -> str:
        """The next character that is no white space; "" at the end."""
        while True:
            if found := _find_character(self._block, self._at):
                self._at = found.start()
                return found.group()
            self._at = len(self._block)
            if not self._read_more():
                return ""

    def take(self, expected: str) -> str:
        """Move behind the next character, which must be among `expected`; if that is "", the text must end."""
        character = self.peek()
        if character not in expected or bool(character) != bool(expected):
            names = " or ".join(map(repr, expected)) or "the end"
            raise json.JSONDecodeError(f"Expecting {names}", self._block, self._at)
        self._at += len(character)
        return character

    def decode(self) -> Any:
        """Decode the next value, an object, list or string, and move behind it."""
        self.peek()
        while True:
            try:
                value, self._at = _decode(self._block, self._at)
            except json.JSONDecodeError:
                if len(self._block) - self._at > MAX_ENTRY or not self._read_more():
                    raise
            else:
                return value

    def _read_more(self) -> bool:
        """Drop what was decoded and read as much as is left or a block; False at the end of the file."""
        left = self._block[self._at :]
        more = self._file.read(max(BLOCK, len(left)))
        if more:
            self.offset += self._at
            self._block, self._at = left + more, 0
        return bool(more)
