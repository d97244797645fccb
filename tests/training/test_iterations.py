"""The table of iterations."""

from __future__ import annotations

import csv
import os
import signal
from itertools import pairwise
from pathlib import Path

from detector.training.iterations import MAX_ROWS, IterationTable, Row


def row(iteration: int) -> Row:
    return {"iteration": iteration, "epoch": 1, "loss": 2.0 - iteration / 1e5}


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_a_row_is_in_the_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "iterations.tsv"
    table = IterationTable(path)
    assert path.read_text() == ""
    for iteration in range(3):
        table.append(row(iteration))
        assert [line["iteration"] for line in read(path)] == [str(number) for number in range(iteration + 1)]
    assert path.read_text().startswith("iteration\tepoch\tloss\n0\t1\t2.0\n")


def test_a_killed_process_leaves_all_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "iterations.tsv"
    process = os.fork()
    if process == 0:
        table = IterationTable(path)
        for iteration in range(100):
            table.append(row(iteration))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(process, 0)
    assert len(read(path)) == 100


def test_the_number_of_rows_is_limited(tmp_path: Path) -> None:
    table = IterationTable(tmp_path / "iterations.tsv")
    for iteration in range(3 * MAX_ROWS):
        table.append(row(iteration))
    iterations = [int(line["iteration"]) for line in read(tmp_path / "iterations.tsv")]
    assert MAX_ROWS / 2 <= len(iterations) <= MAX_ROWS
    assert iterations[0] == 0
    assert {b - a for a, b in pairwise(iterations)} == {4}


def test_a_table_that_continues_another_has_the_same_bytes(tmp_path: Path) -> None:
    whole, first, second = (IterationTable(tmp_path / name) for name in ("whole", "first", "second"))
    second.append(row(77))  # of a training that is not continued
    for iteration in range(MAX_ROWS + 10):
        whole.append(row(iteration))
        if iteration < MAX_ROWS + 1:
            first.append(row(iteration))
    second.restore(first.rows, first.every)
    for iteration in range(MAX_ROWS + 1, MAX_ROWS + 10):
        second.append(row(iteration))
    assert (tmp_path / "second").read_bytes() == (tmp_path / "whole").read_bytes()


def test_a_file_that_another_place_links_stays(tmp_path: Path) -> None:
    """DVC's cache may hold the file of the last training under another name."""
    (tmp_path / "cached").write_text("old")
    (tmp_path / "iterations.tsv").hardlink_to(tmp_path / "cached")
    table = IterationTable(tmp_path / "iterations.tsv")
    table.append(row(0))
    table.append(row(1))
    assert (tmp_path / "cached").read_text() == "old"
