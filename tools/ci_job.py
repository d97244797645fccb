"""What the environment says about the job that runs: which forge, which branch, which request."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ci_forge import GITHUB, GITLAB, Forge
from detector.core.errors import UserError

SECRETS = ("GITHUB_TOKEN", "GITLAB_TOKEN", "CI_JOB_TOKEN", "DVC_CONFIG_LOCAL")  # which no stage gets to see
NOWHERE = "0" * 40  # how a forge writes that there was no commit before


class Job(NamedTuple):
    """branch: whose result this is; base: the revision that the result is compared with, "" for HEAD.

    request: number of the pull or merge request, None for a push; fork: it comes from another repository.
    pages: address of the run; files: address below which a commit's files are shown, to be followed by its hash.
    login: name and token for git, None where git knows them already; summary: file of Markdown that the forge shows.
    push_options: for git, so that the push of a result starts nothing; GitHub starts nothing for its own token anyway.
    """

    forge: Forge | None
    branch: str
    base: str
    request: int | None = None
    fork: bool = False
    page: str = ""
    files: str = ""
    login: tuple[str, str] | None = None
    summary: Path | None = None
    push_options: tuple[str, ...] = ()


def job_of(environment: Mapping[str, str], branch: str) -> Job:
    """The job on GitHub or GitLab, or of a person at a keyboard, who is on `branch`. Raises UserError."""
    if environment.get("GITHUB_ACTIONS") == "true":
        return _github(environment)
    if environment.get("GITLAB_CI") == "true":
        return _gitlab(environment)
    return Job(None, branch, "")


def _github(environment: Mapping[str, str]) -> Job:
    event: dict[str, Any] = json.loads(Path(environment["GITHUB_EVENT_PATH"]).read_text(encoding="utf-8"))
    project, server = environment["GITHUB_REPOSITORY"], environment["GITHUB_SERVER_URL"]
    token = environment.get("GITHUB_TOKEN", "")
    headers = {
        "Authorization": f"Bearer {token}",
        "Accept": "application/vnd.github+json",
        "X-GitHub-Api-Version": "2022-11-28",
    }
    job = Job(
        Forge(GITHUB, environment["GITHUB_API_URL"], project, headers) if token else None,
        environment["GITHUB_REF_NAME"],
        _before(event.get("before")),
        page=f"{server}/{project}/actions/runs/{environment['GITHUB_RUN_ID']}",
        files=f"{server}/{project}/raw",
        login=("x-access-token", token) if token else None,
        summary=Path(environment["GITHUB_STEP_SUMMARY"]) if environment.get("GITHUB_STEP_SUMMARY") else None,
    )
    request = event.get("pull_request")
    if request is None:
        return job
    head = request["head"]
    return job._replace(
        branch=head["ref"],
        base=f"origin/{request['base']['ref']}",
        request=int(request["number"]),
        fork=(head["repo"] or {}).get("full_name") != project,  # null: the fork is gone
    )


def _gitlab(environment: Mapping[str, str]) -> Job:
    token = environment.get("GITLAB_TOKEN", "")
    project = environment["CI_PROJECT_ID"]
    job = Job(
        Forge(GITLAB, environment["CI_API_V4_URL"], project, {"PRIVATE-TOKEN": token}) if token else None,
        environment.get("CI_COMMIT_BRANCH", ""),
        _before(environment.get("CI_COMMIT_BEFORE_SHA")),
        page=environment["CI_JOB_URL"],
        files=f"{environment['CI_PROJECT_URL']}/-/raw",
        login=("oauth2", token) if token else None,
        push_options=("--push-option=ci.skip",),
    )
    if environment.get("CI_PIPELINE_SOURCE") != "merge_request_event":
        return job
    if environment.get("CI_MERGE_REQUEST_EVENT_TYPE", "detached") != "detached":
        raise UserError("this pipeline is of a merged result, which is no commit of the branch: switch `merged results "
                        "pipelines` off in the project's settings, or retrain in branch pipelines only")  # fmt: skip
    return job._replace(
        branch=environment["CI_MERGE_REQUEST_SOURCE_BRANCH_NAME"],
        base=f"origin/{environment['CI_MERGE_REQUEST_TARGET_BRANCH_NAME']}",
        request=int(environment["CI_MERGE_REQUEST_IID"]),
        fork=environment["CI_MERGE_REQUEST_SOURCE_PROJECT_ID"] != project,
    )


def _before(sha: str | None) -> str:
    return "" if sha is None or sha == NOWHERE else sha


def git_login(login: tuple[str, str] | None, address: str) -> dict[str, str]:
    """Variables with which git sends name and token to that address, and to no other; none for a folder or SSH."""
    if login is None or not address.startswith(("https://", "http://")):
        return {}
    coded = base64.b64encode(":".join(login).encode()).decode()
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"http.{address}.extraHeader",
        "GIT_CONFIG_VALUE_0": f"Authorization: Basic {coded}",
        "GIT_TERMINAL_PROMPT": "0",
    }
