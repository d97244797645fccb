"""CI end to end on this machine: people push, the workflows' scripts run in fresh clones, results are committed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import reproduce
from ci_commit import BOT, RESULTS
from tests.support import fake_forge
from tests.support.ci_world import IMAGES, World, list_stages, run_script
from tests.support.repository import Repository
from tests.support.tiny_pipeline import DATASET, add_images


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

    # The bot's commit is on top of both and starts no CI run.
    assert world.remote.git("rev-parse", "main~1").strip() == unrelated
    log = world.remote.git("log", "-1", "--format=%ae%n%B", "main")
    assert log.startswith(f"{BOT['EMAIL']}\nRetrain [skip ci]\n")
    committed = world.remote.git("diff", "--name-only", "main~1", "main").split()
    assert {"dvc.lock", "split.lock", "metrics/evaluate.json"} <= set(committed)
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

    # On its own commit there is nothing to run and nothing to commit.
    tip = world.tip()
    again = run_script(world.clone(tip, **world.github(None, {"before": data})), "retrain.py")
    assert (again.code, list_stages(again)) == (0, []), again.output
    assert "nothing to commit" in again.output
    assert world.tip() == tip


def test_a_commit_in_the_bots_name_is_checked_as_any_other(world: World) -> None:
    """The recorded hashes decide whether a result is up to date, not an author's name."""
    before = world.tip()
    world.colleague.replace("params.yaml", "brightness: 100", "brightness: 150")
    world.colleague.git("add", "--all")
    forged = world.colleague.environment | {f"GIT_AUTHOR_{key}": value for key, value in BOT.items()}
    message = f"Retrain [skip ci]\n\nRetrained-On: {before}"
    Repository(world.colleague.root, forged).git("commit", "--quiet", "--message", message)
    world.colleague.git("push", "--quiet", "origin", "HEAD:main")
    result = run_script(world.clone(world.tip(), **world.github(None, {"before": before})), "retrain.py")
    assert (result.code, list_stages(result)) == (1, ["evaluate", "export"]), result.output
    assert "Gate failed" in result.output


def test_a_folder_of_a_larger_repository(world: World, tmp_path: Path) -> None:
    """Run, compare, commit: every path that git and DVC see is that of the folder."""
    origin, mono = tmp_path / "mono.git", Repository(tmp_path / "mono", world.colleague.environment)
    shutil.copytree(world.colleague.root, mono.root / "bolts", ignore=shutil.ignore_patterns(".git", ".dvc", "cache"))
    bolts = Repository(mono.root / "bolts", mono.environment)
    mono.git("init", "--quiet", "--initial-branch=main")
    bolts.dvc("init", "--quiet", "--subdir")
    shutil.copy(world.colleague.root / ".dvc/config", bolts.root / ".dvc/config")
    mono.commit()
    mono.git("clone", "--quiet", "--bare", ".", str(origin))
    bolts.replace("params.yaml", "brightness: 100", "brightness: 90")
    (mono.root / "elsewhere.txt").write_text("")
    mono.commit()
    mono.git("push", "--quiet", str(origin), "main")
    ci = Repository(tmp_path / "ci", mono.environment)
    mono.git("clone", "--quiet", str(origin), str(ci.root))
    result = run_script(Repository(ci.root / "bolts", mono.environment), "retrain.py")
    assert (result.code, list_stages(result)) == (0, ["evaluate"]), result.output
    assert "| AP change since " in result.output
    committed = Repository(origin, mono.environment).git("diff", "--name-only", "main~1", "main").split()
    assert "bolts/dvc.lock" in committed
    assert all(path.startswith("bolts/") for path in committed)


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
        assert (world.tip("try"), server.statuses[-1]["state"]) == (worse, "failure")
        (comment,) = server.comments
        assert "gate failed" in comment["body"].splitlines()[1]
        assert "| AP change since `origin/main` | −0." in comment["body"]
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
        assert f"| AP | {old['AP']:.3f} | 0." in issue["body"], issue["body"]
        assert "- `dvc.lock`" in issue["body"]
        assert "uncommitted changes" in run_script(ci, "reproduce.py").output, "it needs a clean checkout"
