"""Files of others: their kind and size are checked before they are opened."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from detector.core.errors import UserError
from detector.core.input_files import read_text


def test_text_keeps_its_line_ends(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes("ä\r\nb\u2028\n".encode())
    assert read_text(tmp_path / "a", 100) == "ä\r\nb\u2028\n"


def test_special_files_are_refused_without_being_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    os.mkfifo("pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
    Path("folder").mkdir()
    Path("zero").symlink_to("/dev/zero")
    for name, kind in (("pipe", "a pipe"), ("socket", "a socket"), ("folder", "a folder"), ("zero", "a device")):
        with pytest.raises(UserError, match=f"{name} is {kind}, expected a file"):
            read_text(Path(name), 100)


def test_size_and_encoding_are_checked(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a\xff")
    with pytest.raises(UserError, match="a is not UTF-8 text"):
        read_text(tmp_path / "a", 100)
    os.truncate(tmp_path / "a", 3 << 30)  # a sparse file
    with pytest.raises(UserError, match="a has 3,072 MB, expected at most 1"):
        read_text(tmp_path / "a", 1 << 20)
    with pytest.raises(FileNotFoundError):
        read_text(tmp_path / "b", 100)
