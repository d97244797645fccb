"""Committing results in real repositories with a bare remote, while others push too."""

from __future__ import annotations

import stat
from pathlib import Path, PurePosixPath

import pytest

import ci_commit
from ci_commit import BOT, Checkout, NewerInputs, is_input
from detector.core.errors import UserError
from tests.support.repository import Repository, environment_for

FILES = {"README.md": "a\n", "params.yaml": "a: 1\n", "dvc.lock": "old\n", "metrics/evaluate.json": "1\n",
         "metrics/gone.json": "1\n", "data/raw/sample.dvc": "1\n"}  # fmt: skip


class Repositories:
    """A bare remote, a colleague's clone, and CI's clone, in which `project` is the working directory."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, project: str) -> None:
        self.project = project
        environment = environment_for(folder / "settings")
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        self.colleague = Repository(folder / "colleague", environment)
        self.colleague.root.mkdir()
        self.colleague.git("init", "--quiet", "--initial-branch=main")
        write(self.colleague.root / project, FILES)
        self.colleague.commit()
        self.colleague.git("clone", "--quiet", "--bare", ".", str(folder / "origin.git"))
        self.remote = Repository(folder / "origin.git", environment)
        self.colleague.git("remote", "add", "origin", str(self.remote.root))
        self.ci = self.remote.clone(folder / "ci")
        monkeypatch.chdir(self.ci.root / project)
        self.checkout = Checkout(str(self.remote.root), "main", self.tip(), {})

    def push(self, files: dict[str, str]) -> None:
        """Commit the files in the colleague's clone and push them."""
        write(self.colleague.root / self.project, files)
        self.colleague.commit()
        self.colleague.git("push", "--quiet", "origin", "main")

    def tip(self) -> str:
        """The remote's newest commit."""
        return self.remote.git("rev-parse", "main").strip()

    def show(self, path: str) -> str:
        """A file on the remote's main branch."""
        return self.remote.git("show", f"main:{PurePosixPath(self.project, path)}")


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.fixture(params=["", "detectors/bolts"], ids=["root", "folder"])
def repositories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Repositories:
    """The project is git's root, or a folder of a larger repository."""
    return Repositories(tmp_path, monkeypatch, request.param)


def write_results(repositories: Repositories) -> None:
    """Write the pipeline's outputs to CI's clone, and a file that is not one of them."""
    files = {"dvc.lock": "new\n", "metrics/evaluate.json": "2\n", "plots/new.json": "1\n", "stray.txt": "?"}
    write(Path(), files)
    Path("metrics/gone.json").unlink()
    Path("README.md").write_text("changed by accident\n")


def test_the_commit_holds_the_results_only(repositories: Repositories) -> None:
    write_results(repositories)
    commit = repositories.checkout.commit_and_push("Retrain")
    assert commit == repositories.tip()
    show = ("show", "--format=", "--name-status", "--no-renames", f"--relative={repositories.project}")
    changed = repositories.remote.git(*show, "main").split()
    assert changed == ["M", "dvc.lock", "M", "metrics/evaluate.json", "D", "metrics/gone.json", "A", "plots/new.json"]
    assert repositories.remote.git("log", "-1", "--format=%an %ae", "main").strip() == f"{BOT['NAME']} {BOT['EMAIL']}"
    assert Path("README.md").read_text() == "changed by accident\n", "the working tree should be left alone"


def test_an_unchanged_result_is_not_committed(repositories: Repositories) -> None:
    before = repositories.tip()
    assert repositories.checkout.commit_and_push("Retrain") is None
    assert repositories.tip() == before


def test_someone_elses_commit_without_inputs_is_kept(repositories: Repositories) -> None:
    write_results(repositories)
    repositories.push({"README.md": "b\n", "docs/new.md": "b\n"})
    theirs = repositories.tip()
    commit = repositories.checkout.commit_and_push("Retrain")
    assert commit == repositories.tip()
    assert repositories.remote.git("rev-parse", "main~1").strip() == theirs
    assert (repositories.show("README.md"), repositories.show("dvc.lock")) == ("b\n", "new\n")


def hook(repository: Path, name: str, text: str) -> None:
    """Install a git hook that runs once."""
    path = repository / "hooks" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\nset -e\nunset GIT_DIR GIT_INDEX_FILE\nrm -f {path}\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_someone_pushes_between_fetch_and_push(repositories: Repositories) -> None:
    """The push is rejected and repeated on top of theirs."""
    write_results(repositories)
    write(repositories.colleague.root / repositories.project, {"README.md": "b\n"})
    repositories.colleague.commit()
    hook(repositories.ci.root / ".git", "pre-push", f"git -C {repositories.colleague.root} push --quiet origin main")
    commit = repositories.checkout.commit_and_push("Retrain")
    assert commit == repositories.tip()
    assert (repositories.show("README.md"), repositories.show("dvc.lock")) == ("b\n", "new\n")


@pytest.mark.parametrize("path", ["data/raw/sample.dvc", "params.yaml", "dvc.lock", "stages/new.py"])
def test_newer_inputs_are_never_overwritten(repositories: Repositories, path: str) -> None:
    write_results(repositories)
    write(repositories.colleague.root / repositories.project, {path: "theirs\n"})
    repositories.colleague.commit()
    theirs = repositories.colleague.git("rev-parse", "HEAD").strip()
    hook(repositories.ci.root / ".git", "pre-push", f"git -C {repositories.colleague.root} push --quiet origin main")
    with pytest.raises(NewerInputs, match=f"{theirs[:10]}.* {path}"):
        repositories.checkout.commit_and_push("Retrain")
    assert repositories.tip() == theirs


def test_a_rewritten_branch_is_left_alone(repositories: Repositories) -> None:
    write_results(repositories)
    repositories.colleague.git("commit", "--quiet", "--amend", "--message", "Another")
    repositories.colleague.git("push", "--quiet", "--force", "origin", "main")
    with pytest.raises(NewerInputs, match="main was rewritten"):
        repositories.checkout.commit_and_push("Retrain")


def test_a_rejected_push_is_not_repeated(repositories: Repositories) -> None:
    write_results(repositories)
    hook(repositories.remote.root, "pre-receive", "echo 'main is protected'; exit 1")
    with pytest.raises(UserError, match=r"main: (.|\n)*main is protected"):
        repositories.checkout.commit_and_push("Retrain")


def test_push_options_reach_the_remote(repositories: Repositories) -> None:
    write_results(repositories)
    repositories.remote.git("config", "receive.advertisePushOptions", "true")
    hook(repositories.remote.root, "pre-receive", 'echo "$GIT_PUSH_OPTION_0" > seen')
    repositories.checkout._replace(push_options=("--push-option=ci.skip",)).commit_and_push("Retrain")
    assert repositories.remote.read("seen") == "ci.skip\n"


def test_inputs_match_by_path() -> None:
    assert all(map(is_input, ["data/decisions.csv", "data/raw/a/b.dvc", "dvc.lock", "stages/detector/core/boxes.py"]))
    assert not any(map(is_input, ["README.md", "docs/data/x.md", "dvc.lock.bak", "tools/gate.py", "database/x"]))


def test_the_remote_url_has_no_password(repositories: Repositories) -> None:
    repositories.ci.git("remote", "set-url", "origin", "https://gitlab-ci-token:secret@forge.example:8443/team/app.git")
    assert ci_commit.read_remote_url("origin") == "https://forge.example:8443/team/app.git"
    repositories.ci.git("remote", "set-url", "origin", "git@forge.example:team/app.git")
    assert ci_commit.read_remote_url("origin") == "git@forge.example:team/app.git"
