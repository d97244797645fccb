"""The checks of `tools/gate.py`; comparisons with a real revision are in test_retrain.py."""

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

PARAMS = GateParams(min_ap=0.6, no_significant_drop=("AP", "F1"), label_issue_score=0.5, max_label_error_fraction=0.1)
IDENTITY = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]


@pytest.fixture
def result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository without a committed result, and a good result in the workspace."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(SOURCE / "gate.yaml", tmp_path)
    write("metrics/evaluate.json", {"AP": 0.75})
    write("metrics/preprocess.json", {"boxes": 20})
    write("metrics/export.json", {"images": 6})
    write_label_issues(0.9, 0.5, 0.4)
    subprocess.run(["git", "init", "--quiet"], check=True)
    subprocess.run(["git", *IDENTITY, "commit", "--quiet", "--allow-empty", "-m", "1"], check=True)
    return tmp_path


def write(path: str, content: object) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(content))


def write_label_issues(*scores: float) -> None:
    """One suspected label error per score."""
    gate.LABEL_ISSUES.parent.mkdir(parents=True, exist_ok=True)
    gate.LABEL_ISSUES.write_text("file,score\n" + "".join(f"a.jpg,{score}\n" for score in scores))


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["gate.py", *arguments])
    with pytest.raises(SystemExit) as exit_info:
        gate.main()
    return int(exit_info.value.code or 0)


def parse_table(text: str) -> list[list[str]]:
    """The cells of the rows below the table's header."""
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines()[4:]]


def test_the_first_result_has_nothing_to_compare_with(
    result: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "HEAD", "--out", "logs/gate.md") == 0
    out = capsys.readouterr().out
    assert Path("logs/gate.md").read_text() == out
    assert out.startswith("### Gate passed\n\n| check | ")
    ap, change, labels, parity = parse_table(out)
    assert ap == ["AP on test", "0.750", "at least 0.6", "passed"]
    assert "`HEAD`" in change[0]
    assert "2 in 20 boxes (10.0%)" in labels[1]
    assert "10%" in labels[2]
    assert "parity" in parity[0]
    assert {row[3] for row in (ap, change, labels, parity)} == {"passed"}


def test_each_check_can_fail(result: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    write("metrics/evaluate.json", {"AP": 0.5999})
    write_label_issues(0.9, 0.8, 0.5)
    Path("metrics/export.json").unlink()
    assert run(monkeypatch, "HEAD") == 1
    out = capsys.readouterr().out
    assert out.startswith("### Gate failed: 3 of 4 checks\n")
    ap, change, labels, parity = parse_table(out)
    assert ap == ["AP on test", "0.600", "at least 0.6", "**failed**"]
    assert change[3] == "passed"
    assert "3 in 20 boxes (15.0%)" in labels[1]
    assert "metrics/export.json" in parity[1]
    assert labels[3] == parity[3] == "**failed**"


@pytest.mark.parametrize(
    "path", ["metrics/evaluate.json", "metrics/evaluate/label_issues.csv", "metrics/preprocess.json"]
)
def test_a_missing_file_does_not_pass(result: Path, path: str) -> None:
    Path(path).unlink()
    (failed,) = [check for check in gate.evaluate_gate("HEAD").checks if not check.passed]
    assert f"{path} " in f"{failed.result} "


def test_no_ap_and_no_boxes(result: Path) -> None:
    write("metrics/evaluate.json", {"AP": None})
    assert not gate.check_ap(PARAMS).passed
    write("metrics/preprocess.json", {"boxes": 0})
    write_label_issues()
    assert gate.check_label_errors(PARAMS).passed


UNKNOWN_METRIC = (SOURCE / "gate.yaml").read_text().replace("AP50", "mAP")
# Name: file, its text, what the message says.
USER_ERRORS = {
    "key": ("gate.yaml", "gate: {min_AP: 0.5}", r"gate.yaml(.|\n)*`gate.min_AP`(.|\n)*`min_ap`"),
    "metric": ("gate.yaml", UNKNOWN_METRIC, "`gate.no_significant_drop.1` is 'mAP'"),
    "section": ("gate.yaml", "min_ap: 0.5", "gate.yaml: section `gate`"),
    "AP": ("metrics/evaluate.json", '{"AP": "high"}', "metrics/evaluate.json: AP is 'high'"),
    "JSON": ("metrics/evaluate.json", "<<<<<<< HEAD", "metrics/evaluate.json is not .*JSON"),
    "list": ("metrics/evaluate.json", "[]", r"metrics/evaluate.json: expected an object, found \[\]"),
    "boxes": ("metrics/preprocess.json", "{}", "metrics/preprocess.json: boxes is None"),
    "score": ("metrics/evaluate/label_issues.csv", "file\na.jpg\n", "label_issues.csv: .*`score`"),
}


@pytest.mark.parametrize("name", USER_ERRORS)
def test_user_errors_name_file_and_value(result: Path, name: str) -> None:
    path, text, message = USER_ERRORS[name]
    Path(path).write_text(text)
    with pytest.raises(UserError, match=message):
        gate.evaluate_gate("HEAD")


def test_an_unknown_revision_is_named(result: Path) -> None:
    with pytest.raises(UserError, match="`nowhere`"):
        gate.evaluate_gate("nowhere")
