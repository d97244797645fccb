"""What `tools/gate.py` lets through; comparisons with a real revision are in test_retrain.py."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import gate
from detector.core.errors import UserError
from gate import GateParams
from tests.support.repository import SOURCE

LIMITS = GateParams(min_ap=0.6, not_worse=("AP", "F1"), suspect_score=0.5, max_suspects=0.1)


@pytest.fixture
def result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository without anything that landed, and a good result in the workspace."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(SOURCE / "gate.yaml", tmp_path)
    write("metrics/evaluate.json", {"AP": 0.75})
    write("metrics/preprocess.json", {"boxes": 20})
    write("metrics/export.json", {"images": 6})
    suspect(0.9, 0.5, 0.4)
    commit = (
        "-c",
        "user.name=Test",
        "-c",
        "user.email=test@example.org",
        "commit",
        "--quiet",
        "--allow-empty",
        "-m",
        "1",
    )
    for command in (("init", "--quiet"), commit):
        subprocess.run(["git", *command], check=True)
    return tmp_path


def write(path: str, content: object) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(content))


def suspect(*scores: float) -> None:
    """One suspected label for each score."""
    gate.SUSPECTS.parent.mkdir(parents=True, exist_ok=True)
    gate.SUSPECTS.write_text("file,score\n" + "".join(f"a.jpg,{score}\n" for score in scores))


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["gate.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        gate.main()
    return int(ended.value.code or 0)


def test_a_first_result_is_judged_by_itself(result, monkeypatch, capsys):
    assert run(monkeypatch, "HEAD", "--out", "logs/gate.md") == 0
    out = capsys.readouterr().out
    assert Path("logs/gate.md").read_text() == out
    assert out.splitlines() == [
        "### Gate: it may land",
        "",
        "| check | found | limit | |",
        "| --- | --- | --- | --- |",
        "| AP on test | 0.750 | at least 0.6 | passed |",
        "| change since `HEAD` | no result there to compare with | not worse | passed |",
        "| labels probably wrong | 2 of 20 boxes (10.0%) with a score of 0.5 or more | at most 10% of the boxes "
        "| passed |",
        "| parity | the exported file answers like the model | proved by the export stage | passed |",
    ]


def test_each_check_can_fail(result, monkeypatch, capsys):
    write("metrics/evaluate.json", {"AP": 0.5999})
    suspect(0.9, 0.8, 0.5)
    Path("metrics/export.json").unlink()
    assert run(monkeypatch, "HEAD") == 1
    out = capsys.readouterr().out
    assert out.startswith("### Gate: it may **not** land, 3 of the checks failed\n")
    assert "| AP on test | 0.600 | at least 0.6 | **failed** |" in out
    assert "| labels probably wrong | 3 of 20 boxes (15.0%)" in out
    assert "| parity | metrics/export.json is missing | proved by the export stage | **failed** |" in out


@pytest.mark.parametrize("path", ["metrics/evaluate.json", "metrics/evaluate/suspects.csv", "metrics/preprocess.json"])
def test_what_is_missing_does_not_pass(result, path):
    Path(path).unlink()
    (failed,) = [check for check in gate.judge("HEAD").checks if not check.passed]
    assert f"{path} " in f"{failed.found} "


def test_no_ap_and_no_boxes(result):
    write("metrics/evaluate.json", {"AP": None})
    assert not gate.accuracy(LIMITS).passed
    write("metrics/preprocess.json", {"boxes": 0})
    suspect()
    assert gate.suspects(LIMITS).passed


MISTAKES = {
    "key": ("gate.yaml", "gate: {min_AP: 0.5}", r"gate.yaml: (.|\n)*unknown key `gate.min_AP`; did you mean `min_ap`?"),
    "metric": ("gate.yaml", (SOURCE / "gate.yaml").read_text().replace("AP50", "mAP"), "`gate.not_worse.1` is 'mAP'"),
    "section": ("gate.yaml", "min_ap: 0.5", "gate.yaml: section `gate` is missing"),
    "AP": ("metrics/evaluate.json", '{"AP": "high"}', "metrics/evaluate.json: AP is 'high', expected a number"),
    "JSON": ("metrics/evaluate.json", "<<<<<<< HEAD", "metrics/evaluate.json is not JSON"),
    "list": ("metrics/evaluate.json", "[]", r"metrics/evaluate.json: expected an object, found \[\]"),
    "boxes": ("metrics/preprocess.json", "{}", "metrics/preprocess.json: boxes is None, expected a number"),
    "score": ("metrics/evaluate/suspects.csv", "file\na.jpg\n", "suspects.csv: expected a number `score`"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_told(result, name):
    path, text, message = MISTAKES[name]
    Path(path).write_text(text)
    with pytest.raises(UserError, match=message):
        gate.judge("HEAD")


def test_an_unknown_revision_is_told(result):
    with pytest.raises(UserError, match="`nowhere` is no revision of this repository"):
        gate.judge("nowhere")
