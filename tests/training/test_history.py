"""The training log."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from detector.core.errors import UserError
from detector.training.history import MAX_POINTS, History
from detector.training.loop import Step


def steps(first: int, count: int) -> list[Step]:
    return [Step(i, 0.01, {"batch_loss": 2.0 - i / 1e5, "loss_ciou": 1.0}) for i in range(first, first + count)]


def write(folder: Path, epochs: int, iterations: int) -> None:
    history = History(folder)
    for epoch in range(epochs):
        for step in steps(epoch * iterations, iterations):
            history.log_step(step)
        history.log_epoch(epoch + 1, {"loss": 1.5, "AP": 0.1 * epoch, "AP50": 0.2 * epoch})
    history.close({"best/epoch": epochs})


@pytest.fixture(autouse=True)
def outside_any_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))


def test_epochs_are_logged_once_under_the_expected_names(tmp_path: Path) -> None:
    write(tmp_path / "log", 3, 10)
    plots = tmp_path / "log/plots/metrics"
    for name in ("batch_loss", "loss_ciou", "learning_rate", "epoch", "epoch_avg_loss"):
        assert len((plots / f"train/{name}.tsv").read_text().splitlines()) == 4
    for name in ("loss", "AP", "AP50"):
        assert (plots / f"val/{name}.tsv").read_text().startswith(f"step\t{name}\n")
    metrics = json.loads((tmp_path / "log/metrics.json").read_text())
    assert metrics["best/epoch"] == 3
    assert metrics["val"]["AP"] == pytest.approx(0.2)


def test_the_number_of_iteration_points_is_limited(tmp_path: Path) -> None:
    write(tmp_path / "log", 2, 4 * MAX_POINTS)
    points = json.loads((tmp_path / "log/iterations.json").read_text())
    assert MAX_POINTS / 2 <= len(points) <= MAX_POINTS
    gaps = {b["iteration"] - a["iteration"] for a, b in pairwise(points)}
    assert len(gaps) == 1


def test_the_same_run_writes_the_same_bytes(tmp_path: Path) -> None:
    write(tmp_path / "one", 2, 7)
    write(tmp_path / "two", 2, 7)
    for path in (tmp_path / "one").rglob("*.*"):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()


def test_a_repository_without_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scmrepo.exceptions import SCMError

    def refuse(*_: object, **__: object) -> None:
        raise SCMError("Empty git repo")

    monkeypatch.setattr("detector.training.history.Live", refuse)
    with pytest.raises(UserError, match="git commit"):
        History(tmp_path / "log")
