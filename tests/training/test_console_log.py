"""The copy of the console in a log file."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from tqdm import tqdm

from detector.core.errors import UserError
from detector.training import console_log
from detector.training.console_log import keep_console_log

TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ")


def read(path: Path) -> list[str]:
    """The lines without their time and without those that say that a process starts."""
    lines = path.read_text().splitlines()
    assert all(TIME.match(line) for line in lines), lines
    return [line[20:] for line in lines if "--- process" not in line]


def test_both_streams_are_copied_and_still_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "logs/train.log"
    with keep_console_log(path):
        print("one %d\n\ntwo")
        assert read(path) == ["one %d", "two"]  # at once
        print("a warning", file=sys.stderr)
        sys.stdout.write("in ")
        sys.stdout.write("parts\nwithout an end")
    print("not this")
    assert read(path) == ["one %d", "two", "a warning", "in parts"]
    printed = capsys.readouterr()
    assert printed.out == "one %d\n\ntwo\nin parts\nwithout an endnot this\n"
    assert printed.err == "a warning\n"


def test_progress_bars_are_left_out(tmp_path: Path) -> None:
    with keep_console_log(tmp_path / "log"):
        for _ in tqdm(range(3), leave=False, mininterval=0):
            pass
        print("the end", file=sys.stderr)
        sys.stderr.write("half\rwhole\r\n")
    assert read(tmp_path / "log") == ["the end", "whole"]


def test_each_start_is_appended(tmp_path: Path) -> None:
    for number in (1, 2):
        with keep_console_log(tmp_path / "log"):
            print(number)
    assert read(tmp_path / "log") == ["1", "2"]
    assert (tmp_path / "log").read_text().count("--- process") == 2


def test_the_error_that_ends_a_training_is_in_the_log(tmp_path: Path) -> None:
    with pytest.raises(UserError), keep_console_log(tmp_path / "log"):
        raise UserError("no data\nadd some")
    with pytest.raises(ZeroDivisionError), keep_console_log(tmp_path / "log"):
        _ = 1 / 0
    lines = read(tmp_path / "log")
    assert lines[:3] == ["error: no data", "add some", "Traceback (most recent call last):"]
    assert lines[-1] == "ZeroDivisionError: division by zero"


def test_an_error_that_names_a_file_whose_name_is_not_utf_8(tmp_path: Path) -> None:
    with pytest.raises(UserError), keep_console_log(tmp_path / "log"):
        raise UserError("ü\udcff.jpg: no such file")
    assert read(tmp_path / "log") == ["error: ü\\udcff.jpg: no such file"]


def test_a_large_log_starts_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console_log, "MAX_BYTES", 1000)
    with keep_console_log(tmp_path / "log"):
        for number in range(100):
            print(f"line {number}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "log.1"]
    assert all(path.stat().st_size <= 1000 for path in tmp_path.iterdir())
    assert read(tmp_path / "log")[-1] == "line 99"


def test_a_log_that_cannot_be_written_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    with keep_console_log(tmp_path / "file/log"):
        print("printed")
    with keep_console_log(Path("/dev/full")):
        print("printed too")
        print("and this")
    printed = capsys.readouterr()
    assert printed.out == "printed\nprinted too\nand this\n"
    assert printed.err.count("warning:") == 2
    assert "file/log cannot be written (" in printed.err
    assert "/dev/full cannot be written (No space left on device)" in printed.err
