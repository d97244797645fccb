"""The requests that CI sends to GitHub or GitLab: one comment, one issue, one commit status."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from detector.core.errors import UserError

PAGE_SIZE = 100  # entries per page of a list, the maximum of both
MAX_COMMENT_LENGTH = 60_000  # characters; GitHub's limit is 65,536
TIMEOUT = 30  # seconds without a response
# For the responses of a restarting proxy; only idempotent requests are repeated.
RETRY = Retry(total=3, backoff_factor=1, status_forcelist=(502, 503, 504), raise_on_status=False)


class Dialect(NamedTuple):
    """The API of one forge: paths, keys and values.

    In paths, `number` is that of the pull request or issue, `id` that of the comment.
    """

    comments: str
    comment: str
    edit: str  # HTTP method that updates
    issues: str
    issue: str
    text: str  # key of an issue's text
    number: str  # key of an issue's number
    opened: str  # value of `state` that lists open issues
    close: dict[str, str]
    status: str
    context: str  # key of a status's name
    failed: str  # value of a failed status


GITHUB = Dialect(
    comments="repos/{project}/issues/{number}/comments",
    comment="repos/{project}/issues/comments/{id}",
    edit="PATCH",
    issues="repos/{project}/issues",
    issue="repos/{project}/issues/{number}",
    text="body",
    number="number",
    opened="open",
    close={"state": "closed"},
    status="repos/{project}/statuses/{sha}",
    context="context",
    failed="failure",
)
GITLAB = Dialect(
    comments="projects/{project}/merge_requests/{number}/notes",
    comment="projects/{project}/merge_requests/{number}/notes/{id}",
    edit="PUT",
    issues="projects/{project}/issues",
    issue="projects/{project}/issues/{number}",
    text="description",
    number="iid",
    opened="opened",
    close={"state_event": "close"},
    status="projects/{project}/statuses/{sha}",
    context="name",
    failed="failed",
)


class Forge:
    """One project on GitHub or GitLab.

    api: URL of the API. project: `owner/name` on GitHub, the project ID on GitLab. headers: hold the token. All methods
    raise UserError with the forge's message if a request fails.
    """

    def __init__(self, dialect: Dialect, api: str, project: str, headers: dict[str, str]) -> None:
        self._dialect = dialect
        self._api = api.rstrip("/")
        self._project = project
        self._session = requests.Session()
        self._session.headers.update(headers)
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=RETRY))

    def update_comment(self, number: int, marker: str, text: str) -> None:
        """Update the pull request's comment that starts with the hidden marker, or create it."""
        payload = {"body": truncate(f"{marker}\n{text}")}
        for comment in self._list(self._path(self._dialect.comments, number=number)):
            if str(comment.get("body")).startswith(marker):
                path = self._path(self._dialect.comment, number=number, id=comment["id"])
                self._send(self._dialect.edit, path, payload)
                return
        self._send("POST", self._path(self._dialect.comments, number=number), payload)

    def update_issue(self, marker: str, title: str, text: str) -> None:
        """Update the open issue that starts with the hidden marker, or create it."""
        payload = {"title": title, self._dialect.text: truncate(f"{marker}\n{text}")}
        number = self._find_open_issue(marker)
        if number is None:
            self._send("POST", self._path(self._dialect.issues), payload)
        else:
            self._send(self._dialect.edit, self._path(self._dialect.issue, number=number), payload)

    def close_issue(self, marker: str) -> bool:
        """Close the open issue that starts with the hidden marker; False if there is none."""
        number = self._find_open_issue(marker)
        if number is not None:
            self._send(self._dialect.edit, self._path(self._dialect.issue, number=number), self._dialect.close)
        return number is not None

    def set_status(self, sha: str, name: str, passed: bool, url: str) -> None:
        """Set a commit's status; url: where it links to, "" for nowhere."""
        payload = {self._dialect.context: name, "state": "success" if passed else self._dialect.failed}
        self._send("POST", self._path(self._dialect.status, sha=sha), payload | ({"target_url": url} if url else {}))

    def _find_open_issue(self, marker: str) -> int | None:
        issues = self._list(self._path(self._dialect.issues), state=self._dialect.opened)
        numbers = (
            int(issue[self._dialect.number])
            for issue in issues
            if str(issue.get(self._dialect.text)).startswith(marker)
        )
        return next(numbers, None)

    def _path(self, template: str, **values: object) -> str:
        return template.format(project=self._project, **values)

    def _list(self, path: str, **query: str) -> Iterator[dict[str, Any]]:
        """All entries of a paginated list."""
        page = 1
        while True:
            entries = self._send("GET", path, query=query | {"per_page": str(PAGE_SIZE), "page": str(page)})
            yield from entries
            if len(entries) < PAGE_SIZE:
                return
            page += 1

    def _send(
        self, method: str, path: str, payload: dict[str, str] | None = None, query: dict[str, str] | None = None
    ) -> Any:
        url = f"{self._api}/{path}"
        try:
            response = self._session.request(method, url, json=payload, params=query, timeout=TIMEOUT)
        except requests.RequestException as error:
            raise UserError(f"{method} {url}: no response: {error}") from None
        if not response.ok:
            raise UserError(
                f"{method} {url} returned {response.status_code} ({response.text[:200]}): "
                "see docs/ci.md for the permissions that the token needs"
            )
        try:
            return response.json()
        except ValueError:
            raise UserError(f"{method} {url}: the response is not JSON") from None


def truncate(text: str) -> str:
    """Cut a text at a line break to MAX_COMMENT_LENGTH, with a note."""
    if len(text) <= MAX_COMMENT_LENGTH:
        return text
    return text[:MAX_COMMENT_LENGTH].rsplit("\n", 1)[0] + "\n\n… truncated: too long for a comment."
