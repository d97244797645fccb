"""Whole sweeps in a real DVC repository, with a training that takes milliseconds."""

from __future__ import annotations

import csv
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.repository import Repository, stages_run
from tests.support.tiny_sweep import make_repository, run_sweep, start_sweep, write_sweep

PRUNED = {
    "name": "pruned",
    "trials": 4,
    "parameters": {
        "train.optimizer": {"values": ["sgd", "adamw"]},
        "train.momentum": {"low": 0.1, "high": 0.9, "when": {"train.optimizer": "sgd"}},
        "train.lr": {"values": [0.01, 1e-4]},
        "train.pause": {"values": [0.3]},  # seconds per epoch, enough for the sweep to react
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
    """One repository for all tests in this file; each sweep has its own name."""
    folder = tmp_path_factory.mktemp("sweep")
    yield make_repository(folder / "repository", folder / "settings")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def pruned_sweep(repository: Repository) -> str:
    """The output of a finished sweep with two pruned trials."""
    write_sweep(repository, **PRUNED)
    repository.git("commit", "--quiet", "--message", "A sweep", "sweep.yaml")
    return run_sweep(repository, "run")


def read_experiments(repository: Repository) -> dict[str, Any]:
    """The training parameters of each experiment in `dvc exp show`, by name."""
    head = json.loads(repository.dvc("exp", "show", "--json"))[1]
    revisions = [revision for group in head["experiments"] or [] for revision in group["revs"]]
    return {one["name"]: one["data"]["params"]["params.yaml"]["data"]["train"] for one in revisions}


@pytest.mark.long
def test_a_sweep_in_a_folder_of_a_larger_repository(tmp_path: Path) -> None:
    project = make_repository(tmp_path / "git/bolts", tmp_path / "settings", tmp_path / "git")
    write_sweep(project, trials=1)
    run_sweep(project, "run")
    assert "trial 0 is " in run_sweep(project, "report"), "the comparison on test reads both revisions"
    project.replace("train.py", "0.9", "0.8")
    with pytest.raises(AssertionError, match=r"error: train\.py: not as in commit"):
        run_sweep(project, "run")


def read_logs(repository: Repository, name: str) -> list[str]:
    """The output of each trial of a sweep."""
    return [path.read_text() for path in sorted((repository.root / ".cache/sweep" / name).glob("*.log"))]


def test_trials_are_experiments_and_bad_ones_are_pruned(repository: Repository, pruned_sweep: str) -> None:
    outcomes = re.findall(r"^trial (\d) (complete|pruned|failed)", pruned_sweep, re.MULTILINE)
    assert outcomes == [("0", "complete"), ("1", "complete"), ("2", "pruned"), ("3", "pruned")]
    assert "pruned: 4 of 4 trials, best 0.8700 in trial" in pruned_sweep
    assert "sqlite:///.cache/sweep/pruned/study.db" in pruned_sweep, "the storage for optuna-dashboard"
    experiments = read_experiments(repository)
    assert set(experiments) == {"pruned-000", "pruned-001"}
    assert experiments["pruned-000"]["lr"] == experiments["pruned-001"]["lr"] == 0.01
    assert experiments["pruned-000"]["momentum"] == 0.5
    assert experiments["pruned-001"]["momentum"] == 0.9, "unchanged, because adamw has no momentum"
    for log in read_logs(repository, "pruned"):
        assert "Stage 'prepare' didn't change, skipping" in log
        assert stages_run(log) == ["train"]
    assert not list((repository.root / ".cache/train").iterdir()), "a pruned trial leaves no checkpoints"
    assert not list((repository.root / ".dvc/tmp/exps/standalone").glob("tmp*"))
    assert repository.git("status", "--porcelain") == ""
    assert "trial" not in run_sweep(repository, "run"), "nothing is left to do"


def test_the_dashboard_opens_the_default_storage(repository: Repository, pruned_sweep: str) -> None:
    (command,) = re.findall(r"^plots: (.*)", pruned_sweep, re.MULTILINE)
    program, storage = command.split()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    process = subprocess.Popen(
        [Path(sys.executable).with_name(program), "--port", str(port), storage],
        cwd=repository.root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        studies = json.loads(fetch(f"http://127.0.0.1:{port}/api/studies"))["study_summaries"]
        assert [study["study_name"] for study in studies] == ["pruned"]
        study = json.loads(fetch(f"http://127.0.0.1:{port}/api/studies/{studies[0]['study_id']}?after=0"))
        assert [trial["state"] for trial in study["trials"]] == ["Complete", "Complete", "Pruned", "Pruned"]
        assert b"<html" in fetch(f"http://127.0.0.1:{port}/dashboard")
    finally:
        process.terminate()
        process.wait()


def fetch(url: str) -> bytes:
    """The body at a URL of a server that may still be starting."""
    for _ in range(300):
        try:
            with urllib.request.urlopen(url) as answer:
                return bytes(answer.read())
        except urllib.error.URLError:
            time.sleep(0.1)
    raise AssertionError(f"{url} does not answer")


@pytest.mark.long
def test_the_report_evaluates_on_test_once(repository: Repository, pruned_sweep: str) -> None:
    first = run_sweep(repository, "report")
    folder = repository.root / "sweeps/pruned"
    assert "experiment pruned-best …" in first
    assert "better than the default on test (significant" in first
    results = yaml.safe_load((folder / "optimization_results.yaml").read_text())
    assert results["best"]["parameters"]["train.lr"] == 0.01
    assert results["best"]["values"] == {"best.AP": pytest.approx(0.87)}
    assert results["default"] == {"best.AP": pytest.approx(0.765, abs=1e-3)}
    assert results["counts"] | {"complete": 2, "pruned": 2, "failed": 0} == results["counts"]
    interval = results["best"]["interval"]
    assert interval["low"] < interval["value"] < interval["high"]
    assert results["test"]["metrics"]["AP"]["low"] > 0
    rows = list(csv.DictReader((folder / "trials.csv").read_text().splitlines()))
    assert [row["state"] for row in rows] == ["complete", "complete", "pruned", "pruned"]
    assert rows[2]["best.AP"] == ""
    assert float(rows[2]["reached"]) < float(rows[0]["reached"])

    second = run_sweep(repository, "report")
    assert "experiment" not in second
    assert first.endswith(second)
    assert yaml.safe_load((folder / "optimization_results.yaml").read_text()) == results


@pytest.mark.long
def test_apply_writes_the_values_to_params_yaml(repository: Repository, pruned_sweep: str) -> None:
    before = repository.read("params.yaml")
    assert "train.lr: auto -> 0.01\n" in run_sweep(repository, "apply", "--trial", "1")
    expected = before.replace("lr: auto ", "lr: 0.01 ").replace("sgd    #", "adamw  #").replace("0.0  ", "0.3  ")
    assert repository.read("params.yaml") == expected
    assert "complete are 0, 1" in run_sweep(repository, "apply", "--trial", "2", expected=1)
    assert "params.yaml: not as in commit" in run_sweep(repository, "run", expected=1)
    write_sweep(repository, name="another")
    assert "params.yaml: not as in commit" in run_sweep(repository, "run", expected=1)
    repository.git("checkout", "--quiet", "params.yaml", "sweep.yaml")


def test_another_sweep_with_the_same_name_is_refused(repository: Repository, pruned_sweep: str) -> None:
    write_sweep(repository, **PRUNED, seeds=[1])
    message = run_sweep(repository, "run", expected=1)
    repository.git("checkout", "--quiet", "sweep.yaml")
    assert "`pruned`" in message
    assert "other seeds" in message


@pytest.mark.long
def test_ctrl_c_requeues_the_trial_and_the_next_run_resumes_it(repository: Repository) -> None:
    write_sweep(repository, name="stopped", trials=1, parameters={"train.pause": {"values": [0.5]}})
    process = start_sweep(repository, "run")
    reports = repository.root / ".cache/sweep/stopped/stopped-000.jsonl"
    while not reports.exists() or '"epoch": 1' not in reports.read_text():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output = process.communicate()[0]
    assert process.returncode == 130, output
    assert "stopping: " in output
    assert "stopped: 0 of 1 trials" in output
    assert list((repository.root / ".cache/train").iterdir()), "the checkpoints should be kept"
    assert repository.git("status", "--porcelain", "params.yaml") == ""

    assert "stopped: 1 of 1 trials, best 0.7654 in trial 1" in run_sweep(repository, "run")
    first, second = read_logs(repository, "stopped")
    assert "begins after epoch 0" in first
    assert "begins after epoch 0" not in second
    assert "stopped-001" in read_experiments(repository)
    assert "stopped-000" not in read_experiments(repository)


def test_a_sweep_whose_trials_all_fail_ends_with_the_reason(repository: Repository) -> None:
    write_sweep(repository, name="failing", parameters={"train.decay": {"values": [1.0]}}, trials=1)
    message = run_sweep(repository, "run", expected=1)
    assert "all 1 trials failed" in message
    assert "the loss is not finite" in message
    assert "Traceback" not in message


@pytest.mark.long
def test_trials_average_over_seeds_and_several_objectives_have_a_pareto_front(repository: Repository) -> None:
    objectives = {"metrics/train.json:best.AP": "maximize", "metrics/train.json:val.seconds": "minimize"}
    parameters = {"train.lr": {"values": [0.01, 0.001]}}
    write_sweep(
        repository, name="seeds", objectives=objectives, seeds=[0, 10], trials=2, parameters=parameters, sampler="grid"
    )
    assert "2 on the Pareto front" in run_sweep(repository, "run", "-j", "2")
    experiments = read_experiments(repository)
    assert {f"seeds-00{trial}-seed-{seed}" for trial in (0, 1) for seed in (0, 10)} <= set(experiments)
    assert experiments["seeds-000-seed-10"]["seed"] == 10
    run_sweep(repository, "report")
    folder = repository.root / "sweeps/seeds"
    results = yaml.safe_load((folder / "optimization_results.yaml").read_text())
    assert results["best"]["values"]["best.AP"] == pytest.approx(0.87 + 0.001 * 5)
    assert [values[0] for values in results["best"]["by_seed"]] == pytest.approx([0.87, 0.88])
    assert sorted(results["front"]) == [0, 1]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysterydb://a:secret@b/c", "mysterydb://a:***@b/c"),
        ("nonsense", "--storage: "),
    ],
)
def test_the_message_on_a_wrong_storage_hides_the_password(repository: Repository, url: str, message: str) -> None:
    output = run_sweep(repository, "run", "--storage", url, expected=1)
    assert message in output
    assert "secret" not in output


def test_a_report_needs_a_sweep(repository: Repository, tmp_path: Path) -> None:
    write_sweep(repository, name="unknown")
    assert "there is no sweep `unknown` yet" in run_sweep(repository, "report", expected=1)
