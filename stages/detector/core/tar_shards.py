"""Images in tar shards: a dataset of millions of images becomes a few thousand files.

    set/shard-00000.tar      images, uncompressed: 00000_000000.jpg, 00000_000001.png, … (WebDataset layout)
    set/shard-00000.idx      one fixed-width line per member: offset and size of its bytes
    set/shard-00000.jsonl    one line per member: its labels, as in dataset.jsonl

A path such as `set/shard-00000.tar/00000_000123.jpg` names a member wherever an image path is expected. The member's
number is its line in the index, so reading it takes two short reads and no index in memory.
`tools/archive.py` writes such folders.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

HEADER_BYTES = 512  # bytes before the data of each member
NAME_FIELD, SIZE_FIELD = slice(0, 100), slice(124, 135)  # in the header: the name, and the size in octal digits
INDEX_LINE = "{:014} {:012}\n"  # offset and size of a member's data, in bytes
INDEX_WIDTH = len(INDEX_LINE.format(0, 0))
_SHARD = re.compile(r"shard-\d{5}\.tar")
_MEMBER = re.compile(r"\d{5}_(\d{6})\.\w+")


class Member(NamedTuple):
    """One image of a shard."""

    shard: Path
    name: str


def parse_member_path(path: Path) -> Member | None:
    """The shard member that `path` names; None if it is the path of an ordinary file."""
    if _SHARD.fullmatch(path.parent.name) is None:
        return None
    return Member(path.parent, path.name)


def build_member_name(shard: int, number: int, suffix: str) -> str:
    """The name of image `number` (from 0) of a shard; suffix: such as `.jpg`."""
    return f"{shard:05}_{number:06}{suffix}"


def read_image_bytes(path: Path) -> bytes:
    """The bytes of an image file or shard member. Raises OSError: FileNotFoundError if it does not exist."""
    member = parse_member_path(path)
    return path.read_bytes() if member is None else _read_member(member)


def stat_image(path: Path) -> os.stat_result:
    """The status of an image file, or of the shard that holds the member. Raises OSError."""
    member = parse_member_path(path)
    return path.stat() if member is None else member.shard.stat()


def _read_member(member: Member) -> bytes:
    match = _MEMBER.fullmatch(member.name)
    if match is None:
        raise FileNotFoundError(2, "no such member", str(member.shard / member.name))
    with member.shard.with_suffix(".idx").open("rb") as index:
        index.seek(int(match[1]) * INDEX_WIDTH)
        line = index.read(INDEX_WIDTH)
    if not line:
        raise FileNotFoundError(2, "no such member", str(member.shard / member.name))
    try:
        offset, size = map(int, line.split())
    except ValueError:
        raise OSError(5, "the index is damaged", str(member.shard.with_suffix(".idx"))) from None
    with member.shard.open("rb") as file:
        file.seek(max(0, offset - HEADER_BYTES))
        data = file.read(HEADER_BYTES + size)
    header = (data[NAME_FIELD].rstrip(b"\0").decode(errors="replace"), data[SIZE_FIELD], len(data))
    if header != (member.name, b"%011o" % size, HEADER_BYTES + size):
        raise OSError(5, "the index does not match this shard", str(member.shard / member.name))
    return data[HEADER_BYTES:]
