"""A training reports its epochs to a sweep, and its results do not change."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from detector.training.sweep_report import REPORT_VARIABLE, report_progress
from tests.support.tiny_training import Nursery, digests, make_folder


@pytest.fixture(scope="module")
def reporting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Nursery, Path]]:
    """Runs trainings that report to a sweep, and the file of the reports."""
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp("reports") / "reports.jsonl"
        patch.setenv(REPORT_VARIABLE, str(path))
        with Nursery() as nursery:
            yield nursery, path


@pytest.mark.long
def test_each_epoch_is_reported_and_the_bytes_are_the_same(
    reporting: tuple[Nursery, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nursery, path = reporting
    folder = make_folder(tmp_path / "reporting")
    assert nursery.train(folder).code == 0
    first, *epochs = [json.loads(line) for line in path.read_text().splitlines()]
    (checkpoints,) = first.values()
    assert list(first) == ["checkpoints"]
    assert Path(checkpoints).parent == folder / ".cache/train"
    assert [set(epoch) for epoch in epochs] == [{"epoch", "AP", "AP50", "loss"}] * 3
    assert [epoch["epoch"] for epoch in epochs] == [1, 2, 3]
    logged = json.loads((folder / "metrics/train/metrics.json").read_text())
    assert epochs[-1]["AP"] == pytest.approx(logged["val"]["AP"], abs=1e-5)

    monkeypatch.delenv(REPORT_VARIABLE)
    with Nursery() as alone:
        ended = alone.train(make_folder(tmp_path / "alone"))
    assert (ended.code, "sweep" in ended.output) == (0, False)
    assert digests(tmp_path / "reporting") == digests(tmp_path / "alone")


def test_without_a_sweep_nothing_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(REPORT_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    report_progress({"epoch": 1})
    assert list(tmp_path.iterdir()) == []


def test_a_failed_report_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(REPORT_VARIABLE, str(tmp_path))
    report_progress({"epoch": 1})
    assert "warning: could not report progress to the sweep" in capsys.readouterr().out
