"""Whole sweeps in a real DVC repository, with a training of milliseconds."""

from __future__ import annotations

import csv
import json
import shutil
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.support.repository import Repository, stages_run
from tests.support.tiny_sweep import make_repository, start, sweep, write_sweep

PRUNED = {
    "name": "pruned",
    "trials": 4,
    "parameters": {
        "train.optimizer": {"values": ["sgd", "adamw"]},
        "train.momentum": {"low": 0.1, "high": 0.9, "when": {"train.optimizer": "sgd"}},
        "train.lr": {"values": [0.01, 1e-4]},
        "train.pause": {"values": [0.3]},  # an epoch of it is as long as the sweep needs to answer
    },
    "start": [
        {"train.optimizer": optimizer, "train.momentum": 0.5, "train.lr": lr}
        for lr in (0.01, 1e-4)
        for optimizer in ("sgd", "adamw")
    ],
    "pruner": {"name": "median", "startup_trials": 1},
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    """One repository for all tests of this file; each sweep has another name."""
    folder = tmp_path_factory.mktemp("sweep")
    yield make_repository(folder / "repository", folder / "settings")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def pruned(repository: Repository) -> str:
    """What a sweep printed that is over, and of which two trials were pruned."""
    write_sweep(repository, **PRUNED)
    repository.git("commit", "--quiet", "--message", "A sweep", "sweep.yaml")
    return sweep(repository, "run")


def experiments(repository: Repository) -> dict[str, Any]:
    """The parameters of each experiment in `dvc exp show`, by name."""
    head = json.loads(repository.dvc("exp", "show", "--json"))[1]
    revisions = [revision for found in head["experiments"] or [] for revision in found["revs"]]
    return {one["name"]: one["data"]["params"]["params.yaml"]["data"]["train"] for one in revisions}


def logs(repository: Repository, name: str) -> list[str]:
    """What the trials of a sweep printed."""
    return [path.read_text() for path in sorted((repository.root / ".cache/sweep" / name).glob("*.log"))]


def test_trials_are_experiments_and_hopeless_ones_are_pruned(repository, pruned):
    lines = [line.split() for line in pruned.splitlines()]
    states = [(line[0], line[1]) for line in lines if len(line) > 2 and line[1] in ("complete", "pruned", "failed")]
    assert states == [("0", "complete"), ("1", "complete"), ("2", "pruned"), ("3", "pruned")]
    assert "pruned: 4 of 4 trials; best 0.8700 in trial" in pruned
    found = experiments(repository)
    assert set(found) == {"pruned-000", "pruned-001"}
    assert found["pruned-000"]["lr"] == found["pruned-001"]["lr"] == 0.01
    assert found["pruned-000"]["momentum"] == 0.5
    assert found["pruned-001"]["momentum"] == 0.9, "params.yaml's own, as adamw has none"
    for log in logs(repository, "pruned"):
        assert "Stage 'prepare' didn't change, skipping" in log
        assert stages_run(log) == ["train"]
    assert not list((repository.root / ".cache/train").iterdir()), "a pruned trial leaves no checkpoints"
    assert not list((repository.root / ".dvc/tmp/exps/standalone").glob("tmp*"))
    assert repository.git("status", "--porcelain") == ""
    assert sweep(repository, "run") == "next: python tools/sweep.py report\n", "there is nothing left to do"


def test_the_report_looks_at_test_once(repository, pruned):
    first = sweep(repository, "report")
    folder = repository.root / "sweeps/pruned"
    assert "experiment pruned-best …" in first
    assert "is better than the default on test, and that is more than luck" in first
    results = yaml.safe_load((folder / "optimization_results.yaml").read_text())
    assert results["best"]["parameters"]["train.lr"] == 0.01
    assert results["best"]["values"] == {"best/AP": pytest.approx(0.87)}
    assert results["default"] == {"best/AP": pytest.approx(0.765, abs=1e-3)}
    assert results["counts"] | {"complete": 2, "pruned": 2, "failed": 0} == results["counts"]
    interval = results["best"]["interval"]
    assert interval["low"] < interval["value"] < interval["high"]
    assert results["test"]["metrics"]["AP"]["low"] > 0
    rows = list(csv.DictReader((folder / "trials.csv").read_text().splitlines()))
    assert [row["state"] for row in rows] == ["complete", "complete", "pruned", "pruned"]
    assert rows[2]["best/AP"] == ""
    assert float(rows[2]["reached"]) < float(rows[0]["reached"])
    page = (folder / "report.html").read_text()
    pictures = {path.name for path in folder.glob("*.png")}
    assert {"history.png", "epochs.png", "parallel.png"} <= pictures
    assert "pareto.png" not in pictures
    assert page.count("data:image/png;base64,") == len(pictures)
    assert "http" not in page

    second = sweep(repository, "report")
    assert "experiment" not in second
    assert second == first.split("\n", 3)[3]
    assert (folder / "report.html").read_text() == page


def test_the_best_values_go_into_params_yaml(repository, pruned):
    before = repository.read("params.yaml")
    assert "train.lr: auto -> 0.01\n" in sweep(repository, "apply", "--trial", "1")
    expected = before.replace("lr: auto ", "lr: 0.01 ").replace("sgd    #", "adamw  #").replace("0.0  ", "0.3  ")
    assert repository.read("params.yaml") == expected
    assert "no such trial is complete; these are: 0, 1" in sweep(repository, "apply", "--trial", "2", expected=1)
    assert "params.yaml: not as in commit" in sweep(repository, "run", expected=1)
    write_sweep(repository, name="onward")
    assert "params.yaml: not as in commit" in sweep(repository, "run", expected=1)
    repository.git("checkout", "--quiet", "params.yaml", "sweep.yaml")


def test_another_sweep_of_the_same_name_is_not_mixed_in(repository, pruned):
    write_sweep(repository, **PRUNED, seeds=[1])
    message = sweep(repository, "run", expected=1)
    repository.git("checkout", "--quiet", "sweep.yaml")
    assert "the sweep `pruned` was begun with other seeds: put them back to go on" in message


def test_ctrl_c_puts_the_trial_back_and_the_next_run_goes_on_in_it(repository):
    write_sweep(repository, name="stopped", trials=1, parameters={"train.pause": {"values": [0.5]}})
    process = start(repository, "run")
    assert process.stdout is not None
    before = ""
    while "epoch 1" not in before:
        before += process.stdout.readline()
    process.send_signal(signal.SIGINT)
    after = process.communicate()[0]
    assert process.returncode == 130, before + after
    assert "stopping: running trials are saved and will be repeated" in after
    assert "stopped: 0 of 1 trials" in after
    assert list((repository.root / ".cache/train").iterdir()), "what was trained should be there to go on from"
    assert repository.git("status", "--porcelain", "params.yaml") == ""

    assert "stopped: 1 of 1 trials; best 0.7654 in trial 1" in sweep(repository, "run")
    first, second = logs(repository, "stopped")
    assert "begins after epoch 0" in first
    assert "begins after epoch 0" not in second
    assert "stopped-001" in experiments(repository)
    assert "stopped-000" not in experiments(repository)


def test_a_sweep_whose_trials_all_fail_ends_and_says_why(repository):
    write_sweep(repository, name="hopeless", parameters={"train.decay": {"values": [1.0]}}, trials=1)
    message = sweep(repository, "run", expected=1)
    assert "all 1 trials failed" in message
    assert "the loss is not finite" in message
    assert "Traceback" not in message


@pytest.mark.long
def test_each_trial_has_the_mean_of_its_seeds_and_several_objectives_a_front(repository):
    objectives = {"metrics/train.json:best/AP": "maximize", "metrics/train.json:val.seconds": "minimize"}
    write_sweep(repository, name="seeds", objectives=objectives, seeds=[0, 10], trials=2,
                parameters={"train.lr": {"values": [0.01, 0.001]}}, sampler="grid")  # fmt: skip
    assert "2 that no other beats in everything" in sweep(repository, "run", "-j", "2")
    found = experiments(repository)
    assert {f"seeds-00{trial}-seed-{seed}" for trial in (0, 1) for seed in (0, 10)} <= set(found)
    assert found["seeds-000-seed-10"]["seed"] == 10
    sweep(repository, "report")
    folder = repository.root / "sweeps/seeds"
    results = yaml.safe_load((folder / "optimization_results.yaml").read_text())
    assert results["best"]["values"]["best/AP"] == pytest.approx(0.87 + 0.001 * 5)
    assert [values[0] for values in results["best"]["by_seed"]] == pytest.approx([0.87, 0.88])
    assert sorted(results["front"]) == [0, 1]
    assert (folder / "pareto.png").stat().st_size > 0


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysterydb://a:secret@b/c", "the study cannot be opened at mysterydb://a:***@b/c"),
        ("nonsense", "the study cannot be opened at its address"),
    ],
)
def test_a_wrong_storage_is_named_without_its_password(repository, url, message):
    output = sweep(repository, "run", "--storage", url, expected=1)
    assert message in output
    assert "secret" not in output


def test_a_report_needs_a_sweep(repository, tmp_path):
    write_sweep(repository, name="unknown")
    assert "there is no sweep `unknown` yet" in sweep(repository, "report", expected=1)
