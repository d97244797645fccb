"""The checks of `tools/gate.py`; comparisons with a real revision are in test_retrain.py."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

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
    write("metrics/export/details.json", export("fp32"))
    monkeypatch.setattr(gate, "list_outdated_stages", list)
    write_label_issues(0.9, 0.5, 0.4)
    subprocess.run(["git", "init", "--quiet"], check=True)
    subprocess.run(["git", *IDENTITY, "commit", "--quiet", "--allow-empty", "-m", "1"], check=True)
    return tmp_path


def write(path: str, content: object) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(content))


def export(precision: str) -> dict[str, Any]:
    """metrics/export/details.json of an fp32 file, and of an int8 file with an AP of 0.58."""
    fp32 = {"AP": 0.75, "box_difference_below": 0.0001, "score_difference_below": 1e-05, "unmatched_detections": 0}
    int8 = {"AP": 0.58, "box_difference_below": 10.0, "score_difference_below": 0.1, "unmatched_detections": 1234}
    return {"precision": precision, "precisions": {"fp32": fp32, "int8": int8}}


def write_label_issues(*scores: float, missing: int = 0) -> None:
    """One suspected label error per score, each about another box, and confident `missing` boxes."""
    gate.LABEL_ISSUES.parent.mkdir(parents=True, exist_ok=True)
    rows = [f"train,wrong_class,{score},{number}\n" for number, score in enumerate(scores, 1)]
    gate.LABEL_ISSUES.write_text("split,kind,score,annotation\n" + "".join(rows) + "train,missing_box,0.9,\n" * missing)


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
    pipeline, ap, change, labels, file = parse_table(out)
    assert pipeline == ["pipeline", "up to date", "up to date", "passed"]
    assert ap == ["AP on test", "0.750", "at least 0.6", "passed"]
    assert "`HEAD`" in change[0]
    assert "first" in change[1]
    assert "2 of 20 boxes wrong (10.0%) and 0 missing" in labels[1]
    assert "10%" in labels[2]
    assert file[0] == "ONNX file"
    assert file[1].startswith("fp32: AP 0.750; ")
    assert {row[3] for row in (ap, change, labels, file)} == {"passed"}


def test_each_check_can_fail(result: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    write("metrics/evaluate.json", {"AP": 0.5999})
    write_label_issues(0.9, 0.8, 0.5)
    Path("metrics/export/details.json").unlink()
    assert run(monkeypatch, "HEAD") == 1
    out = capsys.readouterr().out
    assert out.startswith("### Gate failed: 3 of 5 checks\n")
    _, ap, change, labels, file = parse_table(out)
    assert ap == ["AP on test", "0.600", "at least 0.6", "**failed**"]
    assert change[3] == "passed"
    assert "3 of 20 boxes wrong (15.0%)" in labels[1]
    assert "metrics/export/details.json" in file[1]
    assert labels[3] == file[3] == "**failed**"


def test_nothing_else_is_checked_of_an_outdated_result(
    result: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gate, "list_outdated_stages", lambda: ["evaluate", "export"])
    assert run(monkeypatch, "HEAD") == 1
    ((name, outdated, _, verdict),) = parse_table(capsys.readouterr().out)
    assert (name, verdict) == ("pipeline", "**failed**")
    assert "`evaluate`, `export`" in outdated
    assert "`dvc repro`" in outdated


def test_the_gate_is_about_the_file_that_ships(result: Path) -> None:
    """AP of the model is 0.75, that of the int8 file 0.58."""
    write("metrics/export/details.json", export("int8"))
    _, ap, _, _, file = gate.evaluate_gate("HEAD").checks
    assert (ap.name, ap.result, ap.passed) == ("AP on test (int8 file)", "0.580", False)
    assert file.result.startswith("int8: AP 0.580; ")
    assert "10 pixels" in file.result
    assert "1,234 detections unmatched" in file.result


def commit_lock(text: str) -> str:
    """Commit a dvc.lock; returns the commit."""
    Path("dvc.lock").write_text(text)
    subprocess.run(["git", "add", "dvc.lock"], check=True)
    subprocess.run(["git", *IDENTITY, "commit", "--quiet", "-m", "2"], check=True)
    return subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.mark.parametrize("folder", [".", "detectors/bolts"])
def test_a_lost_result_is_not_a_first_one(result: Path, monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    """A dvc.lock with predictions, and after it one without, in git's root or below."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(folder)
    (before,) = gate.check_regressions("HEAD", ("AP",))[0]
    assert before.passed
    with_result = commit_lock("stages: {evaluate: {outs: [{path: data/predictions}]}}")
    (unreadable,) = gate.check_regressions("HEAD", ("AP",))[0]
    assert not unreadable.passed
    assert "cannot be compared" in unreadable.result
    commit_lock("stages: {}")
    (lost,) = gate.check_regressions("HEAD", ("AP",))[0]
    assert not lost.passed
    assert f"compare with {with_result}" in lost.result


def test_a_shallow_clone_cannot_tell_a_first_result(
    result: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commit_lock("stages: {evaluate: {outs: [{path: data/predictions}]}}")
    commit_lock("stages: {}")
    command = ["git", "clone", "--quiet", "--depth", "1", f"file://{result}", str(tmp_path / "shallow")]
    subprocess.run(command, check=True)
    monkeypatch.chdir(tmp_path / "shallow")
    with pytest.raises(UserError, match="`git fetch --unshallow`"):
        gate.check_regressions("HEAD", ("AP",))


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


def test_label_errors_never_exceed_what_there_is(result: Path) -> None:
    write_label_issues(*[0.9] * 20, missing=604)
    with gate.LABEL_ISSUES.open("a") as file:
        file.writelines(f"train,wrong_state,0.8,{number}\n" for number in range(1, 21))  # of the same boxes
    check = gate.check_label_errors(PARAMS)
    assert "20 of 20 boxes wrong (100.0%) and 604 missing (96.8%)" in check.result
    assert not check.passed


def test_missing_boxes_are_counted_apart(result: Path) -> None:
    write_label_issues(0.9, 0.9, missing=2)
    assert gate.check_label_errors(PARAMS).passed
    write_label_issues(missing=3)
    assert not gate.check_label_errors(PARAMS).passed


def test_a_detector_that_is_too_weak_to_judge_is_named(result: Path) -> None:
    write("metrics/evaluate/details.json", {"notes": {"label issues on train": "too weak", "AP": "none"}})
    assert "too weak for some label issues on train, see" in gate.check_label_errors(PARAMS).result


UNKNOWN_METRIC = (SOURCE / "gate.yaml").read_text().replace("AP50", "mAP")
# Name: file, its text, what the message says.
USER_ERRORS = {
    "key": ("gate.yaml", "gate: {min_AP: 0.5}", r"gate.yaml(.|\n)*`gate.min_AP`(.|\n)*`min_ap`"),
    "metric": ("gate.yaml", UNKNOWN_METRIC, "`gate.no_significant_drop.1` is 'mAP'"),
    "section": ("gate.yaml", "min_ap: 0.5", "gate.yaml: section `gate`"),
    "AP": ("metrics/evaluate.json", '{"AP": "high"}', "metrics/evaluate.json: AP is 'high'"),
    "JSON": ("metrics/evaluate.json", "<<<<<<< HEAD", "metrics/evaluate.json is not .*JSON"),
    "list": ("metrics/evaluate.json", "[]", r"metrics/evaluate.json: expected an object, found \[\]"),
    "no file": ("metrics/export/details.json", '{"images": 1}', r"metrics/export/details\.json: expected `precisions`"),
    "no figure": ("metrics/export/details.json", '{"precision": "fp32", "precisions": {"fp32": {}}}', "no valid 'AP'"),
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
