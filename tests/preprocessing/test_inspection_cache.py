"""The cache avoids opening files, and is never wrong whatever happens to it or to the files."""

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
from detector.preprocessing.findings import FindingKind
from detector.preprocessing.inspection import ImageInfo, inspect_image
from detector.preprocessing.inspection_cache import (
    VERSION,
    convert_cached,
    inspect_images,
    load_cache,
    make_file_key,
    update_cache,
)

INFO = ImageInfo("00", 8, 6, b"\0\xff", FindingKind.IMAGE_CONVERTED, "mode L")


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "inspections.sqlite"


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Three images of equal size in bytes, a broken one, and one that does not exist."""
    found = [tmp_path / f"{number}.bmp" for number in range(5)]
    for number, path in enumerate(found[:3]):
        Image.new("RGB", (8, 6), (number, 0, 0)).save(path)
    found[3].write_text("no image")
    return found


def count_opened(paths: list[Path], database: Path) -> int:
    """Check the results of an inspection; returns how many files it opened."""
    infos, count = inspect_images(paths, database)
    assert infos == [inspect_image(path) for path in paths]
    return count


def test_no_files(database: Path) -> None:
    assert inspect_images([], database) == ([], 0)


def test_the_second_run_opens_only_missing_files(
    paths: list[Path], database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert count_opened(paths, database) == 5
    seen: list[Path] = []

    def record(path: Path) -> ImageInfo:
        seen.append(path)
        return inspect_image(path)

    monkeypatch.setattr(module, "inspect_image", record)
    assert count_opened(paths, database) == 1
    assert seen == [paths[4]]


def test_an_unreadable_file_is_tried_again(paths: list[Path], database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(self: Path) -> bytes:
        raise OSError(24, "too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", busy)
        info = inspect_images(paths[:3], database)[0][0]
        assert (info.finding, info.details) == (FindingKind.UNREADABLE_FILE, "too many open files")
    assert count_opened(paths[:3], database) == 3


def test_only_new_files_are_opened(paths: list[Path], database: Path) -> None:
    assert count_opened(paths[:2], database) == 2
    assert count_opened(paths, database) == 3
    assert count_opened(paths[::-1], database) == 1


def test_a_file_listed_twice(paths: list[Path], database: Path) -> None:
    count_opened([paths[0], paths[0]], database)
    assert count_opened([paths[0], paths[0]], database) == 0


def test_a_changed_file_is_opened_again(paths: list[Path], database: Path) -> None:
    count_opened(paths, database)
    Image.new("RGB", (9, 6)).save(paths[1])
    assert count_opened(paths[:4], database) == 1
    assert count_opened(paths[:4], database) == 0


def test_a_file_changed_with_the_same_size_and_date_is_opened_again(paths: list[Path], database: Path) -> None:
    """Tools that edit EXIF in place, `cp -p` and archives restore the old date."""
    count_opened(paths, database)
    before = paths[0].stat()
    time.sleep(0.02)  # the clock of the file system has a resolution of a few milliseconds
    Image.new("RGB", (8, 6), (7, 7, 7)).save(paths[0])
    os.utime(paths[0], ns=(before.st_atime_ns, before.st_mtime_ns))
    after = paths[0].stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert count_opened(paths[:4], database) == 1


def test_two_swapped_files_are_opened_again(paths: list[Path], database: Path) -> None:
    times = (10**18, 10**18)
    for path in paths[:2]:
        os.utime(path, ns=times)
    count_opened(paths, database)
    time.sleep(0.02)
    paths[0].rename(paths[0].with_suffix(".old"))
    paths[1].rename(paths[0])
    paths[0].with_suffix(".old").rename(paths[1])
    count_opened(paths[:4], database)


def test_added_and_deleted_files(paths: list[Path], database: Path) -> None:
    count_opened(paths, database)
    Image.new("RGB", (8, 6)).save(paths[4])
    paths[0].unlink()
    count_opened(paths, database)


def test_a_link_has_a_key_and_a_missing_file_has_none(paths: list[Path], tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(paths[0])
    link_key, key = make_file_key(tmp_path / "link"), make_file_key(paths[0])
    assert link_key is not None
    assert key is not None
    assert link_key[1:] == key[1:]
    assert make_file_key(paths[4]) is None
    assert make_file_key(tmp_path / ("x" * 1000)) is None


def test_round_trip(database: Path) -> None:
    assert load_cache(database) == {}
    update_cache(database, [(("räder/1.jpg", 1, 2, 3), INFO)])
    update_cache(database, [(("2.jpg", 1, 2, 3), INFO), (("räder/1.jpg", 9, 9, 9), INFO)])
    assert load_cache(database) == {("räder/1.jpg", 9, 9, 9): INFO, ("2.jpg", 1, 2, 3): INFO}


def test_another_version_is_ignored(paths: list[Path], database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count_opened(paths, database)
    monkeypatch.setattr(module, "VERSION", f"{VERSION}-next")
    assert count_opened(paths, database) == 5
    assert count_opened(paths, database) == 1


def damage(database: Path, how: str) -> None:
    data = bytearray(database.read_bytes())
    if how == "empty":
        data.clear()
    elif how == "text":
        data[:] = b"not a database" * 100
    elif how == "truncated":
        del data[len(data) // 2 :]
    elif how == "zeros":
        data[100:] = bytes(len(data) - 100)
    elif how == "folder":
        database.unlink()
        database.mkdir()
        return
    elif how == "other columns":
        database.unlink()
        with sqlite3.connect(database) as connection:
            connection.execute(f'CREATE TABLE "{VERSION}" (path TEXT)')
        connection.close()
        return
    database.write_bytes(data)


@pytest.mark.parametrize("how", ["empty", "text", "truncated", "zeros", "folder", "other columns"])
def test_a_broken_database_only_costs_time(paths: list[Path], database: Path, how: str) -> None:
    inspect_images([paths[0].with_name(f"{number}.jpg") for number in range(300)] + paths, database)
    update_cache(database, [((f"{number}.jpg", 1, 2, 3), INFO) for number in range(300)])
    damage(database, how)
    assert count_opened(paths, database) == 5
    assert count_opened(paths, database) == (5 if how == "folder" else 1)


def test_a_database_that_cannot_be_written_only_costs_time(paths: list[Path], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert count_opened(paths, tmp_path / "file" / "inspections.sqlite") == 5


def test_an_interrupted_run_keeps_its_results(
    paths: list[Path], database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(path: Path) -> ImageInfo:
        if path == paths[2]:
            raise KeyboardInterrupt
        return inspect_image(path)

    monkeypatch.setattr(module, "inspect_image", interrupted)
    with pytest.raises(KeyboardInterrupt):
        inspect_images(paths, database)
    monkeypatch.undo()
    assert count_opened(paths[:2], database) == 0


def test_threads_share_a_database(paths: list[Path], database: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        counts = list(pool.map(lambda _: count_opened(paths, database), range(8)))
    assert max(counts) <= 5
    assert count_opened(paths, database) == 1


def test_processes_share_a_database(paths: list[Path], database: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from detector.preprocessing.inspection_cache import inspect_images\n"
        "*paths, database = map(Path, sys.argv[1:])\n"
        "for _ in range(5):\n"
        "    print(inspect_images(paths, database)[0] == inspect_images(paths[::-1], database)[0][::-1])\n"
    )
    command = [sys.executable, "-c", code, *map(str, [*paths, database])]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=60)[0].split() for process in running] == [["True"] * 5] * 2
    assert count_opened(paths, database) == 1


@pytest.fixture
def gray(tmp_path: Path) -> Path:
    path = tmp_path / "gray.jpg"
    Image.new("L", (8, 6), 99).save(path)
    return path


def test_an_image_is_converted_once(gray: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = convert_cached(gray, "abc", tmp_path / "clean" / "1", tmp_path / "cache")
    assert first == tmp_path / "clean" / "1.jpg"
    monkeypatch.setattr(module, "write_converted", None)
    second = convert_cached(gray, "abc", tmp_path / "other" / "2", tmp_path / "cache")
    assert second == tmp_path / "other" / "2.jpg"
    assert first.read_bytes() == second.read_bytes()
    assert inspect_image(first).finding is None


def test_other_content_and_other_versions_are_converted_again(
    gray: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert_cached(gray, "abc", tmp_path / "1", tmp_path / "cache")
    white = tmp_path / "white.png"
    Image.new("L", (8, 6), 255).save(white)
    assert convert_cached(white, "def", tmp_path / "2", tmp_path / "cache") == tmp_path / "2.png"
    monkeypatch.setattr(module, "VERSION", f"{VERSION}-next")
    assert convert_cached(white, "abc", tmp_path / "3", tmp_path / "cache") == tmp_path / "3.png"


def test_a_conversion_that_cannot_be_cached(gray: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for _ in range(2):
        assert inspect_image(convert_cached(gray, "abc", tmp_path / "1", tmp_path / "file" / "cache")).width == 8


def test_an_interrupted_conversion_is_not_cached(gray: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(source: Path, target: Path) -> Path:
        target.with_suffix(".jpg").write_bytes(source.read_bytes()[:50])
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "write_converted", half)
    with pytest.raises(KeyboardInterrupt):
        convert_cached(gray, "abc", tmp_path / "1", tmp_path / "cache")
    monkeypatch.undo()
    assert inspect_image(convert_cached(gray, "abc", tmp_path / "1", tmp_path / "cache")).finding is None
    kept = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert [inspect_image(path).finding for path in kept] == [None]
