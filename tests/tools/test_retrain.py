"""The whole of CI without a forge's machines: people push, the workflows' scripts run in fresh clones, results land."""

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
from ci_landing import BOT, RESULTS
from tests.support import fake_forge
from tests.support.fake_forge import FakeForge
from tests.support.repository import Repository, environment_for
from tests.support.tiny_pipeline import DATASET, add_images, make_tiny_pipeline

IMAGES = 40


class Done(NamedTuple):
    """Exit code and everything printed."""

    code: int
    output: str


class World:
    """A bare remote with DVC's remote beside it, a colleague's clone, and a place for the clones of CI."""

    def __init__(self, folder: Path, colleague: Repository) -> None:
        self.folder = folder
        self.colleague = colleague
        self.remote = Repository(folder / "origin.git", colleague.environment)
        colleague.git("clone", "--quiet", "--bare", ".", str(self.remote.root))
        colleague.git("remote", "add", "origin", str(self.remote.root))
        self.clones = 0

    def push(self, branch: str = "main") -> str:
        """The colleague's files as they are, as a commit on the remote."""
        self.colleague.commit()
        self.colleague.git("push", "--quiet", "origin", f"HEAD:{branch}")
        return self.tip(branch)

    def tip(self, branch: str = "main") -> str:
        """The newest commit of a branch of the remote."""
        return self.remote.git("rev-parse", branch).strip()

    def clone(self, commit: str, **environment: str) -> Repository:
        """What CI checks out: all branches, no data, and no branch of its own."""
        self.clones += 1
        clone = self.remote.clone(self.folder / f"ci{self.clones}")
        clone.git("checkout", "--quiet", "--detach", commit)
        clone.environment = {**self.colleague.environment, **environment}
        return clone

    def github(self, server: FakeForge | None, event: dict[str, Any]) -> dict[str, str]:
        """The variables that GitHub sets."""
        (self.folder / "event.json").write_text(json.dumps(event))
        return {
            "GITHUB_ACTIONS": "true", "GITHUB_REPOSITORY": "team/app", "GITHUB_REF_NAME": "main", "GITHUB_RUN_ID": "5",
            "GITHUB_SERVER_URL": "https://forge.example", "GITHUB_EVENT_PATH": str(self.folder / "event.json"),
            "GITHUB_STEP_SUMMARY": str(self.folder / "summary.md"),
            **({"GITHUB_API_URL": server.api, "GITHUB_TOKEN": fake_forge.TOKEN} if server else {"GITHUB_API_URL": ""}),
        }  # fmt: skip


def call(clone: Repository, tool: str) -> Done:
    """Run a script as the workflow does."""
    done = subprocess.run(
        [sys.executable, f"tools/{tool}"], cwd=clone.root, env=clone.environment, check=False, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    return Done(done.returncode, done.stdout)


def stages_run(done: Done) -> list[str]:
    return [line.split("'")[1] for line in done.output.splitlines() if line.startswith("Running stage ")]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    """The colleague's repository after the first run."""
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


def test_added_images_are_retrained_and_land_beside_a_harmless_commit(world):
    """Somebody else pushes a line of the README meanwhile."""
    before = world.tip()
    add_images(world.colleague, IMAGES, 6)
    world.colleague.dvc("push", "--quiet", DATASET)
    data = world.push()
    ci = world.clone(data, **world.github(None, {"before": before}))
    world.colleague.replace("README.md", "Squares", "Many squares")
    harmless = world.push()
    done = call(ci, "retrain.py")
    assert (done.code, stages_run(done)) == (0, ["preprocess", "evaluate", "export"]), done.output

    # One commit of the bot on top of both, which says whose result it is and starts nothing.
    assert world.remote.git("rev-parse", "main~1").strip() == harmless
    log = world.remote.git("log", "-1", "--format=%ae%n%B", "main")
    assert log.startswith(f"{BOT['EMAIL']}\nRetrain [skip ci]\n")
    assert f"Retrained-On: {harmless}" in log
    landed = world.remote.git("diff", "--name-only", "main~1", "main").split()
    assert {"dvc.lock", "split.lock", "metrics/split.json"} <= set(landed)
    assert all(path.startswith(RESULTS) for path in landed)
    told = (world.folder / "summary.md").read_text()
    assert told.startswith(f"## Retrained: passed, committed as {world.tip()[:10]}")
    assert f"Data: 46 images (0 train, 0 val, 46 test), 46 boxes; before: {IMAGES} images" in told
    assert "**Images left out**: 6 only in `workspace`." in told

    # What landed can be had, and is what the data gives: a colleague has nothing to run.
    colleague = world.clone("main")
    assert "Running stage" not in colleague.dvc("repro", "--pull")
    assert colleague.git("status", "--porcelain") == ""
    assert len(json.loads(colleague.read("data/predictions/test.json"))) == IMAGES + 6

    # Started again on its own commit, it rests.
    tip = world.tip()
    again = call(world.clone(tip, **world.github(None, {"before": data})), "retrain.py")
    assert again == Done(0, f"{tip[:10]} is what retraining committed: nothing to do.\n")
    assert world.tip() == tip


def test_newer_data_is_not_written_over(world):
    world.colleague.replace("params.yaml", "brightness: 100", "brightness: 90")
    ci = world.clone(world.push())
    ci.git("switch", "--quiet", "--force-create", "main")  # as on a person's machine, without any forge
    add_images(world.colleague, IMAGES, 1)
    newer = world.push()
    done = call(ci, "retrain.py")
    assert done.code == 0, done.output
    assert done.output == (
        f"Left to the run of the newer commit: main has moved on to {newer[:10]}, which changes {DATASET}.dvc.\n"
    )
    assert world.tip() == newer


def test_the_gate_stops_a_pull_request_until_it_is_mended(world):
    event = {"pull_request": {"number": 7, "head": {"ref": "try", "repo": {"full_name": "team/app"}},
                              "base": {"ref": "main"}}}  # fmt: skip
    with fake_forge.serving(fake_forge.GITHUB) as server:
        environment = world.github(server, event)
        world.colleague.replace("params.yaml", "brightness: 100", "brightness: 150")
        worse = world.push("try")
        ci = world.clone(worse, **environment)
        done = call(ci, "retrain.py")
        assert done.code == 1, done.output
        assert stages_run(done) == ["evaluate", "export"]
        assert "dvc pull data/raw/squares" in done.output, "evaluate reads the images, though preprocess did not run"
        assert (world.tip("try"), server.statuses[-1]["state"]) == (worse, "failure")
        (comment,) = server.comments
        assert "## Retrained: it may not land" in comment["body"]
        assert "| AP since `origin/main` | −0." in comment["body"]
        assert "[This run](https://forge.example/team/app/actions/runs/5)" in comment["body"]

        # Mended: the same comment, now with pictures of the commit that landed. Nobody is told to skip its tests.
        # The remote comes from a secret this time.
        config = world.colleague.read(".dvc/config")
        (world.colleague.root / ".dvc/config").write_text("")
        world.colleague.replace("params.yaml", "brightness: 150", "brightness: 90")
        mended = world.push("try")
        ci = world.clone(mended, **environment, DVC_CONFIG_LOCAL=config)
        done = call(ci, "retrain.py")
        assert not (ci.root / ".dvc/config.local").exists()
        landed = world.tip("try")
        assert (done.code, world.remote.git("rev-parse", "try~1").strip()) == (0, mended), done.output
        assert [row["id"] for row in server.comments] == [comment["id"]]
        text = server.comments[0]["body"]
        assert f"## Retrained: passed, committed as {landed[:10]}" in text
        assert f"https://forge.example/team/app/raw/{landed}/plots/evaluate/last.png" in text
        assert (server.statuses[-1]["sha"], server.statuses[-1]["state"]) == (landed, "success")
        assert "skip" not in world.remote.git("log", "-1", "--format=%B", "try")
        assert world.tip("main") not in (landed, mended)


def test_a_run_that_breaks_off_is_told(world):
    (world.colleague.root / ".dvc/config").write_text("[core]\n    analytics = false\n")
    broken = world.push("try")
    event = {"pull_request": {"number": 7, "head": {"ref": "try", "repo": {"full_name": "team/app"}},
                              "base": {"ref": "main"}}}  # fmt: skip
    with fake_forge.serving(fake_forge.GITHUB) as server:
        done = call(world.clone(broken, **world.github(server, event)), "retrain.py")
        assert done.code == 1
        assert "error: there is no DVC remote to take data from" in done.output
        assert "## Retrained: it broke off" in server.comments[0]["body"]
        assert "there is no DVC remote to take data from" in server.comments[0]["body"]
        assert (server.statuses[-1]["sha"], server.statuses[-1]["state"]) == (broken, "failure")
    assert world.tip("try") == broken


def test_a_result_of_changes_that_are_in_no_commit_is_refused(world):
    ci = world.clone("main")
    ci.replace("params.yaml", "brightness: 100", "brightness: 90")
    done = call(ci, "retrain.py")
    assert (done.code, "there are changes that are not committed" in done.output) == (1, True)


def test_a_fork_is_left_alone(world):
    event = {"pull_request": {"number": 7, "head": {"ref": "try", "repo": {"full_name": "stranger/app"}},
                              "base": {"ref": "main"}}}  # fmt: skip
    done = call(world.clone("main", **world.github(None, event)), "retrain.py")
    assert done.code == 0
    assert done.output.startswith("A pull request from a fork gets no secrets")


def test_reproducing_is_silent_until_it_fails_and_tells_once(world):
    """An issue of last time is closed; then another machine computes boxes so far off that the intervals are left."""
    with fake_forge.serving(fake_forge.GITHUB) as server:
        server.issues.append({"id": 1, "number": 1, "body": f"{reproduce.MARKER}\nIt differs.", "state": "open"})
        ci = world.clone("main", **world.github(server, {}))
        done = call(ci, "reproduce.py")
        assert done.code == 0, done.output
        assert done.output.endswith("Every file is the same to the byte.\nThe open issue is closed.\n")
        assert stages_run(done) == ["preprocess", "evaluate", "export"]
        assert [issue["state"] for issue in server.issues] == ["closed"]

        ci.environment["OTHER_MACHINE"] = "9"
        done = call(ci, "reproduce.py")
        assert done.code == 1
        (_, issue) = server.issues
        assert issue["title"] == "The committed results do not reproduce"
        old = json.loads(ci.git("show", "HEAD:metrics/evaluate.json"))
        interval = f"| AP | {old['AP']:.3f} ({old['AP_low']:.3f} to {old['AP_high']:.3f}) | 0."
        assert interval in issue["body"], issue["body"]
        assert "- `dvc.lock`" in issue["body"]
        assert "there are changes in" in call(ci, "reproduce.py").output, "it compares with a clean checkout"


def test_what_cannot_be_compared_does_not_pass(world, monkeypatch):
    """The whole test set is replaced: nobody can say whether the detector is worse."""
    monkeypatch.chdir(world.colleague.root)
    truth = json.loads(world.colleague.read("data/coco/test.json"))
    for image in truth["images"]:
        image["content"] += " of another camera"
    path = world.colleague.root / "data/coco/test.json"
    path.unlink()
    path.write_text(json.dumps(truth))
    verdict = gate.judge("HEAD")
    assert [check.name for check in verdict.checks if not check.passed] == ["change since `HEAD`"]
    assert "no test image in common" in verdict.checks[1].found
