"""Comments, issues and marks on GitHub and GitLab, sent over HTTP to a server that answers like them."""

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


def test_one_comment_is_kept_up_to_date(server, forge):
    server.comments += [{"id": 1, "body": "Nice!"}, {"id": 2, "body": f"> {MARKER}\n> a quotation"}]
    forge.comment(7, MARKER, "first")
    forge.comment(7, MARKER, "second")
    assert [row["body"] for row in server.comments] == ["Nice!", f"> {MARKER}\n> a quotation", f"{MARKER}\nsecond"]


@pytest.mark.parametrize("others", [99, 100, 250])
def test_the_comment_is_found_on_any_page(server, forge, others):
    server.comments += [{"id": number, "body": "Nice!"} for number in range(1000, 1000 + others)]
    forge.comment(7, MARKER, "first")
    forge.comment(7, MARKER, "second")
    assert [row["body"] for row in server.comments[others:]] == [f"{MARKER}\nsecond"]


def test_a_comment_without_a_text_is_passed_over(server, forge):
    server.comments.append({"id": 1, "body": None})
    forge.comment(7, MARKER, "first")
    assert len(server.comments) == 2


def test_one_issue_is_opened_updated_closed_and_opened_again(server, forge):
    text = "body" if server.github else "description"
    assert not forge.settle(MARKER)
    forge.report(MARKER, "It differs", "by 1")
    forge.report(MARKER, "It differs", "by 2")
    assert [(row["title"], row[text]) for row in server.issues] == [("It differs", f"{MARKER}\nby 2")]
    assert forge.settle(MARKER)
    assert [row["state"] for row in server.issues] == ["closed"]
    assert not forge.settle(MARKER)
    forge.report(MARKER, "It differs", "by 3")
    assert [row["state"] for row in server.issues] == ["closed", "open" if server.github else "opened"]


def test_a_commit_is_marked(server, forge):
    forge.status("abc123", "retraining", True, "https://forge.example/run/1")
    forge.status("abc123", "retraining", False, "")
    first, second = server.statuses
    name = "context" if server.github else "name"
    assert (first["sha"], first[name], first["state"]) == ("abc123", "retraining", "success")
    assert first["target_url"] == "https://forge.example/run/1"
    assert second["state"] == ("failure" if server.github else "failed")
    assert "target_url" not in second


def test_a_refusal_is_told_in_the_forges_words(server, forge):
    server.refuse = 403
    with pytest.raises(UserError, match=r"was answered with 403 .*Resource not accessible.*docs/ci.md says"):
        forge.comment(7, MARKER, "first")


def test_no_answer_is_told(monkeypatch):
    monkeypatch.setattr(ci_forge, "AGAIN", 0)  # without a pause
    nobody = Forge(ci_forge.GITHUB, "http://127.0.0.1:1", "team/app", {})
    with pytest.raises(UserError, match="got no answer"):
        nobody.status("abc123", "retraining", True, "")


def test_a_long_text_is_cut_at_a_line_and_says_so():
    text = "| a row of a table |\n" * 5000
    cut = ci_forge.shortened(text)
    assert len(cut) < 61_000
    assert cut.endswith("| a row of a table |\n\n… cut here, for it is too long for a comment.")
    assert ci_forge.shortened("short") == "short"
