"""Mutated datasets of every format: each is read or refused with a message, and nothing gets lost in silence.

A failure names its format and seed. To run one again, and to look at its dataset:

    PYTHONPATH=.:stages python -c "from tests.fuzz.workers import reproduce; reproduce('yolo', 52, 'folder')"
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

import preprocess
from detector.preprocessing.findings import FindingLog
from tests.fuzz import cases, workers
from tests.fuzz.cases import Case
from tests.fuzz.datasets import FORMATS, build_dataset
from tests.fuzz.workers import describe, run_cases

QUICK = 40  # cases of each format
LONG = 2_000
PROCESSES = 2
OUTCOMES = ("user error", "accepted", "wrong")


@pytest.fixture(scope="module")
def quick() -> list[Case]:
    return list(run_cases([(format_, seed) for seed in range(QUICK) for format_ in FORMATS], PROCESSES))


@pytest.mark.parametrize("format_", FORMATS)
def test_no_wrong_answer(quick: list[Case], format_: str) -> None:
    check([case for case in quick if case.format == format_], QUICK)


@pytest.mark.long
@pytest.mark.parametrize("format_", FORMATS)
def test_no_wrong_answer_in_many(format_: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = list(run_cases([(format_, seed) for seed in range(LONG)], PROCESSES))
    with capsys.disabled():
        print(f"\n{format_:8}" + count(found))
    check(found, LONG)


def count(found: Iterable[Case]) -> str:
    """The number of cases by outcome, in one line."""
    outcomes = Counter(case.outcome for case in found)
    return f"{outcomes.total():6,} tried" + "".join(f", {outcomes[outcome]:5,} {outcome}" for outcome in OUTCOMES)


def check(found: list[Case], wanted: int) -> None:
    wrong = [describe(case) for case in sorted(found, key=lambda case: case.seed) if case.outcome == "wrong"]
    assert not wrong, "\n\n".join([count(found), *wrong[:20]])
    outcomes = Counter(case.outcome for case in found)
    assert outcomes.total() == wanted
    assert min(outcomes["accepted"], outcomes["user error"]) > wanted / 20, "the mutations are too mild or too harsh"


@pytest.mark.parametrize("format_", FORMATS)
def test_a_seed_gives_the_same_dataset_again(format_: str) -> None:
    for seed in range(20):
        first, second = (cases.make_dataset(format_, seed)[0] for _ in range(2))
        assert first.files == second.files
        assert first.story == second.story


@pytest.mark.parametrize("format_", FORMATS)
def test_mutations_change_the_dataset(format_: str) -> None:
    unchanged = build_dataset(format_, 0)
    unchanged.serialize()
    made = [cases.make_dataset(format_, seed)[0] for seed in range(0, 80, 4)]
    changed = [dataset for dataset in made if dataset.files != unchanged.files or dataset.specials]
    assert len(changed) > 0.8 * len(made)


def find_wrong(folder: Path, format_: str, seeds: Iterable[int]) -> Case | None:
    """The first wrong case, run in this process."""
    for seed in seeds:
        case = cases.run_case(format_, seed, folder / str(seed), lambda _: contextlib.nullcontext([]))
        if case.outcome == "wrong":
            return case
    return None


@pytest.fixture
def _in_this_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for module, name in ((preprocess, "FindingLog"), (preprocess, "draw_samples"), (cases.split, "read_committed")):
        monkeypatch.setattr(module, name, getattr(module, name))  # restored at the end
    monkeypatch.chdir(tmp_path)
    cases.prepare_process()


@pytest.mark.usefixtures("_in_this_process")
@pytest.mark.parametrize("lost", ["drop_box", "drop_image"])
def test_what_is_dropped_without_a_count_is_found(lost: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FindingLog, lost, lambda *_: None)
    case = find_wrong(tmp_path, "coco", range(100, 160))
    assert case is not None
    assert "counted" in case.details or "kept" in case.details


@pytest.mark.usefixtures("_in_this_process")
def test_a_traceback_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(FindingLog, "drop_box", fail)
    case = find_wrong(tmp_path, "jsonl", range(100, 160))
    assert case is not None
    assert "ZeroDivisionError" in case.details


def test_a_case_that_hangs_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "SECONDS", -60.0)
    monkeypatch.setattr(workers, "wait", lambda *_, **__: None)  # the process has not even started
    (case,) = run_cases([("jsonl", 0)], 1)
    assert case.outcome == "wrong"
    assert "not finished" in case.details


def test_what_is_written_outside_or_started_is_found(tmp_path: Path) -> None:
    inside, dataset, outside = tmp_path / "a/data/clean", tmp_path / "a/data/raw/set", tmp_path / "b"
    for folder in (inside, dataset, outside):
        folder.mkdir(parents=True)
    (inside / "link").symlink_to(outside / "linked")
    with workers.Guard()(tmp_path / "a") as violations:
        (inside / "x").write_text("")
        assert violations == []
        for path in (inside / "link", dataset / "x", outside / "x", tmp_path / "a/../c"):
            path.write_text("")
        (outside / "x").unlink()
        (inside / "x").rename(outside / "y")
    assert len(violations) == 6
