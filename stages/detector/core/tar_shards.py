"""Images in tar shards, which keep a dataset of millions of images to some thousand files.

    set/shard-00000.tar      images, uncompressed: 00000_000000.jpg, 00000_000001.png, … (WebDataset's layout)
    set/shard-00000.idx      a line of fixed width a member: where its bytes begin, how many there are
    set/shard-00000.jsonl    a line a member: its labels, as in dataset.jsonl

A path such as `set/shard-00000.tar/00000_000123.jpg` names a member everywhere a path of an image may stand. Its
number is its line of the index, so that reading it takes two short reads and no list in memory.
`tools/archive.py` writes such folders.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

HEADER = 512  # bytes before the data of a member
NAME, SIZE = slice(0, 100), slice(124, 135)  # of the header: the name, and the size in octal digits
INDEX_LINE = "{:014} {:012}\n"  # offset and size of a member's data, in bytes
INDEX_WIDTH = len(INDEX_LINE.format(0, 0))
_SHARD = re.compile(r"shard-\d{5}\.tar")
_MEMBER = re.compile(r"\d{5}_(\d{6})\.\w+")


class Member(NamedTuple):
    """One image of a shard."""

    shard: Path
    name: str


def member_of(path: Path) -> Member | None:
    """The member that `path` names; None when it is the path of a file of its own."""
    if _SHARD.fullmatch(path.parent.name) is None:
        return None
    return Member(path.parent, path.name)


def member_name(shard: int, number: int, suffix: str) -> str:
    """Of the image with this number (from 0) in this shard; suffix: such as `.jpg`."""
    return f"{shard:05}_{number:06}{suffix}"


def read_file(path: Path) -> bytes:
    """The bytes of a file or of a member. Raises OSError: FileNotFoundError where there is neither."""
    member = member_of(path)
    return path.read_bytes() if member is None else _read_member(member)


def file_status(path: Path) -> os.stat_result:
    """Of the file, or of the shard that holds the member. Raises OSError."""
    member = member_of(path)
    return path.stat() if member is None else member.shard.stat()


def _read_member(member: Member) -> bytes:
    found = _MEMBER.fullmatch(member.name)
    if found is None:
        raise FileNotFoundError(2, "no such member", str(member.shard / member.name))
    with member.shard.with_suffix(".idx").open("rb") as index:
        index.seek(int(found[1]) * INDEX_WIDTH)
        line = index.read(INDEX_WIDTH)
    if not line:
        raise FileNotFoundError(2, "no such member", str(member.shard / member.name))
    try:
        offset, size = map(int, line.split())
    except ValueError:
        raise OSError(5, "the index is damaged", str(member.shard.with_suffix(".idx"))) from None
    with member.shard.open("rb") as file:
        file.seek(max(0, offset - HEADER))
        data = file.read(HEADER + size)
    told = (data[NAME].rstrip(b"\0").decode(errors="replace"), data[SIZE], len(data))
    if told != (member.name, b"%011o" % size, HEADER + size):
        raise OSError(5, "the index is not of this shard", str(member.shard / member.name))
    return data[HEADER:]
