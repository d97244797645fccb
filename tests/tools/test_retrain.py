"""CI end to end on this machine: people push, the workflows' scripts run in fresh clones, results are committed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import gate
import reproduce
from ci_commit import BOT, RESULTS
from tests.support import fake_forge
from tests.support.fake_forge import FakeForge
from tests.support.repository import Repository, environment_for
from tests.support.tiny_pipeline import DATASET, add_images, make_tiny_pipeline

IMAGES = 40


class ScriptResult(NamedTuple):
    """Exit code, and the output of stdout and stderr."""

    code: int
    output: str


class World:
    """A bare git remote, a DVC remote, a colleague's clone, and a folder for CI's clones."""

    def __init__(self, folder: Path, colleague: Repository) -> None:
        self.folder = folder
        self.colleague = colleague
        self.remote = Repository(folder / "origin.git", colleague.environment)
        colleague.git("clone", "--quiet", "--bare", ".", str(self.remote.root))
        colleague.git("remote", "add", "origin", str(self.remote.root))
        self.clones = 0

    def push(self, branch: str = "main") -> str:
        """Commit and push the colleague's files; returns the commit."""
        self.colleague.commit()
        self.colleague.git("push", "--quiet", "origin", f"HEAD:{branch}")
        return self.tip(branch)

    def tip(self, branch: str = "main") -> str:
        """The newest commit of a remote branch."""
        return self.remote.git("rev-parse", branch).strip()

    def clone(self, commit: str, **environment: str) -> Repository:
        """A clone as CI checks it out: all branches, no data, detached HEAD."""
        self.clones += 1
        clone = self.remote.clone(self.folder / f"ci{self.clones}")
        clone.git("checkout", "--quiet", "--detach", commit)
        clone.environment = {**self.colleague.environment, **environment}
        return clone

    def github(self, server: FakeForge | None, event: dict[str, Any]) -> dict[str, str]:
        """The environment variables that GitHub sets."""
        (self.folder / "event.json").write_text(json.dumps(event))
        return {
            "GITHUB_ACTIONS": "true", "GITHUB_REPOSITORY": "team/app", "GITHUB_REF_NAME": "main", "GITHUB_RUN_ID": "5",
            "GITHUB_SERVER_URL": "https://forge.example", "GITHUB_EVENT_PATH": str(self.folder / "event.json"),
            "GITHUB_STEP_SUMMARY": str(self.folder / "summary.md"),
            **({"GITHUB_API_URL": server.api, "GITHUB_TOKEN": fake_forge.TOKEN} if server else {"GITHUB_API_URL": ""}),
        }  # fmt: skip


def run_script(clone: Repository, tool: str) -> ScriptResult:
    """Run a script as the workflow does."""
    process = subprocess.run(
        [sys.executable, f"tools/{tool}"],
        cwd=clone.root,
        env=clone.environment,
        check=False,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    return ScriptResult(process.returncode, process.stdout)


def list_stages(result: ScriptResult) -> list[str]:
    """The stages that ran."""
    return [line.split("'")[1] for line in result.output.splitlines() if line.startswith("Running stage ")]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    """A repository after the first run, to copy."""
    folder = tmp_path_factory.mktemp("retrain")
    environment = environment_for(folder / "settings")
    environment = {name: text for name, text in environment.items() if not name.startswith(("GITHUB", "GITLAB", "CI"))}
    environment |= {"OMP_NUM_THREADS": "1"}
    (folder / "repository").mkdir()
    yield make_tiny_pipeline(folder / "repository", environment, folder / "dvc", IMAGES)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def world(template: Repository, tmp_path: Path) -> World:
    return World(tmp_path, template.copy(tmp_path / "colleague"))


def test_a_result_is_committed_on_top_of_a_commit_without_inputs(world: World) -> None:
    """Images are added; someone else pushes a change of the README in the meantime."""
    before = world.tip()
    add_images(world.colleague, IMAGES, 6)
    world.colleague.dvc("push", "--quiet", DATASET)
    data = world.push()
    ci = world.clone(data, **world.github(None, {"before": before}))
    world.colleague.replace("README.md", "Squares", "Many squares")
    unrelated = world.push()
    result = run_script(ci, "retrain.py")
    assert (result.code, list_stages(result)) == (0, ["preprocess", "evaluate", "export"]), result.output

    # The bot's commit on top of both names its parent and starts no CI run.
    assert world.remote.git("rev-parse", "main~1").strip() == unrelated
    log = world.remote.git("log", "-1", "--format=%ae%n%B", "main")
    assert log.startswith(f"{BOT['EMAIL']}\nRetrain [skip ci]\n")
    assert f"Retrained-On: {unrelated}" in log
    committed = world.remote.git("diff", "--name-only", "main~1", "main").split()
    assert {"dvc.lock", "split.lock", "metrics/split.json"} <= set(committed)
    assert all(path.startswith(RESULTS) for path in committed)
    summary = (world.folder / "summary.md").read_text()
    assert "gate passed" in summary.splitlines()[0]
    assert world.tip()[:10] in summary.splitlines()[0]
    assert f"46 images (0 train, 0 val, 46 test), 46 boxes; before: {IMAGES} images" in summary
    assert "6 only in `workspace`" in summary

    # The outputs are in DVC's remote and up to date: a colleague has nothing to run.
    colleague = world.clone("main")
    assert "Running stage" not in colleague.dvc("repro", "--pull")
    assert colleague.git("status", "--porcelain") == ""
    assert len(json.loads(colleague.read("data/predictions/test.json"))) == IMAGES + 6

    # On its own commit there is nothing to do.
    tip = world.tip()
    again = run_script(world.clone(tip, **world.github(None, {"before": data})), "retrain.py")
    assert (again.code, again.output[:13]) == (0, "Nothing to do")
    assert world.tip() == tip


def test_newer_data_is_not_overwritten(world: World) -> None:
    world.colleague.replace("params.yaml", "brightness: 100", "brightness: 90")
    ci = world.clone(world.push())
    ci.git("switch", "--quiet", "--force-create", "main")  # as on a person's machine, without a forge
    add_images(world.colleague, IMAGES, 1)
    newer = world.push()
    result = run_script(ci, "retrain.py")
    assert result.code == 0, result.output
    assert result.output.startswith("Skipped")
    assert f"{newer[:10]}, which changes {DATASET}.dvc" in result.output
    assert len(result.output.splitlines()) == 1
    assert world.tip() == newer


@pytest.mark.long
def test_the_gate_blocks_a_pull_request_until_it_is_fixed(world: World) -> None:
    event = {"pull_request": {"number": 7, "head": {"ref": "try", "repo": {"full_name": "team/app"}},
                              "base": {"ref": "main"}}}  # fmt: skip
    with fake_forge.serving(fake_forge.GITHUB) as server:
        environment = world.github(server, event)
        world.colleague.replace("params.yaml", "brightness: 100", "brightness: 150")
        worse = world.push("try")
        ci = world.clone(worse, **environment)
        result = run_script(ci, "retrain.py")
        assert result.code == 1, result.output
        assert list_stages(result) == ["evaluate", "export"]
        assert "dvc pull data/raw/squares" in result.output, "evaluate reads the images, but preprocess did not run"
        assert (world.tip("try"), server.statuses[-1]["state"]) == (worse, "failure")
        (comment,) = server.comments
        assert "gate failed" in comment["body"].splitlines()[1]
        assert "| AP change from `origin/main` | −0." in comment["body"]
        assert "(https://forge.example/team/app/actions/runs/5)" in comment["body"]

        # Fixed: the same comment, now with plots of the commit. Its message does not skip CI. This time the DVC remote
        # comes from a secret.
        config = world.colleague.read(".dvc/config")
        (world.colleague.root / ".dvc/config").write_text("")
        world.colleague.replace("params.yaml", "brightness: 150", "brightness: 90")
        fixed = world.push("try")
        ci = world.clone(fixed, **environment, DVC_CONFIG_LOCAL=config)
        result = run_script(ci, "retrain.py")
        assert not (ci.root / ".dvc/config.local").exists()
        committed = world.tip("try")
        assert (result.code, world.remote.git("rev-parse", "try~1").strip()) == (0, fixed), result.output
        assert [row["id"] for row in server.comments] == [comment["id"]]
        text = server.comments[0]["body"]
        assert "gate passed" in text.splitlines()[1]
        assert committed[:10] in text.splitlines()[1]
        assert f"https://forge.example/team/app/raw/{committed}/plots/evaluate/last.png" in text
        assert (server.statuses[-1]["sha"], server.statuses[-1]["state"]) == (committed, "success")
        assert "skip" not in world.remote.git("log", "-1", "--format=%B", "try")
        assert world.tip("main") not in (committed, fixed)


def test_a_failed_run_is_reported(world: World) -> None:
    (world.colleague.root / ".dvc/config").write_text("[core]\n    analytics = false\n")
    broken = world.push("try")
    event = {"pull_request": {"number": 7, "head": {"ref": "try", "repo": {"full_name": "team/app"}},
                              "base": {"ref": "main"}}}  # fmt: skip
    with fake_forge.serving(fake_forge.GITHUB) as server:
        result = run_script(world.clone(broken, **world.github(server, event)), "retrain.py")
        assert result.code == 1
        assert "error: no DVC remote" in result.output
        assert "failed" in server.comments[0]["body"].splitlines()[1]
        assert "no DVC remote" in server.comments[0]["body"]
        assert (server.statuses[-1]["sha"], server.statuses[-1]["state"]) == (broken, "failure")
    assert world.tip("try") == broken


def test_uncommitted_changes_are_an_error(world: World) -> None:
    ci = world.clone("main")
    ci.replace("params.yaml", "brightness: 100", "brightness: 90")
    result = run_script(ci, "retrain.py")
    assert (result.code, "uncommitted changes" in result.output) == (1, True)


def test_a_fork_is_skipped(world: World) -> None:
    event = {"pull_request": {"number": 7, "head": {"ref": "try", "repo": {"full_name": "stranger/app"}},
                              "base": {"ref": "main"}}}  # fmt: skip
    result = run_script(world.clone("main", **world.github(None, event)), "retrain.py")
    assert result.code == 0
    assert result.output.startswith("Skipped")
    assert "fork" in result.output


@pytest.mark.long
def test_reproduce_closes_its_issue_and_opens_one_on_failure(world: World) -> None:
    """The last run's issue is closed; then another machine's boxes move the metrics out of their intervals."""
    with fake_forge.serving(fake_forge.GITHUB) as server:
        server.issues.append({"id": 1, "number": 1, "body": f"{reproduce.MARKER}\nIt differs.", "state": "open"})
        ci = world.clone("main", **world.github(server, {}))
        result = run_script(ci, "reproduce.py")
        assert result.code == 0, result.output
        assert "byte-identical" in result.output
        assert list_stages(result) == ["preprocess", "evaluate", "export"]
        assert [issue["state"] for issue in server.issues] == ["closed"]

        ci.environment["BOX_OFFSET"] = "9"
        result = run_script(ci, "reproduce.py")
        assert result.code == 1
        (_, issue) = server.issues
        assert issue["title"] == reproduce.TITLE
        old = json.loads(ci.git("show", "HEAD:metrics/evaluate.json"))
        interval = f"| AP | {old['AP']:.3f} ({old['AP_low']:.3f} to {old['AP_high']:.3f}) | 0."
        assert interval in issue["body"], issue["body"]
        assert "- `dvc.lock`" in issue["body"]
        assert "uncommitted changes" in run_script(ci, "reproduce.py").output, "it needs a clean checkout"


def test_without_common_test_images_the_gate_fails(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole test set is replaced, so the results cannot be compared."""
    monkeypatch.chdir(world.colleague.root)
    truth = json.loads(world.colleague.read("data/coco/test.json"))
    for image in truth["images"]:
        image["content"] += " of another camera"
    path = world.colleague.root / "data/coco/test.json"
    path.unlink()
    path.write_text(json.dumps(truth))
    gate_result = gate.evaluate_gate("HEAD")
    assert [check.name for check in gate_result.checks if not check.passed] == ["change from `HEAD`"]
    assert "cannot be compared" in gate_result.checks[1].result
    assert "test image" in gate_result.checks[1].result
