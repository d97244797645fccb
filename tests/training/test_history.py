"""The training log."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from detector.core.errors import UserError
from detector.training.history import History
from detector.training.loop import Step


def write(folder: Path, epochs: int, iterations: int) -> None:
    """Epoch 1 is the best; within an epoch the loss is 1, 2, ... and the AP of epoch N is N / 3."""
    history = History(folder)
    for epoch in range(1, epochs + 1):
        for index in range(iterations):
            losses = {"loss": 1.0 + index, "loss_ciou": 0.5 * epoch}
            history.log_step(Step((epoch - 1) * iterations + index, 0.01 / (index + 1), losses))
        last = epoch * iterations - 1
        history.log_epoch(last, {"loss": 1.5, "AP": epoch / 3, "AP50": 0.2}, {"epoch": 1, "AP": 1 / 3})
    history.close()


@pytest.fixture(autouse=True)
def outside_any_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))


def test_epochs_have_means_under_the_names_of_the_docs(tmp_path: Path) -> None:
    write(tmp_path / "log", 2, 3)
    plots = tmp_path / "log/plots/metrics"
    found = {str(path.relative_to(plots)): path.read_text() for path in plots.rglob("*.tsv")}
    assert found == {
        "train/loss.tsv": "step\tloss\n1\t2.0\n2\t2.0\n",
        "train/loss_ciou.tsv": "step\tloss_ciou\n1\t0.5\n2\t1.0\n",
        "val/loss.tsv": "step\tloss\n1\t1.5\n2\t1.5\n",
        "val/AP.tsv": "step\tAP\n1\t0.333333\n2\t0.666667\n",
        "val/AP50.tsv": "step\tAP50\n1\t0.2\n2\t0.2\n",
        "lr.tsv": "step\tlr\n1\t0.00333333\n2\t0.00333333\n",
    }


def test_the_metrics_are_few(tmp_path: Path) -> None:
    write(tmp_path / "log", 2, 3)
    assert json.loads((tmp_path / "log/metrics.json").read_text()) == {
        "train": {"loss": 2.0},
        "val": {"loss": 1.5, "AP": 0.666667, "AP50": 0.2},
        "step": 2,
        "best": {"epoch": 1, "AP": 0.333333},
    }


def test_iterations_have_their_own_losses(tmp_path: Path) -> None:
    write(tmp_path / "log", 2, 2)
    assert (tmp_path / "log/iterations.tsv").read_text().splitlines() == [
        "iteration\tepoch\tlr\tloss\tloss_ciou",
        "0\t1\t0.01\t1.0\t0.5",
        "1\t1\t0.005\t2.0\t0.5",
        "2\t2\t0.01\t1.0\t1.0",
        "3\t2\t0.005\t2.0\t1.0",
    ]


def test_the_same_run_writes_the_same_bytes(tmp_path: Path) -> None:
    write(tmp_path / "one", 2, 7)
    write(tmp_path / "two", 2, 7)
    for path in (tmp_path / "one").rglob("*.*"):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()


def test_a_validation_loss_that_is_not_finite_is_logged(tmp_path: Path) -> None:
    history = History(tmp_path / "log")
    history.log_step(Step(0, 0.01, {"loss": 1.0}))
    history.log_epoch(0, {"loss": float("nan"), "AP": 0.1, "AP50": 0.2}, {"epoch": 1, "AP": 0.1})
    history.close()
    assert json.loads((tmp_path / "log/metrics.json").read_text())["val"] == {"loss": "nan", "AP": 0.1, "AP50": 0.2}


def test_a_repository_without_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scmrepo.exceptions import SCMError

    def refuse(*_: object, **__: object) -> None:
        raise SCMError("Empty git repo")

    monkeypatch.setattr("detector.training.history.Live", refuse)
    with pytest.raises(UserError, match="git commit"):
        History(tmp_path / "log")


def test_steps_that_overflow_do_not_count_and_are_not_a_loss_of_zero(tmp_path: Path) -> None:
    history = History(tmp_path / "log")
    history.log_step(Step(0, 0.1, {"loss": math.inf, "loss_ciou": 1.0}))
    assert math.isnan(history.average_losses()["loss"])
    history.log_step(Step(1, 0.1, {"loss": 2.0, "loss_ciou": 1.0}))
    assert history.average_losses() == {"loss": 2.0, "loss_ciou": 1.0}
    history.close()
