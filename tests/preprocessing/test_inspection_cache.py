"""The cache avoids opening files, and is never wrong whatever happens to it or to the files."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from detector.preprocessing import inspection_cache as module
from detector.preprocessing.findings import FindingKind
from detector.preprocessing.inspection import ImageInfo, inspect_image
from detector.preprocessing.inspection_cache import (
    VERSION,
    inspect_images,
    load_cache,
    make_file_key,
    update_cache,
)
from tests.support.damaged_images import damage as damaged

EMPTY = hashlib.sha256(b"").hexdigest()
INFO = ImageInfo("00", 8, 6, b"\0\xff", FindingKind.IMAGE_CONVERTED, "mode L")


@pytest.fixture(autouse=True)
def remember_new_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of these tests have only just been written."""
    monkeypatch.setattr(module, "CLOCK_STEP", 0.0)


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
    def busy(path: Path) -> bytes:
        raise OSError(24, "too many open files")

    with monkeypatch.context() as patch:
        patch.setattr("detector.core.images.read_image_bytes", busy)
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


def test_a_file_that_has_only_just_changed_is_not_remembered(
    paths: list[Path], database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another change within the same step of the file system's clock would not show."""
    monkeypatch.setattr(module, "CLOCK_STEP", 60.0)
    assert count_opened(paths[:3], database) == 3
    assert count_opened(paths[:3], database) == 3
    monkeypatch.setattr(module, "CLOCK_STEP", 0.0)
    assert count_opened(paths[:3], database) == 3
    assert count_opened(paths[:3], database) == 0


def test_a_file_replaced_by_another_with_all_its_times_is_opened_again(
    paths: list[Path], database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As seen on a file system that does not keep change times."""

    def stat(path: Path) -> SimpleNamespace:
        status = path.stat()
        times = {"st_mtime_ns": 1, "st_ctime_ns": 1, "st_ctime": 1e-9}
        return SimpleNamespace(st_size=status.st_size, st_ino=status.st_ino, **times)

    monkeypatch.setattr(module, "stat_image", stat)
    count_opened(paths, database)
    Image.new("RGB", (8, 6), (7, 7, 7)).save(paths[4])
    paths[4].replace(paths[0])
    assert count_opened(paths[:4], database) == 1


def test_names_that_sqlite_cannot_keep_are_opened_each_time(tmp_path: Path, database: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff.bmp")
    Image.new("RGB", (8, 6)).save(path)
    assert count_opened([path, tmp_path / "a\0b.bmp"], database) == 2
    assert count_opened([path, tmp_path / "a\0b.bmp"], database) == 2


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
    update_cache(database, [(("räder/1.jpg", 1, 2, 3, 4), INFO)])
    update_cache(database, [(("2.jpg", 1, 2, 3, 4), INFO), (("räder/1.jpg", 9, 9, 9, 9), INFO)])
    assert load_cache(database) == {("räder/1.jpg", 9, 9, 9, 9): INFO, ("2.jpg", 1, 2, 3, 4): INFO}


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
    update_cache(database, [((f"{number}.jpg", 1, 2, 3, 4), INFO) for number in range(300)])
    damage(database, how)
    assert count_opened(paths, database) == 5
    assert count_opened(paths, database) == (5 if how == "folder" else 1)


def check_damaged_databases(folder: Path, seed: int, times: int) -> int:
    """Damage a database again and again; returns how often it was no longer used."""
    paths = [folder / f"{number}.bmp" for number in range(40)]
    for number, path in enumerate(paths):
        Image.new("RGB", (8, 6), (number, 0, 0)).save(path)
    expected = [inspect_image(path) for path in paths]
    inspect_images(paths, folder / "whole.sqlite")
    whole = (folder / "whole.sqlite").read_bytes()
    random, lost = np.random.default_rng(seed), 0
    for _ in range(times):
        database = folder / "damaged.sqlite"
        database.write_bytes(damaged(whole, random))
        found, opened = inspect_images(paths, database)
        assert found == expected
        assert inspect_images(paths, database)[0] == expected
        lost += opened > 0
    return lost


def test_random_damage_to_the_database_only_costs_time(tmp_path: Path) -> None:
    assert check_damaged_databases(tmp_path, 1, 30) >= 10


@pytest.mark.long
def test_much_random_damage_to_the_database_only_costs_time(tmp_path: Path) -> None:
    assert check_damaged_databases(tmp_path, 2, 600) >= 200


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

    with monkeypatch.context() as patch:
        patch.setattr(module, "inspect_image", interrupted)
        with pytest.raises(KeyboardInterrupt):
            inspect_images(paths, database)
    assert count_opened(paths[:2], database) == 0


def test_threads_share_a_database(paths: list[Path], database: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        counts = list(pool.map(lambda _: count_opened(paths, database), range(8)))
    assert max(counts) <= 5
    assert count_opened(paths, database) == 1


def test_processes_share_a_database(paths: list[Path], database: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from detector.preprocessing import inspection_cache\n"
        "inspection_cache.CLOCK_STEP, inspect_images = 0.0, inspection_cache.inspect_images\n"
        "*paths, database = map(Path, sys.argv[1:])\n"
        "for _ in range(5):\n"
        "    print(inspect_images(paths, database)[0] == inspect_images(paths[::-1], database)[0][::-1])\n"
    )
    command = [sys.executable, "-c", code, *map(str, [*paths, database])]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=60)[0].split() for process in running] == [["True"] * 5] * 2
    assert count_opened(paths, database) == 1
