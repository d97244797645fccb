"""Comments, issues and commit statuses on GitHub and GitLab, against a local server that imitates their APIs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import ci_forge
from ci_forge import Forge
from detector.core.errors import UserError
from tests.support import fake_forge
from tests.support.fake_forge import FakeForge

MARKER = "<!-- ours -->"


@pytest.fixture(params=["github", "gitlab"])
def server(request: pytest.FixtureRequest) -> Iterator[FakeForge]:
    with fake_forge.serving(fake_forge.GITHUB if request.param == "github" else fake_forge.GITLAB) as server:
        yield server


@pytest.fixture
def forge(server: FakeForge) -> Forge:
    if server.github:
        headers = {"Authorization": f"Bearer {fake_forge.TOKEN}"}
        return Forge(ci_forge.GITHUB, server.api, "team/app", headers)
    return Forge(ci_forge.GITLAB, f"{server.api}/", "12", {"PRIVATE-TOKEN": fake_forge.TOKEN})


def test_one_comment_is_created_and_updated(server: FakeForge, forge: Forge) -> None:
    server.comments += [{"id": 1, "body": "Nice!"}, {"id": 2, "body": f"> {MARKER}\n> a quotation"}]
    forge.update_comment(7, MARKER, "first")
    forge.update_comment(7, MARKER, "second")
    assert [row["body"] for row in server.comments] == ["Nice!", f"> {MARKER}\n> a quotation", f"{MARKER}\nsecond"]


@pytest.mark.parametrize("others", [99, 100, 250])
def test_the_comment_is_found_on_any_page(server: FakeForge, forge: Forge, others: int) -> None:
    server.comments += [{"id": number, "body": "Nice!"} for number in range(1000, 1000 + others)]
    forge.update_comment(7, MARKER, "first")
    forge.update_comment(7, MARKER, "second")
    assert [row["body"] for row in server.comments[others:]] == [f"{MARKER}\nsecond"]


def test_a_comment_without_text_is_ignored(server: FakeForge, forge: Forge) -> None:
    server.comments.append({"id": 1, "body": None})
    forge.update_comment(7, MARKER, "first")
    assert len(server.comments) == 2


def test_one_issue_is_created_updated_closed_and_created_again(server: FakeForge, forge: Forge) -> None:
    text = "body" if server.github else "description"
    assert not forge.close_issue(MARKER)
    forge.update_issue(MARKER, "It differs", "by 1")
    forge.update_issue(MARKER, "It differs", "by 2")
    assert [(row["title"], row[text]) for row in server.issues] == [("It differs", f"{MARKER}\nby 2")]
    assert forge.close_issue(MARKER)
    assert [row["state"] for row in server.issues] == ["closed"]
    assert not forge.close_issue(MARKER)
    forge.update_issue(MARKER, "It differs", "by 3")
    assert [row["state"] for row in server.issues] == ["closed", "open" if server.github else "opened"]


def test_a_commit_gets_a_status(server: FakeForge, forge: Forge) -> None:
    forge.set_status("abc123", "retraining", True, "https://forge.example/run/1")
    forge.set_status("abc123", "retraining", False, "")
    first, second = server.statuses
    name = "context" if server.github else "name"
    assert (first["sha"], first[name], first["state"]) == ("abc123", "retraining", "success")
    assert first["target_url"] == "https://forge.example/run/1"
    assert second["state"] == ("failure" if server.github else "failed")
    assert "target_url" not in second


def test_an_error_shows_status_and_message_of_the_forge(server: FakeForge, forge: Forge) -> None:
    server.error_status = 403
    with pytest.raises(UserError, match=r"403 .*Resource not accessible.*docs/ci.md"):
        forge.update_comment(7, MARKER, "first")


def test_an_unreachable_forge_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ci_forge, "RETRY", 0)  # without a pause
    unreachable = Forge(ci_forge.GITHUB, "http://127.0.0.1:1", "team/app", {})
    with pytest.raises(UserError, match=r"http://127.0.0.1:1/\S*: no response"):
        unreachable.set_status("abc123", "retraining", True, "")


def test_a_long_text_is_truncated_at_a_line_with_a_note() -> None:
    text = "| a row of a table |\n" * 5000
    truncated = ci_forge.truncate(text)
    assert len(truncated) < 61_000
    assert "| a row of a table |\n\n… truncated" in truncated[-100:]
    assert ci_forge.truncate("short") == "short"
