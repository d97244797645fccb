"""The CI job, read from the environment: forge, branch and pull request."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ci_forge import GITHUB, GITLAB, Forge
from detector.core.errors import UserError

NULL_SHA = "0" * 40  # a forge's SHA for "no previous commit"


class CIJob(NamedTuple):
    """A run on GitHub, GitLab or a person's machine.

    branch: the one to retrain. base: the revision that the result is compared with, "" for HEAD. pull_request: number
    of the pull or merge request, None for a push. from_fork: whether it comes from another repository. run_url: the
    run's page. files_url: URL that shows a file when the commit's SHA and the path are appended. credentials: user
    name and token for git, None if git has its own. summary_file: Markdown file that the forge shows. push_options:
    for `git push`, to start no pipeline; GitHub starts none for pushes with its own token.
    """

    forge: Forge | None
    branch: str
    base: str
    pull_request: int | None = None
    from_fork: bool = False
    run_url: str = ""
    files_url: str = ""
    credentials: tuple[str, str] | None = None
    summary_file: Path | None = None
    push_options: tuple[str, ...] = ()


def read_job(environment: Mapping[str, str], branch: str) -> CIJob:
    """The job on GitHub or GitLab; elsewhere, that of a person on `branch`. Raises UserError."""
    if environment.get("GITHUB_ACTIONS") == "true":
        return _read_github_job(environment)
    if environment.get("GITLAB_CI") == "true":
        return _read_gitlab_job(environment)
    return CIJob(None, branch, "")


def _read_github_job(environment: Mapping[str, str]) -> CIJob:
    event: dict[str, Any] = json.loads(Path(environment["GITHUB_EVENT_PATH"]).read_text(encoding="utf-8"))
    project, server = environment["GITHUB_REPOSITORY"], environment["GITHUB_SERVER_URL"]
    token = environment.get("GITHUB_TOKEN", "")
    headers = {
        "Authorization": f"Bearer {token}",
        "Accept": "application/vnd.github+json",
        "X-GitHub-Api-Version": "2022-11-28",
    }
    job = CIJob(
        Forge(GITHUB, environment["GITHUB_API_URL"], project, headers) if token else None,
        environment["GITHUB_REF_NAME"],
        _previous_commit(event.get("before")),
        run_url=f"{server}/{project}/actions/runs/{environment['GITHUB_RUN_ID']}",
        files_url=f"{server}/{project}/raw",
        credentials=("x-access-token", token) if token else None,
        summary_file=Path(environment["GITHUB_STEP_SUMMARY"]) if environment.get("GITHUB_STEP_SUMMARY") else None,
    )
    pull_request = event.get("pull_request")
    if pull_request is None:
        return job
    head = pull_request["head"]
    return job._replace(
        branch=head["ref"],
        base=f"origin/{pull_request['base']['ref']}",
        pull_request=int(pull_request["number"]),
        from_fork=(head["repo"] or {}).get("full_name") != project,  # null: the fork was deleted
    )


def _read_gitlab_job(environment: Mapping[str, str]) -> CIJob:
    token = environment.get("GITLAB_TOKEN", "")
    project = environment["CI_PROJECT_ID"]
    job = CIJob(
        Forge(GITLAB, environment["CI_API_V4_URL"], project, {"PRIVATE-TOKEN": token}) if token else None,
        environment.get("CI_COMMIT_BRANCH", ""),
        _previous_commit(environment.get("CI_COMMIT_BEFORE_SHA")),
        run_url=environment["CI_JOB_URL"],
        files_url=f"{environment['CI_PROJECT_URL']}/-/raw",
        credentials=("oauth2", token) if token else None,
        push_options=("--push-option=ci.skip",),
    )
    if environment.get("CI_PIPELINE_SOURCE") != "merge_request_event":
        return job
    if environment.get("CI_MERGE_REQUEST_EVENT_TYPE", "detached") != "detached":
        raise UserError(
            "this pipeline runs on a merged result, which is not a commit of the branch: disable `merged results "
            "pipelines` in the project's settings, or retrain in branch pipelines only"
        )
    return job._replace(
        branch=environment["CI_MERGE_REQUEST_SOURCE_BRANCH_NAME"],
        base=f"origin/{environment['CI_MERGE_REQUEST_TARGET_BRANCH_NAME']}",
        pull_request=int(environment["CI_MERGE_REQUEST_IID"]),
        from_fork=environment["CI_MERGE_REQUEST_SOURCE_PROJECT_ID"] != project,
    )


def _previous_commit(sha: str | None) -> str:
    return "" if sha is None or sha == NULL_SHA else sha


def git_auth_environment(credentials: tuple[str, str] | None, url: str) -> dict[str, str]:
    """Environment variables that make git send the credentials to `url` only; empty for a folder or SSH."""
    if credentials is None or not url.startswith(("https://", "http://")):
        return {}
    encoded = base64.b64encode(":".join(credentials).encode()).decode()
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"http.{url}.extraHeader",
        "GIT_CONFIG_VALUE_0": f"Authorization: Basic {encoded}",
        "GIT_TERMINAL_PROMPT": "0",
    }
