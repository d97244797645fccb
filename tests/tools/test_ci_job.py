"""What the environments of GitHub and GitLab mean, and what git tells a server."""

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

from ci_job import NOWHERE, Job, git_login, job_of
from detector.core.errors import UserError


def github(folder: Path, event: dict[str, Any], **more: str) -> Job:
    (folder / "event.json").write_text(json.dumps(event))
    environment = {
        "GITHUB_ACTIONS": "true", "GITHUB_REPOSITORY": "team/app", "GITHUB_SERVER_URL": "https://github.example",
        "GITHUB_API_URL": "https://api.github.example", "GITHUB_EVENT_PATH": str(folder / "event.json"),
        "GITHUB_REF_NAME": "main", "GITHUB_RUN_ID": "5", "GITHUB_TOKEN": "secret",
    }  # fmt: skip
    return job_of(environment | more, "")


def gitlab(**more: str) -> Job:
    environment = {
        "GITLAB_CI": "true", "CI_PROJECT_ID": "12", "CI_API_V4_URL": "https://gitlab.example/api/v4",
        "CI_PROJECT_URL": "https://gitlab.example/team/app", "CI_JOB_URL": "https://gitlab.example/team/app/-/jobs/5",
        "CI_PIPELINE_SOURCE": "push", "CI_COMMIT_BRANCH": "main", "GITLAB_TOKEN": "secret",
    }  # fmt: skip
    return job_of(environment | more, "")


MERGE = {
    "CI_PIPELINE_SOURCE": "merge_request_event",
    "CI_MERGE_REQUEST_IID": "7",
    "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": "try",
    "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main",
    "CI_MERGE_REQUEST_SOURCE_PROJECT_ID": "12",
    "CI_MERGE_REQUEST_EVENT_TYPE": "detached",
}


def pull(owner: str | None) -> dict[str, Any]:
    head = {"ref": "try", "repo": None if owner is None else {"full_name": f"{owner}/app"}}
    return {"pull_request": {"number": 7, "head": head, "base": {"ref": "main"}}}


def test_a_push(tmp_path):
    job = github(tmp_path, {"before": "abc"}, GITHUB_STEP_SUMMARY="/summary")
    assert (job.branch, job.base, job.request, job.fork) == ("main", "abc", None, False)
    assert (job.page, job.summary) == ("https://github.example/team/app/actions/runs/5", Path("/summary"))
    assert (job.login, job.push_options) == (("x-access-token", "secret"), ())
    job = gitlab(CI_COMMIT_BEFORE_SHA="abc")
    assert (job.branch, job.base, job.request, job.fork) == ("main", "abc", None, False)
    assert (job.login, job.push_options) == (("oauth2", "secret"), ("--push-option=ci.skip",))


def test_there_need_be_no_commit_before(tmp_path):
    assert github(tmp_path, {"before": NOWHERE}).base == ""
    assert github(tmp_path, {}).base == ""
    assert gitlab(CI_COMMIT_BEFORE_SHA=NOWHERE).base == ""


def test_a_request(tmp_path):
    for job in (github(tmp_path, pull("team"), GITHUB_REF_NAME="7/merge"), gitlab(**MERGE)):
        assert (job.branch, job.base, job.request, job.fork) == ("try", "origin/main", 7, False)


def test_a_request_from_a_fork(tmp_path):
    assert github(tmp_path, pull("stranger")).fork
    assert github(tmp_path, pull(None)).fork
    assert gitlab(**MERGE | {"CI_MERGE_REQUEST_SOURCE_PROJECT_ID": "99"}).fork


def test_a_merged_result_is_no_commit_of_the_branch():
    with pytest.raises(UserError, match="switch `merged results pipelines` off"):
        gitlab(**MERGE | {"CI_MERGE_REQUEST_EVENT_TYPE": "merged_result"})


def test_without_a_token_nobody_is_told(tmp_path):
    job = github(tmp_path, {}, GITHUB_TOKEN="")
    assert (job.forge, job.login) == (None, None)
    assert job_of({}, "my-branch") == Job(None, "my-branch", "")


def test_git_sends_the_token_to_the_remote_and_nowhere_else():
    seen: list[tuple[str, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append((self.path.split("?")[0], self.headers.get("Authorization")))
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            """Not on the console."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        root = f"http://127.0.0.1:{server.server_address[1]}"
        for path in ("team/app.git", "team/other.git"):
            environment = os.environ | git_login(("oauth2", "secret"), f"{root}/team/app.git")
            subprocess.run(["git", "ls-remote", f"{root}/{path}"], env=environment, capture_output=True, check=False)
        server.shutdown()
    coded = base64.b64encode(b"oauth2:secret").decode()
    assert seen == [("/team/app.git/info/refs", f"Basic {coded}"), ("/team/other.git/info/refs", None)]


def test_a_folder_and_ssh_need_no_token():
    assert git_login(("oauth2", "secret"), "/srv/app.git") == {}
    assert git_login(("oauth2", "secret"), "git@gitlab.example:team/app.git") == {}
    assert git_login(None, "https://gitlab.example/team/app.git") == {}
