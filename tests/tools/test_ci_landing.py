"""Commits of results in real repositories with a bare remote, while others push too."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

import ci_landing
from ci_landing import BOT, Checkout, NewerInputs, is_input, is_own
from detector.core.errors import UserError
from tests.support.repository import Repository, environment_for

FILES = {"README.md": "a\n", "params.yaml": "a: 1\n", "dvc.lock": "old\n", "metrics/evaluate.json": "1\n",
         "metrics/gone.json": "1\n", "data/raw/sample.dvc": "1\n"}  # fmt: skip


class Place:
    """A bare remote, a colleague's clone, and the clone in which CI works."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        environment = environment_for(folder / "settings")
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        self.colleague = Repository(folder / "colleague", environment)
        self.colleague.root.mkdir()
        self.colleague.git("init", "--quiet", "--initial-branch=main")
        write(self.colleague.root, FILES)
        self.colleague.commit()
        self.colleague.git("clone", "--quiet", "--bare", ".", str(folder / "origin.git"))
        self.remote = Repository(folder / "origin.git", environment)
        self.colleague.git("remote", "add", "origin", str(self.remote.root))
        self.ci = self.remote.clone(folder / "ci")
        monkeypatch.chdir(self.ci.root)
        self.checkout = Checkout(str(self.remote.root), "main", self.tip(), {})

    def push(self, files: dict[str, str]) -> None:
        """A colleague's commit on the remote."""
        write(self.colleague.root, files)
        self.colleague.commit()
        self.colleague.git("push", "--quiet", "origin", "main")

    def tip(self) -> str:
        """The remote's newest commit."""
        return self.remote.git("rev-parse", "main").strip()

    def show(self, path: str) -> str:
        """A file there."""
        return self.remote.git("show", f"main:{path}")


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.fixture
def place(tmp_path, monkeypatch) -> Place:
    return Place(tmp_path, monkeypatch)


def compute(place: Place) -> None:
    """What the pipeline would leave in CI's clone, and a file that is none of its results."""
    write(
        place.ci.root, {"dvc.lock": "new\n", "metrics/evaluate.json": "2\n", "plots/new.json": "1\n", "stray.txt": "?"}
    )
    (place.ci.root / "metrics/gone.json").unlink()
    place.ci.replace("README.md", "a", "changed by accident")


def test_a_result_is_one_commit_of_results_only(place):
    compute(place)
    commit = place.checkout.land("Retrain")
    assert commit == place.tip()
    changed = place.remote.git("show", "--format=", "--name-status", "--no-renames", "main").split()
    assert changed == ["M", "dvc.lock", "M", "metrics/evaluate.json", "D", "metrics/gone.json", "A", "plots/new.json"]
    assert place.remote.git("log", "-1", "--format=%an %ae", "main").strip() == f"{BOT['NAME']} {BOT['EMAIL']}"
    assert is_own(commit)
    assert place.ci.read("README.md") == "changed by accident\n", "the working tree should be left alone"


def test_the_same_result_again_is_no_commit(place):
    before = place.tip()
    assert place.checkout.land("Retrain") is None
    assert place.tip() == before


def test_a_harmless_commit_of_somebody_else_is_built_upon(place):
    compute(place)
    place.push({"README.md": "b\n", "docs/new.md": "b\n"})
    theirs = place.tip()
    commit = place.checkout.land("Retrain")
    assert commit == place.tip()
    assert place.remote.git("rev-parse", "main~1").strip() == theirs
    assert (place.show("README.md"), place.show("dvc.lock")) == ("b\n", "new\n")
    assert is_own(commit)


def hook(repository: Path, name: str, text: str) -> None:
    """A script that git runs at that moment, the first time only."""
    path = repository / "hooks" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\nset -e\nunset GIT_DIR GIT_INDEX_FILE\nrm -f {path}\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_somebody_is_faster_in_the_very_moment(place):
    """They push after CI has fetched, and while its push is under way."""
    compute(place)
    write(place.colleague.root, {"README.md": "b\n"})
    place.colleague.commit()
    hook(place.ci.root / ".git", "pre-push", f"git -C {place.colleague.root} push --quiet origin main")
    commit = place.checkout.land("Retrain")
    assert commit == place.tip()
    assert (place.show("README.md"), place.show("dvc.lock")) == ("b\n", "new\n")


@pytest.mark.parametrize("path", ["data/raw/sample.dvc", "params.yaml", "dvc.lock", "stages/new.py"])
def test_newer_inputs_are_never_written_over(place, path):
    compute(place)
    write(place.colleague.root, {path: "theirs\n"})
    place.colleague.commit()
    theirs = place.colleague.git("rev-parse", "HEAD").strip()
    hook(place.ci.root / ".git", "pre-push", f"git -C {place.colleague.root} push --quiet origin main")
    with pytest.raises(NewerInputs, match=f"main has moved on to {theirs[:10]}, which changes {path}"):
        place.checkout.land("Retrain")
    assert place.tip() == theirs


def test_a_rewritten_branch_is_left_alone(place):
    compute(place)
    place.colleague.git("commit", "--quiet", "--amend", "--message", "Another")
    place.colleague.git("push", "--quiet", "--force", "origin", "main")
    with pytest.raises(NewerInputs, match="main was rewritten"):
        place.checkout.land("Retrain")


def test_a_refusal_is_told_and_not_tried_again(place):
    compute(place)
    hook(place.remote.root, "pre-receive", "echo 'main is protected'; exit 1")
    with pytest.raises(UserError, match=r"cannot be pushed to main: (.|\n)*main is protected"):
        place.checkout.land("Retrain")


def test_push_options_reach_the_remote(place):
    compute(place)
    place.remote.git("config", "receive.advertisePushOptions", "true")
    hook(place.remote.root, "pre-receive", 'echo "$GIT_PUSH_OPTION_0" > seen')
    place.checkout._replace(push_options=("--push-option=ci.skip",)).land("Retrain")
    assert place.remote.read("seen") == "ci.skip\n"


def test_only_an_own_commit_in_its_place_is_own(place):
    """One that a rebase or a squash moved onto other data has a result that may be out of date."""
    assert not is_own(place.tip())
    compute(place)
    commit = place.checkout.land("Retrain")
    assert is_own(commit)
    place.ci.git("clean", "--quiet", "--force", "-d")
    place.ci.git("checkout", "--quiet", "--force", "--detach", place.checkout.start)
    write(place.ci.root, {"data/raw/sample.dvc": "2\n"})
    place.ci.git("commit", "--quiet", "--all", "--message", "Data")
    place.ci.git("cherry-pick", commit)
    assert place.ci.git("log", "-1", "--format=%ae").strip() == BOT["EMAIL"]
    assert not is_own("HEAD")


def test_what_is_an_input():
    assert all(map(is_input, ["data/decisions.csv", "data/raw/a/b.dvc", "dvc.lock", "stages/detector/core/boxes.py"]))
    assert not any(map(is_input, ["README.md", "docs/data/x.md", "dvc.lock.bak", "tools/gate.py", "database/x"]))


def test_the_address_has_no_password(place):
    place.ci.git("remote", "set-url", "origin", "https://gitlab-ci-token:secret@forge.example:8443/team/app.git")
    assert ci_landing.address_of("origin") == "https://forge.example:8443/team/app.git"
    place.ci.git("remote", "set-url", "origin", "git@forge.example:team/app.git")
    assert ci_landing.address_of("origin") == "git@forge.example:team/app.git"
