"""Reading the job from GitHub's and GitLab's environments, and git's authentication."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from ci_job import NULL_SHA, CIJob, git_auth_environment, read_job
from detector.core.errors import UserError


def github(folder: Path, event: dict[str, Any], **more: str) -> CIJob:
    (folder / "event.json").write_text(json.dumps(event))
    environment = {
        "GITHUB_ACTIONS": "true", "GITHUB_REPOSITORY": "team/app", "GITHUB_SERVER_URL": "https://github.example",
        "GITHUB_API_URL": "https://api.github.example", "GITHUB_EVENT_PATH": str(folder / "event.json"),
        "GITHUB_REF_NAME": "main", "GITHUB_RUN_ID": "5", "GITHUB_TOKEN": "secret",
    }  # fmt: skip
    return read_job(environment | more, "")


def gitlab(**more: str) -> CIJob:
    environment = {
        "GITLAB_CI": "true", "CI_PROJECT_ID": "12", "CI_API_V4_URL": "https://gitlab.example/api/v4",
        "CI_PROJECT_URL": "https://gitlab.example/team/app", "CI_JOB_URL": "https://gitlab.example/team/app/-/jobs/5",
        "CI_PIPELINE_SOURCE": "push", "CI_COMMIT_BRANCH": "main", "GITLAB_TOKEN": "secret",
    }  # fmt: skip
    return read_job(environment | more, "")


MERGE = {
    "CI_PIPELINE_SOURCE": "merge_request_event",
    "CI_MERGE_REQUEST_IID": "7",
    "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": "try",
    "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main",
    "CI_MERGE_REQUEST_SOURCE_PROJECT_ID": "12",
    "CI_MERGE_REQUEST_EVENT_TYPE": "detached",
}


def pull_event(owner: str | None) -> dict[str, Any]:
    head = {"ref": "try", "repo": None if owner is None else {"full_name": f"{owner}/app"}}
    return {"pull_request": {"number": 7, "head": head, "base": {"ref": "main"}}}


def test_a_push(tmp_path: Path) -> None:
    job = github(tmp_path, {"before": "abc"}, GITHUB_STEP_SUMMARY="/summary")
    assert (job.branch, job.base, job.pull_request, job.from_fork) == ("main", "abc", None, False)
    assert (job.run_url, job.summary_file) == ("https://github.example/team/app/actions/runs/5", Path("/summary"))
    assert (job.credentials, job.push_options) == (("x-access-token", "secret"), ())
    job = gitlab(CI_COMMIT_BEFORE_SHA="abc")
    assert (job.branch, job.base, job.pull_request, job.from_fork) == ("main", "abc", None, False)
    assert (job.credentials, job.push_options) == (("oauth2", "secret"), ("--push-option=ci.skip",))


def test_without_a_previous_commit_there_is_no_base(tmp_path: Path) -> None:
    assert github(tmp_path, {"before": NULL_SHA}).base == ""
    assert github(tmp_path, {}).base == ""
    assert gitlab(CI_COMMIT_BEFORE_SHA=NULL_SHA).base == ""


def test_a_pull_request(tmp_path: Path) -> None:
    for job in (github(tmp_path, pull_event("team"), GITHUB_REF_NAME="7/merge"), gitlab(**MERGE)):
        assert (job.branch, job.base, job.pull_request, job.from_fork) == ("try", "origin/main", 7, False)


def test_a_pull_request_from_a_fork(tmp_path: Path) -> None:
    assert github(tmp_path, pull_event("stranger")).from_fork
    assert github(tmp_path, pull_event(None)).from_fork
    assert gitlab(**MERGE | {"CI_MERGE_REQUEST_SOURCE_PROJECT_ID": "99"}).from_fork


def test_a_merged_result_is_rejected() -> None:
    with pytest.raises(UserError, match="`merged results pipelines`"):
        gitlab(**MERGE | {"CI_MERGE_REQUEST_EVENT_TYPE": "merged_result"})


def test_without_a_token_there_is_no_forge(tmp_path: Path) -> None:
    job = github(tmp_path, {}, GITHUB_TOKEN="")
    assert (job.forge, job.credentials) == (None, None)
    assert read_job({}, "my-branch") == CIJob(None, "my-branch", "")


def test_git_sends_the_token_to_the_remote_only() -> None:
    requests: list[tuple[str, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append((self.path.split("?")[0], self.headers.get("Authorization")))
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            """Keep the console clean."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        root = f"http://127.0.0.1:{server.server_address[1]}"
        for path in ("team/app.git", "team/other.git"):
            environment = os.environ | git_auth_environment(("oauth2", "secret"), f"{root}/team/app.git")
            subprocess.run(["git", "ls-remote", f"{root}/{path}"], env=environment, capture_output=True, check=False)
        server.shutdown()
    encoded = base64.b64encode(b"oauth2:secret").decode()
    assert requests == [("/team/app.git/info/refs", f"Basic {encoded}"), ("/team/other.git/info/refs", None)]


def test_a_folder_and_ssh_need_no_token() -> None:
    assert git_auth_environment(("oauth2", "secret"), "/srv/app.git") == {}
    assert git_auth_environment(("oauth2", "secret"), "git@gitlab.example:team/app.git") == {}
    assert git_auth_environment(None, "https://gitlab.example/team/app.git") == {}
