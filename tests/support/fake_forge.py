"""A local server that imitates the parts of GitHub's and GitLab's APIs that CI uses."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

TOKEN = "let-me-in"
# Method and path of each request, from the forges' documentation, and the action that it stands for.
GITHUB = {
    r"GET /repos/team/app/issues/7/comments": "list comments",
    r"POST /repos/team/app/issues/7/comments": "add comment",
    r"PATCH /repos/team/app/issues/comments/(\d+)": "edit comment",
    r"GET /repos/team/app/issues": "list issues",
    r"POST /repos/team/app/issues": "add issue",
    r"PATCH /repos/team/app/issues/(\d+)": "edit issue",
    r"POST /repos/team/app/statuses/(\w+)": "add status",
}
GITLAB = {
    r"GET /projects/12/merge_requests/7/notes": "list comments",
    r"POST /projects/12/merge_requests/7/notes": "add comment",
    r"PUT /projects/12/merge_requests/7/notes/(\d+)": "edit comment",
    r"GET /projects/12/issues": "list issues",
    r"POST /projects/12/issues": "add issue",
    r"PUT /projects/12/issues/(\d+)": "edit issue",
    r"POST /projects/12/statuses/(\w+)": "add status",
}


class FakeForge(ThreadingHTTPServer):
    """`comments`, `issues` and `statuses` hold what was sent; `error_status`: HTTP status of all responses, or 0."""

    def __init__(self, routes: dict[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.routes = routes
        self.github = routes is GITHUB
        self.comments: list[dict[str, Any]] = []
        self.issues: list[dict[str, Any]] = []
        self.statuses: list[dict[str, Any]] = []
        self.error_status = 0
        self.requests: list[str] = []
        self.api = f"http://127.0.0.1:{self.server_address[1]}"

    def respond(self, action: str, key: str, body: dict[str, Any], query: dict[str, str]) -> tuple[int, Any]:
        """HTTP status and JSON of the response."""
        verb, noun = action.split()
        rows = {"comment": self.comments, "comments": self.comments, "issue": self.issues, "issues": self.issues,
                "status": self.statuses}[noun]  # fmt: skip
        if verb == "list":
            wanted = query.get("state", "")
            rows = [row for row in rows if row.get("state", "") == wanted or noun == "comments"]
            size, page = int(query.get("per_page", "20")), int(query.get("page", "1"))
            return 200, rows[(page - 1) * size : page * size]
        if verb == "add":
            state = {"state": "open" if self.github else "opened"} if noun == "issue" else {}
            number = {"id": 100 + len(rows), "number" if self.github else "iid": len(rows) + 1}
            rows.append(number | state | ({"sha": key} if noun == "status" else {}) | body)
            return 201, rows[-1]
        numbered = "id" if noun == "comment" else "number" if self.github else "iid"
        (row,) = [row for row in rows if row[numbered] == int(key)]
        if body.pop("state_event", None) == "close":
            body["state"] = "closed"
        row |= body
        return 200, row


class Handler(BaseHTTPRequestHandler):
    """Checks the token, finds the action of the request, and sends the response."""

    server: FakeForge

    def handle_any(self) -> None:
        """Handle a request of any method."""
        url = urlsplit(self.path)
        self.server.requests.append(f"{self.command} {url.path}")
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        tokens = (self.headers.get("Authorization"), self.headers.get("PRIVATE-TOKEN"))
        if self.server.error_status or tokens != ((f"Bearer {TOKEN}", None) if self.server.github else (None, TOKEN)):
            return self.send(self.server.error_status or 401, {"message": "Resource not accessible"})
        for pattern, action in self.server.routes.items():
            match = re.fullmatch(pattern, f"{self.command} {url.path}")
            if match:
                query = {name: values[0] for name, values in parse_qs(url.query).items()}
                (key,) = match.groups() or ("",)
                return self.send(*self.server.respond(action, key, json.loads(body or b"{}"), query))
        return self.send(404, {"message": "Not Found"})

    do_GET = do_POST = do_PATCH = do_PUT = handle_any

    def send(self, status: int, content: Any) -> None:
        """Send a JSON response."""
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """Keep the console clean."""


@contextmanager
def serving(routes: dict[str, str]) -> Iterator[FakeForge]:
    """Run the server; its URL is `api`."""
    with FakeForge(routes) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
