"""Reading a COCO file entry by entry, with a small part of its text in memory."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from detector.core.errors import UserError
from detector.engine.annotations import AnnotationPacker, Annotations
from detector.engine.dataset import LabelNames, read_label_names

BLOCK = 2**20  # characters read at a time

_skip_space = re.compile(r"[ \t\n\r]*").match
_decode = json.JSONDecoder().raw_decode


class PackedCoco(NamedTuple):
    """A COCO file without its dictionaries; state_counts: objects by the id of their state, crowds included."""

    annotations: Annotations
    names: LabelNames
    state_counts: Counter[int]


def read_packed(path: Path) -> PackedCoco:
    """Read a COCO file of coco-convert. Raises UserError when it is damaged."""
    packer = AnnotationPacker()
    names: dict[str, list[dict[str, Any]]] = {"categories": [], "states": []}
    add = {"images": packer.add_image, "annotations": packer.add_object}
    add |= {key: entries.append for key, entries in names.items()}
    try:
        for key, entry in iterate_entries(path):
            add[key](entry)
        return PackedCoco(packer.pack(), read_label_names(names), packer.state_counts)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{path}: not as coco-convert writes it: {error!r}; `dvc repro` writes it again") from None


def iterate_entries(path: Path) -> Iterator[tuple[str, Any]]:
    """Each entry of the lists in a JSON object with the list's key, in the order of the file.

    Raises UserError for what is not JSON, or another JSON than an object of lists.
    """
    with path.open(encoding="utf-8", newline="") as file:
        text = _Text(file)
        try:
            yield from _iterate_object(text)
        except json.JSONDecodeError as error:
            place = text.offset + error.pos
            raise UserError(f"{path}: not valid JSON: {error.msg} at character {place:,}") from None
        except UnicodeDecodeError as error:
            raise UserError(f"{path} is not UTF-8 text: {error}") from None


def _iterate_object(text: _Text) -> Iterator[tuple[str, Any]]:
    text.take("{")
    while True:
        key = text.decode()
        text.take(":")
        text.take("[")
        if text.peek() == "]":
            text.take("]")
        else:
            while True:
                yield key, text.decode()
                if text.take(",]") == "]":
                    break
        if text.take(",}") == "}":
            break
    text.take("")


class _Text:
    """The text of a file, of which a block is in memory; offset: the characters before it."""

    def __init__(self, file: TextIO) -> None:
        self.offset = 0
        self._file, self._block, self._at = file, "", 0

    def peek(self) -> str:
        """The next character that is no white space; "" at the end."""
        while True:
            self._at = _skip_space(self._block, self._at).end()
            if self._at < len(self._block) or not self._read_more():
                return self._block[self._at : self._at + 1]

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
                if not self._read_more():
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
