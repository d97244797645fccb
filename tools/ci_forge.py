"""The few requests that the jobs send to GitHub or GitLab: one comment, one issue, one commit status."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from detector.core.errors import UserError

PAGE = 100  # entries of a list at a time, the most that both allow
LONGEST = 60_000  # characters of a comment; GitHub takes 65,536
SECONDS = 30  # without an answer
# What stands in for an answer while a proxy restarts; only requests that may be sent twice are repeated.
AGAIN = Retry(total=3, backoff_factor=1, status_forcelist=(502, 503, 504), raise_on_status=False)


class Dialect(NamedTuple):
    """How one forge names things. Paths lie below its API; `number` is of the request or issue, `id` of the comment."""

    comments: str
    comment: str
    edit: str  # HTTP method that changes something
    issues: str
    issue: str
    text: str  # key of an issue's text
    number: str  # key of an issue's number
    opened: str  # value of `state` in a list of open issues
    close: dict[str, str]
    status: str
    context: str  # key of a status's name
    failed: str  # value of a status


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

    api: address of the API; project: `owner/name` on GitHub, the number on GitLab; headers: carry the token.
    Every method raises UserError with the forge's own words when it refuses.
    """

    def __init__(self, dialect: Dialect, api: str, project: str, headers: dict[str, str]) -> None:
        self._dialect = dialect
        self._api = api.rstrip("/")
        self._project = project
        self._session = requests.Session()
        self._session.headers.update(headers)
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=AGAIN))

    def comment(self, number: int, marker: str, text: str) -> None:
        """Put `text` into the comment of a request that begins with the hidden marker; write one if there is none."""
        told = {"body": shortened(f"{marker}\n{text}")}
        for found in self._list(self._path(self._dialect.comments, number=number)):
            if str(found.get("body")).startswith(marker):
                self._send(self._dialect.edit, self._path(self._dialect.comment, number=number, id=found["id"]), told)
                return
        self._send("POST", self._path(self._dialect.comments, number=number), told)

    def report(self, marker: str, title: str, text: str) -> None:
        """Open an issue that begins with the hidden marker, or bring the open one up to date."""
        told = {"title": title, self._dialect.text: shortened(f"{marker}\n{text}")}
        number = self._open_issue(marker)
        if number is None:
            self._send("POST", self._path(self._dialect.issues), told)
        else:
            self._send(self._dialect.edit, self._path(self._dialect.issue, number=number), told)

    def settle(self, marker: str) -> bool:
        """Close the open issue with that marker; False when there is none."""
        number = self._open_issue(marker)
        if number is not None:
            self._send(self._dialect.edit, self._path(self._dialect.issue, number=number), self._dialect.close)
        return number is not None

    def status(self, sha: str, name: str, passed: bool, page: str) -> None:
        """Mark a commit; page: where the mark leads, "" for nowhere."""
        told = {self._dialect.context: name, "state": "success" if passed else self._dialect.failed}
        self._send("POST", self._path(self._dialect.status, sha=sha), told | ({"target_url": page} if page else {}))

    def _open_issue(self, marker: str) -> int | None:
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
        """All entries of a list, page by page."""
        page = 1
        while True:
            entries = self._send("GET", path, query=query | {"per_page": str(PAGE), "page": str(page)})
            yield from entries
            if len(entries) < PAGE:
                return
            page += 1

    def _send(
        self, method: str, path: str, told: dict[str, str] | None = None, query: dict[str, str] | None = None
    ) -> Any:
        address = f"{self._api}/{path}"
        try:
            answer = self._session.request(method, address, json=told, params=query, timeout=SECONDS)
        except requests.RequestException as error:
            raise UserError(f"{method} {address} got no answer: {error}") from None
        if not answer.ok:
            raise UserError(
                f"{method} {address} was answered with {answer.status_code} ({answer.text[:200]}): "
                "docs/ci.md says what the token must be allowed to do"
            )
        try:
            return answer.json()
        except ValueError:
            raise UserError(f"{method} {address} was answered with something that is not JSON") from None


def shortened(text: str) -> str:
    """At most as long as a forge takes it, and saying so."""
    if len(text) <= LONGEST:
        return text
    return text[:LONGEST].rsplit("\n", 1)[0] + "\n\n… cut here, for it is too long for a comment."
