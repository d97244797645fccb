"""Files are replaced as a whole or not at all."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from detector.core.output_files import make_empty_folder, remove_unfinished, replace_file, write_bytes, write_text


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_a_linked_file_is_replaced_and_its_original_kept(tmp_path: Path, link: object) -> None:
    original, path = tmp_path / "original", tmp_path / "a.txt"
    original.write_text("old")
    link(original, path)  # type: ignore[operator]
    write_text(path, "new")
    assert (path.read_text(), original.read_text(), path.is_symlink()) == ("new", "old", False)


def test_an_error_while_writing_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(FileNotFoundError, match=r"missing"), replace_file(path) as new:
        new.write_text(Path("missing").read_text())
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_keeps_the_old_file_and_names_it(tmp_path: Path) -> None:
    path = tmp_path / "folder/a.bin"
    write_bytes(path, b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match="too large") as raised:
            write_bytes(path, bytes(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert raised.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


def test_what_a_killed_process_left_is_removed_and_what_a_running_one_writes_is_not(tmp_path: Path) -> None:
    code = "import os, sys; from pathlib import Path; from detector.core.output_files import replace_file\n"
    code += "with replace_file(Path(sys.argv[1])) as new: new.write_text('half'); os._exit(9)"
    path = tmp_path / "plots/a.tar.gz"
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == 9
    assert not path.exists()
    (left,) = path.parent.iterdir()
    with replace_file(tmp_path / "plots/b.json") as new:
        new.write_text("half")
        remove_unfinished(tmp_path)
        assert not left.exists()
        assert new.exists()
    other = tmp_path / ".mine.part"
    other.touch()
    remove_unfinished(tmp_path)
    assert other.exists()


def test_a_folder_is_emptied_and_a_link_to_one_replaced(tmp_path: Path) -> None:
    target = tmp_path / "target"
    for folder in (tmp_path / "new", target):
        make_empty_folder(folder)
        (folder / "old").touch()
    make_empty_folder(tmp_path / "new")
    (tmp_path / "link").symlink_to(target)
    make_empty_folder(tmp_path / "link")
    assert not any((tmp_path / "new").iterdir())
    assert not any((tmp_path / "link").iterdir())
    assert [path.name for path in target.iterdir()] == ["old"]
    assert not (tmp_path / "link").is_symlink()


def test_a_device_is_written_to_and_stays() -> None:
    write_text(Path(os.devnull), "gone")
    assert Path(os.devnull).is_char_device()


def test_a_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_text(pipe, "through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    assert pipe.is_fifo()
