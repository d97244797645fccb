"""The memory saves opening files, and nothing that happens to it or to the files makes it lie."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from detector.preprocessing import inspection_cache as module
from detector.preprocessing.inspection import ImageFacts, inspect
from detector.preprocessing.inspection_cache import VERSION, convert, file_key, inspect_all, recall, remember

FACTS = ImageFacts("00", 8, 6, b"\0\xff", "mode L", "")


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "memory.sqlite"


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Three images of the same number of bytes, a broken one, and one that does not exist."""
    found = [tmp_path / f"{number}.bmp" for number in range(5)]
    for number, path in enumerate(found[:3]):
        Image.new("RGB", (8, 6), (number, 0, 0)).save(path)
    found[3].write_text("no image")
    return found


def opened(paths: list[Path], memory: Path) -> int:
    """Call twice what must be right: the facts. Return how many files the memory did not know."""
    facts, count = inspect_all(paths, memory)
    assert facts == [inspect(path) for path in paths]
    return count


def test_no_files(memory: Path) -> None:
    assert inspect_all([], memory) == ([], 0)


def test_the_second_call_opens_only_what_is_missing(
    paths: list[Path], memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert opened(paths, memory) == 5
    seen: list[Path] = []
    monkeypatch.setattr(module, "inspect", lambda path: seen.append(path) or inspect(path))
    assert opened(paths, memory) == 1
    assert seen == [paths[4]]


def test_what_could_not_be_read_is_tried_again(
    paths: list[Path], memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(self: Path) -> bytes:
        raise OSError(24, "too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", busy)
        assert inspect_all(paths[:3], memory)[0][0].error == "unreadable file (too many open files)"
    assert opened(paths[:3], memory) == 3


def test_a_new_file_alone_is_opened(paths: list[Path], memory: Path) -> None:
    assert opened(paths[:2], memory) == 2
    assert opened(paths, memory) == 3
    assert opened(paths[::-1], memory) == 1


def test_a_file_listed_twice(paths: list[Path], memory: Path) -> None:
    opened([paths[0], paths[0]], memory)
    assert opened([paths[0], paths[0]], memory) == 0


def test_a_changed_file_is_opened_again(paths: list[Path], memory: Path) -> None:
    opened(paths, memory)
    Image.new("RGB", (9, 6)).save(paths[1])
    assert opened(paths[:4], memory) == 1
    assert opened(paths[:4], memory) == 0


def test_a_file_changed_behind_its_size_and_date_is_opened_again(paths: list[Path], memory: Path) -> None:
    """As by tools that edit EXIF in place, or `cp -p` and archives, which put the old date back."""
    opened(paths, memory)
    before = paths[0].stat()
    time.sleep(0.02)  # the clock of the file system ticks every few milliseconds
    Image.new("RGB", (8, 6), (7, 7, 7)).save(paths[0])
    os.utime(paths[0], ns=(before.st_atime_ns, before.st_mtime_ns))
    after = paths[0].stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert opened(paths[:4], memory) == 1


def test_two_files_that_change_places_are_opened_again(paths: list[Path], memory: Path) -> None:
    times = (10**18, 10**18)
    for path in paths[:2]:
        os.utime(path, ns=times)
    opened(paths, memory)
    time.sleep(0.02)
    paths[0].rename(paths[0].with_suffix(".old"))
    paths[1].rename(paths[0])
    paths[0].with_suffix(".old").rename(paths[1])
    opened(paths[:4], memory)


def test_a_file_that_comes_and_goes(paths: list[Path], memory: Path) -> None:
    opened(paths, memory)
    Image.new("RGB", (8, 6)).save(paths[4])
    paths[0].unlink()
    opened(paths, memory)


def test_a_folder_and_a_link_have_keys_and_nothing_has_none(paths: list[Path], tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(paths[0])
    assert file_key(tmp_path / "link")[1:] == file_key(paths[0])[1:]
    assert file_key(paths[4]) is None
    assert file_key(tmp_path / ("x" * 1000)) is None


def test_round_trip(memory: Path) -> None:
    assert recall(memory) == {}
    remember(memory, [(("räder/1.jpg", 1, 2, 3), FACTS)])
    remember(memory, [(("2.jpg", 1, 2, 3), FACTS), (("räder/1.jpg", 9, 9, 9), FACTS)])
    assert recall(memory) == {("räder/1.jpg", 9, 9, 9): FACTS, ("2.jpg", 1, 2, 3): FACTS}


def test_another_version_is_ignored(paths: list[Path], memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(paths, memory)
    monkeypatch.setattr(module, "VERSION", f"{VERSION}-next")
    assert opened(paths, memory) == 5
    assert opened(paths, memory) == 1


def spoil(memory: Path, how: str) -> None:
    data = bytearray(memory.read_bytes())
    if how == "empty":
        data.clear()
    elif how == "text":
        data[:] = b"this is no database" * 100
    elif how == "half":
        del data[len(data) // 2 :]
    elif how == "zeros":
        data[100:] = bytes(len(data) - 100)
    elif how == "folder":
        memory.unlink()
        memory.mkdir()
        return
    elif how == "other columns":
        memory.unlink()
        with sqlite3.connect(memory) as connection:
            connection.execute(f'CREATE TABLE "{VERSION}" (path TEXT)')
        connection.close()
        return
    memory.write_bytes(data)


@pytest.mark.parametrize("how", ["empty", "text", "half", "zeros", "folder", "other columns"])
def test_a_broken_memory_only_costs_time(paths: list[Path], memory: Path, how: str) -> None:
    inspect_all([paths[0].with_name(f"{number}.jpg") for number in range(300)] + paths, memory)
    remember(memory, [((f"{number}.jpg", 1, 2, 3), FACTS) for number in range(300)])
    spoil(memory, how)
    assert opened(paths, memory) == 5
    assert opened(paths, memory) == (5 if how == "folder" else 1)


def test_a_place_that_cannot_be_written_only_costs_time(paths: list[Path], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert opened(paths, tmp_path / "file" / "memory.sqlite") == 5


def test_an_interrupted_run_keeps_what_it_found(
    paths: list[Path], memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(path: Path) -> ImageFacts:
        if path == paths[2]:
            raise KeyboardInterrupt
        return inspect(path)

    monkeypatch.setattr(module, "inspect", interrupted)
    with pytest.raises(KeyboardInterrupt):
        inspect_all(paths, memory)
    monkeypatch.undo()
    assert opened(paths[:2], memory) == 0


def test_threads_share_a_memory(paths: list[Path], memory: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        counts = list(pool.map(lambda _: opened(paths, memory), range(8)))
    assert max(counts) <= 5
    assert opened(paths, memory) == 1


def test_processes_share_a_memory(paths: list[Path], memory: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from detector.preprocessing.inspection_cache import inspect_all\n"
        "*paths, memory = map(Path, sys.argv[1:])\n"
        "for _ in range(5): print(inspect_all(paths, memory)[0] == inspect_all(paths[::-1], memory)[0][::-1])\n"
    )
    command = [sys.executable, "-c", code, *map(str, [*paths, memory])]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=60)[0].split() for process in running] == [["True"] * 5] * 2
    assert opened(paths, memory) == 1


@pytest.fixture
def grey(tmp_path: Path) -> Path:
    path = tmp_path / "grey.jpg"
    Image.new("L", (8, 6), 99).save(path)
    return path


def test_a_conversion_is_done_once(grey: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = convert(grey, "abc", tmp_path / "clean" / "1", tmp_path / "memory")
    assert first == tmp_path / "clean" / "1.jpg"
    monkeypatch.setattr(module, "write_changed", None)
    second = convert(grey, "abc", tmp_path / "other" / "2", tmp_path / "memory")
    assert second == tmp_path / "other" / "2.jpg"
    assert first.read_bytes() == second.read_bytes()
    assert inspect(first).change == ""


def test_a_conversion_of_other_content_or_version_is_done_anew(
    grey: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert(grey, "abc", tmp_path / "1", tmp_path / "memory")
    white = tmp_path / "white.png"
    Image.new("L", (8, 6), 255).save(white)
    assert convert(white, "def", tmp_path / "2", tmp_path / "memory") == tmp_path / "2.png"
    monkeypatch.setattr(module, "VERSION", f"{VERSION}-next")
    assert convert(white, "abc", tmp_path / "3", tmp_path / "memory") == tmp_path / "3.png"


def test_a_conversion_that_cannot_be_remembered_is_done_all_the_same(grey: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for _ in range(2):
        assert inspect(convert(grey, "abc", tmp_path / "1", tmp_path / "file" / "memory")).width == 8


def test_an_interrupted_conversion_is_not_remembered(
    grey: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(source: Path, target: Path) -> Path:
        target.with_suffix(".jpg").write_bytes(source.read_bytes()[:50])
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "write_changed", half)
    with pytest.raises(KeyboardInterrupt):
        convert(grey, "abc", tmp_path / "1", tmp_path / "memory")
    monkeypatch.undo()
    assert inspect(convert(grey, "abc", tmp_path / "1", tmp_path / "memory")).error == ""
    kept = [path for path in (tmp_path / "memory").rglob("*") if path.is_file()]
    assert [inspect(path).error for path in kept] == [""]
