"""Commits a result: one commit with the pipeline's outputs, on top of the branch's newest commit."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from detector.core.errors import UserError
from git_commands import git, git_or_none

# All that a result depends on. A push that changes one of these starts the workflows (a test compares the lists), so a
# result computed without such a change is never committed on top of it: that push's run commits its own.
INPUTS = (
    "data/**/*", "stages/**/*", "params.yaml", "versions.yaml", "requirements.txt", "dvc.yaml", "gate.yaml",
    "dvc.lock", "split.lock", "metrics/**/*", "plots/**/*",
)  # fmt: skip
RESULTS = ("dvc.lock", "split.lock", "metrics", "plots")  # the only paths in a result's commit
BOT = {"NAME": "Retraining", "EMAIL": "retraining-bot@noreply.invalid"}
MAX_ATTEMPTS = 5


class NewerInputs(Exception):
    """The branch now has other data, code or parameters; the message says which."""


class Checkout(NamedTuple):
    """The repository in the working directory.

    remote_url: without a password. branch: the remote branch that gets the result. start: SHA of the commit that the
    result is computed from. auth: environment variables for git's access to the remote. push_options: for `git push`.
    """

    remote_url: str
    branch: str
    start: str
    auth: dict[str, str]
    push_options: tuple[str, ...] = ()

    def check_for_newer_inputs(self) -> str:
        """Fetch and return the branch's newest commit. Raises NewerInputs if it changes the inputs."""
        tip = self.fetch(self.branch)
        if git_or_none("merge-base", "--is-ancestor", self.start, tip) is None:
            raise NewerInputs(f"{self.branch} was rewritten to {tip[:10]}, which does not contain {self.start[:10]}")
        changed = git("diff", "--name-only", "--relative", "--no-renames", "-z", self.start, tip)
        inputs = [path for path in changed.split("\0") if is_input(path)]
        if inputs:
            paths = ", ".join(inputs[:5]) + (f" and {len(inputs) - 5} more" if len(inputs) > 5 else "")
            raise NewerInputs(f"{self.branch} is now at {tip[:10]}, which changes {paths}")
        return tip

    def fetch(self, branch: str) -> str:
        """Fetch a branch as origin/{branch} and return its newest commit."""
        ref = f"refs/remotes/origin/{branch}"
        git("fetch", "--quiet", "--no-tags", self.remote_url, f"+refs/heads/{branch}:{ref}", environment=self.auth)
        return git("rev-parse", ref)

    def commit_and_push(self, message: str) -> str | None:
        """Commit and push the result; returns the new commit, or None if the branch already has this result.

        If someone else pushes in the meantime, the result is committed on top of theirs and pushed again. Raises
        NewerInputs if their commit changes the inputs, UserError if the remote rejects the push.
        """
        rejection = ""
        tip = ""
        for _ in range(MAX_ATTEMPTS):
            before, tip = tip, self.check_for_newer_inputs()
            if tip == before:
                break  # rejected although nobody else has pushed
            commit = commit_results(tip, message)
            if commit is None:
                return None
            command = ["git", "push", "--quiet", *self.push_options]
            command += [self.remote_url, f"{commit}:refs/heads/{self.branch}"]
            environment = os.environ | self.auth
            push = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if push.returncode == 0:
                git("update-ref", f"refs/remotes/origin/{self.branch}", commit)
                return commit
            rejection = push.stderr.strip()
        raise UserError(f"cannot push the result to {self.branch}: {rejection}")


def read_remote_url(remote: str) -> str:
    """The URL of a git remote, without a user name and password that a runner may have added. Raises UserError."""
    url = git("remote", "get-url", remote)
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        return url
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def is_input(path: str) -> bool:
    """Whether a file matches INPUTS."""
    return any(path.startswith(entry[:-4]) if entry.endswith("/**/*") else path == entry for entry in INPUTS)


def commit_results(parent: str, message: str) -> str | None:
    """Commit RESULTS on top of `parent`; returns the commit, or None if nothing has changed.

    The working tree and the checked-out branch are left as they are.
    """
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        git("read-tree", parent, environment=index)
        tracked = git("ls-tree", "--name-only", parent).split("\n")
        results = [path for path in RESULTS if path in tracked or Path(path).exists()]
        git("add", "--all", "--", *results, environment=index)
        tree = git("write-tree", environment=index)
    if tree == git("rev-parse", f"{parent}^{{tree}}"):
        return None
    names = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in BOT.items()}
    return git("commit-tree", tree, "-p", parent, "-m", message, environment=names)
