"""A training tells a sweep of its epochs, and is no other training for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from detector.training.reporting import REPORT, report
from tests.support.tiny_training import Nursery, digests, make_folder


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Nursery, Path]]:
    """Runs trainings that tell a sweep what they do, and the file that they write to."""
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp("told") / "told.jsonl"
        patch.setenv(REPORT, str(path))
        with Nursery() as nursery:
            yield nursery, path


def test_each_epoch_is_told_and_the_bytes_are_the_same(told, tmp_path, monkeypatch):
    nursery, path = told
    folder = make_folder(tmp_path / "told")
    assert nursery.train(folder).code == 0
    first, *epochs = [json.loads(line) for line in path.read_text().splitlines()]
    (checkpoints,) = first.values()
    assert list(first) == ["checkpoints"]
    assert Path(checkpoints).parent == folder / ".cache/train"
    assert [set(epoch) for epoch in epochs] == [{"epoch", "AP", "AP50", "loss"}] * 3
    assert [epoch["epoch"] for epoch in epochs] == [1, 2, 3]
    logged = json.loads((folder / "metrics/train/metrics.json").read_text())
    assert epochs[-1]["AP"] == pytest.approx(logged["val"]["AP"], abs=1e-5)

    monkeypatch.delenv(REPORT)
    with Nursery() as alone:
        ended = alone.train(make_folder(tmp_path / "alone"))
    assert (ended.code, "sweep" in ended.output) == (0, False)
    assert digests(tmp_path / "told") == digests(tmp_path / "alone")


def test_without_a_sweep_nothing_is_told(tmp_path, monkeypatch):
    monkeypatch.delenv(REPORT, raising=False)
    monkeypatch.chdir(tmp_path)
    report({"epoch": 1})
    assert list(tmp_path.iterdir()) == []


def test_a_training_goes_on_when_nothing_can_be_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(REPORT, str(tmp_path))
    report({"epoch": 1})
    assert "warning: the sweep is not told how this training goes" in capsys.readouterr().out
