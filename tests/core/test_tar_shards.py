"""Members of tar shards, and shards or indexes that are damaged or no files at all."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from detector.core.tar_shards import INDEX_LINE, build_member_name, read_image_bytes

NAME = build_member_name(0, 0, ".jpg")


@pytest.fixture
def member(tmp_path: Path) -> Path:
    """A shard with one member of 5 bytes."""
    with tarfile.open(tmp_path / "shard-00000.tar", "w", format=tarfile.USTAR_FORMAT) as shard:
        header = tarfile.TarInfo(NAME)
        header.size = 5
        shard.addfile(header, io.BytesIO(b"image"))
    (tmp_path / "shard-00000.idx").write_text(INDEX_LINE.format(512, 5))
    return tmp_path / "shard-00000.tar" / NAME


def test_a_member_is_read(member: Path) -> None:
    assert read_image_bytes(member) == b"image"


@pytest.mark.parametrize(
    "line",
    [
        INDEX_LINE.format(512, 999_999_999_999),
        INDEX_LINE.format(99_999_999_999_999, 5),
        INDEX_LINE.format(99_999_999_999_999, 999_999_999_999),
        INDEX_LINE.format(512, 6),
        INDEX_LINE.format(0, 5),
        INDEX_LINE.format(511, 5),
    ],
)
def test_an_index_that_does_not_fit_its_shard(member: Path, line: str) -> None:
    member.parent.with_suffix(".idx").write_text(line)
    with pytest.raises(OSError, match="the index does not match") as error:
        read_image_bytes(member)
    assert error.value.filename == str(member)


@pytest.mark.parametrize(
    "line",
    ["no numbers\n", "0000000000512 0000000000005\n", "-0000000000512 000000000005\n", "+0000000000512 -00000000005\n",
     INDEX_LINE.format(512, 5)[:-1], "\0" * 28],
)  # fmt: skip
def test_a_damaged_index(member: Path, line: str) -> None:
    index = member.parent.with_suffix(".idx")
    index.write_text(line)
    with pytest.raises(OSError, match="damaged") as error:
        read_image_bytes(member)
    assert error.value.filename == str(index)


@pytest.mark.parametrize("suffix", [".tar", ".idx"])
@pytest.mark.parametrize(("kind", "said"), [("folder", "a folder"), ("pipe", "a pipe"), ("device", "a device")])
def test_what_is_no_file(member: Path, suffix: str, kind: str, said: str) -> None:
    path = member.parent.with_suffix(suffix)
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(OSError, match=said) as error:
        read_image_bytes(member)
    assert error.value.filename == str(path)
