"""The workflow files are what GitHub and GitLab take, start on what matters, and give away nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ci_commit import INPUTS, RESULTS, is_input

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
GITLAB = ROOT / ".gitlab-ci.yml"
DOCS = ROOT / "docs/ci.md"
SECRET = re.compile(r"\bsecrets\.|github\.token")


def read(path: Path) -> dict[Any, Any]:
    """A workflow; YAML reads its key `on` as true."""
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))


def jobs() -> list[tuple[str, dict[str, Any]]]:
    return [(path.stem, job) for path in WORKFLOWS for job in read(path)["jobs"].values()]


def check(program: str, *arguments: str) -> None:
    command = [str(Path(sys.executable).parent / program), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_they_fit_the_forges_schemas() -> None:
    check("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *map(str, WORKFLOWS))
    check("check-jsonschema", "--builtin-schema", "vendor.gitlab-ci", "--data-transform", "gitlab-ci", str(GITLAB))


def test_zizmor_finds_no_weakness() -> None:
    check("zizmor", "--offline", "--no-progress", "--quiet", "--persona", "auditor", str(ROOT / ".github"))


def test_a_push_starts_them_exactly_when_an_input_changes() -> None:
    """What no run would follow must not be left to one."""
    starts = read(ROOT / ".github/workflows/retrain.yml")[True]
    assert starts["push"]["paths"] == starts["pull_request"]["paths"] == list(INPUTS)
    (rule,) = [rule for rule in read(GITLAB)[".retrain"]["rules"] if "changes" in rule]
    assert rule["changes"] == list(INPUTS)
    (listed,) = re.findall(r"starts when one of these changes: (.+?)\.\s", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert set(re.findall("`(.+?)`", listed)) == {entry.removesuffix("**/*") for entry in INPUTS}


def test_everything_that_the_pipeline_depends_on_is_an_input() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"].values()
    made = [path for stage in stages for path in stage["outs"]]
    needed = [path for stage in stages for path in stage["deps"] if path not in made and not path.startswith("${")]
    assert len(needed) > 20
    parameters = {path for stage in stages for entry in stage["params"] if isinstance(entry, dict) for path in entry}
    assert "versions.yaml" in parameters
    needed += ["params.yaml", *parameters]
    assert [path for path in needed if not is_input(path)] == []
    tracked = subprocess.run(
        ["git", "ls-files", *RESULTS, "*.dvc"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert [path for path in tracked.stdout.split() if not is_input(path)] == []


@pytest.mark.parametrize(("name", "job"), jobs())
def test_a_job_is_short_and_holds_little_power(name: str, job: dict[str, Any]) -> None:
    steps = job["steps"]
    assert all(len(step["run"].splitlines()) == 1 for step in steps if "run" in step), "the scripts hold the steps"
    assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", step["uses"]) for step in steps if "uses" in step)
    assert job["timeout-minutes"] <= 360
    assert read(ROOT / f".github/workflows/{name}.yml")["permissions"] == {}
    assert "write" not in job["permissions"].values() or "vars.RETRAIN_RUNNER" in job["if"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_fork_sees_no_secret(path: Path) -> None:
    starts, text = read(path)[True], path.read_text(encoding="utf-8")
    assert "pull_request_target" not in starts
    if SECRET.search(text) and "pull_request" in starts:
        (job,) = read(path)["jobs"].values()
        assert "github.event.pull_request.head.repo.full_name == github.repository" in job["if"]
    for job in read(path)["jobs"].values():
        exposed = [step["run"] for step in job["steps"] if SECRET.search(str(step.get("env", "")))]
        allowed = r"\.venv/bin/python tools/(retrain|reproduce)\.py (fetch|publish)"
        assert all(re.fullmatch(allowed, run) for run in exposed), "installing and the stages need no secret"
        assert not exposed or "retraining" in job["environment"]
        assert not SECRET.search(str({**job, "steps": []}))


def test_on_gitlab_only_the_steps_without_stages_get_secrets() -> None:
    """Variables are limited to an environment, so a job without one sees none."""
    scripts = {name: job["script"][-1] for name, job in read(GITLAB).items() if "retraining" in str(job)}
    assert len(scripts) == 4
    assert all(script.endswith((".py fetch", ".py publish")) for script in scripts.values())


def test_a_pull_request_shares_no_group_with_a_branch() -> None:
    """A fork may call its branch main; its run must not displace main's."""
    for path in WORKFLOWS:
        group = read(path)["concurrency"]["group"]
        assert "head_ref" not in group
        assert "ref_name" not in group
