"""A world for CI on this machine: remotes, a colleague who pushes, and clones in which the workflows' scripts run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from ci_steps import SECRETS
from tests.support import fake_forge
from tests.support.fake_forge import FakeForge
from tests.support.repository import Repository

IMAGES = 40  # in the dataset at first


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
            "CI": "true",
            **({"GITHUB_API_URL": server.api, "GITHUB_TOKEN": fake_forge.TOKEN} if server else {"GITHUB_API_URL": ""}),
        }  # fmt: skip


def run_script(clone: Repository, tool: str) -> ScriptResult:
    """Run the steps as the workflow does: `run` without secrets, and not after a failure, `publish` in any case."""
    if "CI" not in clone.environment:
        return run_step(clone, tool)
    fetched = run_step(clone, tool, "fetch")
    without = {name: text for name, text in clone.environment.items() if name not in SECRETS}
    ran = ScriptResult(1, "")
    if not fetched.code:
        ran = run_step(Repository(clone.root, without), tool, "run")
    published = run_step(clone, tool, "publish")
    return ScriptResult(fetched.code or ran.code or published.code, fetched.output + ran.output + published.output)


def run_step(clone: Repository, tool: str, *step: str) -> ScriptResult:
    """Run a script, or one step of it."""
    process = subprocess.run(
        [sys.executable, f"tools/{tool}", *step],
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
