"""Images in tar shards: a dataset of millions of images becomes a few thousand files.

    set/shard-00000.tar      images, uncompressed: 00000_000000.jpg, 00000_000001.png, … (WebDataset layout)
    set/shard-00000.idx      one fixed-width line per member: offset and size of its bytes
    set/shard-00000.jsonl    one line per member: its labels, as in dataset.jsonl

A path such as `set/shard-00000.tar/00000_000123.jpg` names a member wherever an image path is expected. The member's
number is its line in the index, so reading it takes two short reads and no index in memory.
`tools/archive.py` writes such folders.
"""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from typing import BinaryIO, NamedTuple

from detector.core.input_files import find_kind_problem

HEADER_BYTES = 512  # bytes before the data of each member
NAME_FIELD, SIZE_FIELD = slice(0, 100), slice(124, 135)  # in the header: the name, and the size in octal digits
INDEX_LINE = "{:014} {:012}\n"  # offset and size of a member's data, in bytes
INDEX_WIDTH = len(INDEX_LINE.format(0, 0))
MAX_IMAGE_BYTES = 1 << 30  # of an image file or member
_INDEX_ENTRY = re.compile(rb"(\d{14}) (\d{12})\n")
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
    """The bytes of an image file or shard member.

    Raises OSError: FileNotFoundError if it does not exist, and others if it is a folder, a pipe or a device, or has
    more than MAX_IMAGE_BYTES.
    """
    member = parse_member_path(path)
    if member is not None:
        return _read_member(member)
    with _open_file(path) as file:
        if os.fstat(file.fileno()).st_size > MAX_IMAGE_BYTES:
            raise OSError(errno.EFBIG, f"more than {MAX_IMAGE_BYTES >> 20:,} MB", str(path))
        return file.read()


def stat_image(path: Path) -> os.stat_result:
    """The status of an image file, or of the shard that holds the member. Raises OSError."""
    member = parse_member_path(path)
    return path.stat() if member is None else member.shard.stat()


def _open_file(path: Path) -> BinaryIO:
    """Open a file to read. Raises OSError for anything else: a pipe would wait for good, a device may never end."""
    if problem := find_kind_problem(path.stat()):
        raise OSError(errno.EINVAL, f"{problem}, not a file", str(path))
    return path.open("rb")


def _read_member(member: Member) -> bytes:
    place = str(member.shard / member.name)
    match = _MEMBER.fullmatch(member.name)
    if match is None:
        raise FileNotFoundError(errno.ENOENT, "no such member", place)
    with _open_file(member.shard.with_suffix(".idx")) as index:
        index.seek(int(match[1]) * INDEX_WIDTH)
        line = index.read(INDEX_WIDTH)
    if not line:
        raise FileNotFoundError(errno.ENOENT, "no such member", place)
    entry = _INDEX_ENTRY.fullmatch(line)
    if entry is None:
        raise OSError(errno.EIO, "the index is damaged", str(member.shard.with_suffix(".idx")))
    offset, size = int(entry[1]), int(entry[2])
    with _open_file(member.shard) as file:
        end = os.fstat(file.fileno()).st_size
        if offset < HEADER_BYTES or offset + size > end or size > MAX_IMAGE_BYTES:
            raise OSError(errno.EIO, f"the index does not match this shard of {end} bytes", place)
        file.seek(offset - HEADER_BYTES)
        data = file.read(HEADER_BYTES + size)
    header = (data[NAME_FIELD].rstrip(b"\0").decode(errors="replace"), data[SIZE_FIELD], len(data))
    if header != (member.name, b"%011o" % size, HEADER_BYTES + size):
        raise OSError(errno.EIO, "the index does not match this shard", place)
    return data[HEADER_BYTES:]
