"""Bringing a result into git: one commit of what the pipeline wrote, on top of whatever the branch is by then."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from detector.core.errors import UserError
from git_commands import git, git_or_none

# A push that changes one of these starts the workflows (a test compares), so a result that was computed without such
# a change is never laid over it: that run brings its own. Everything that a result depends on is among them.
INPUTS = (
    "data/**/*", "stages/**/*", "params.yaml", "requirements.txt", "dvc.yaml", "gate.yaml",
    "dvc.lock", "split.lock", "metrics/**/*", "plots/**/*",
)  # fmt: skip
RESULTS = ("dvc.lock", "split.lock", "metrics", "plots")  # what a commit of a result may hold
BOT = {"NAME": "Retraining", "EMAIL": "retraining-bot@noreply.invalid"}
TRAILER = "Retrained-On"
ATTEMPTS = 5


class NewerInputs(Exception):
    """The branch has moved on to other data, code or parameters; the message says to which."""


class Checkout(NamedTuple):
    """The repository that this process works in. address: of the remote, without a password; branch: on it.

    start: hash of the commit that the result is computed from; login: variables for git that let it in there;
    push_options: for `git push`.
    """

    address: str
    branch: str
    start: str
    login: dict[str, str]
    push_options: tuple[str, ...] = ()

    def check_newer(self) -> str:
        """The branch's newest commit, to build upon. Raises NewerInputs when its result would be another."""
        tip = self.fetch(self.branch)
        if git_or_none("merge-base", "--is-ancestor", self.start, tip) is None:
            raise NewerInputs(f"{self.branch} was rewritten to {tip[:10]}, which has no {self.start[:10]}")
        changed = git("diff", "--name-only", "--no-renames", "-z", self.start, tip)
        inputs = [path for path in changed.split("\0") if is_input(path)]
        if inputs:
            raise NewerInputs(f"{self.branch} has moved on to {tip[:10]}, which changes {', '.join(inputs[:5])}"
                              + (f" and {len(inputs) - 5} more" if len(inputs) > 5 else ""))  # fmt: skip
        return tip

    def fetch(self, branch: str) -> str:
        """Bring a branch of the remote here, as origin/…; its newest commit."""
        place = f"refs/remotes/origin/{branch}"
        git("fetch", "--quiet", "--no-tags", self.address, f"+refs/heads/{branch}:{place}", extra=self.login)
        return git("rev-parse", place)

    def land(self, message: str) -> str | None:
        """Commit the result and push it; the new commit, or None when the branch has this result already.

        Somebody may push meanwhile: the same result is then laid onto their commit and pushed again. Raises
        NewerInputs when theirs has a result of its own, UserError when the remote refuses.
        """
        refusal = ""
        tip = ""
        for _ in range(ATTEMPTS):
            before, tip = tip, self.check_newer()
            if tip == before:
                break  # refused, though nobody was faster
            commit = commit_of_results(tip, message)
            if commit is None:
                return None
            pushed = subprocess.run(
                ["git", "push", "--quiet", *self.push_options, self.address, f"{commit}:refs/heads/{self.branch}"],
                env=os.environ | self.login, capture_output=True, text=True, check=False,
            )  # fmt: skip
            if pushed.returncode == 0:
                git("update-ref", f"refs/remotes/origin/{self.branch}", commit)
                return commit
            refusal = pushed.stderr.strip()
        raise UserError(f"the result cannot be pushed to {self.branch}: {refusal}")


def address_of(remote: str) -> str:
    """Where a remote lies, without the user and password that a runner may have put into it. Raises UserError."""
    address = git("remote", "get-url", remote)
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https"):
        return address
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def is_input(path: str) -> bool:
    """Whether a file is one of INPUTS."""
    return any(path.startswith(entry[:-4]) if entry.endswith("/**/*") else path == entry for entry in INPUTS)


def is_own(commit: str) -> bool:
    """Whether a commit is the bot's and still stands on the commit that it was computed on.

    One that was moved elsewhere, by a rebase or a squash, has a result that may be out of date there.
    """
    shown = git("log", "-1", f"--format=%ae%n%P%n%(trailers:key={TRAILER},valueonly)", commit)
    author, parent, on, *_ = [*shown.split("\n"), "", ""]
    return author == BOT["EMAIL"] and parent == on.strip() != ""


def commit_of_results(parent: str, message: str) -> str | None:
    """A commit on top of `parent` that differs from it in RESULTS only; None when there is no difference.

    Neither the working tree nor the branch that is checked out is touched.
    """
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        git("read-tree", parent, extra=index)
        tracked = git("ls-tree", "--name-only", parent).split("\n")
        git("add", "--all", "--", *(path for path in RESULTS if path in tracked or Path(path).exists()), extra=index)
        tree = git("write-tree", extra=index)
    if tree == git("rev-parse", f"{parent}^{{tree}}"):
        return None
    names = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in BOT.items()}
    text = f"{message}\n\n{TRAILER}: {parent}"
    return git("commit-tree", tree, "-p", parent, "-m", text, extra=names)
