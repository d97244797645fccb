"""tools/compare.py on revisions, in a git and DVC repository."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

import compare
import comparison_inputs
import comparison_page
from tests.support.compared_results import cells, dataset, detections, run, write
from tests.support.repository import Repository, environment_for

Capture = pytest.CaptureFixture[str]

SCRIPT = Path(compare.__file__)


def experiment(repository: Repository, truth: dict[str, Any], rows: list[dict[str, Any]], threshold: float) -> None:
    """The outputs of evaluate, tracked by DVC as in the pipeline."""
    write(repository.root / comparison_inputs.TRUTH, truth)
    write(repository.root / comparison_inputs.PREDICTIONS, rows)
    rows_of_classes = [{"class": one["name"], "raw_threshold": threshold} for one in truth["categories"]]
    write(repository.root / comparison_inputs.DETAILS, {"classes": rows_of_classes})
    repository.dvc("add", "--quiet", "data/coco", "data/predictions", "metrics/evaluate")
    repository.commit()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """Revisions good, poor (the same test set) and grown (a changed, a lost and a new image), then a workspace."""
    folder = tmp_path_factory.mktemp("compared")
    (folder / "repository").mkdir()
    made = Repository(folder / "repository", environment_for(folder / "settings"))
    made.git("init", "--quiet")
    made.dvc("init", "--quiet")
    truth = dataset(60)
    experiment(made, truth, detections(truth, 0.95), 0.35)
    made.git("tag", "good")
    experiment(made, truth, detections(truth, 0.6), 0.45)
    made.git("tag", "poor")
    grown = dataset(61)
    grown["images"] = grown["images"][1:]
    grown["annotations"] = grown["annotations"][3:]
    grown["annotations"][0]["bbox"][0] += 3
    experiment(made, grown, detections(grown, 0.95), 0.35)
    made.git("tag", "grown")
    strange = {**truth, "images": [{**image, "content": f"x{image['id']}"} for image in truth["images"]]}
    experiment(made, strange, detections(truth, 0.95), 0.35)
    made.git("tag", "strange")
    # An experiment is a commit under refs/exps.
    (head, base) = (made.git("rev-parse", name).strip() for name in ("poor", "good"))
    made.git("update-ref", f"refs/exps/{base[:2]}/{base[2:]}/sick-poem", head)
    return made


def run_in(repository: Repository, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.chdir(repository.root)
    return run(monkeypatch, *arguments)


def test_revisions(repository: Repository, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    assert run_in(repository, monkeypatch, "good", "poor", "--fail-if-worse", "AP") == 3
    by_tag = capsys.readouterr().out
    assert cells(by_tag, "F1")[-1] == "**worse**"
    assert "best threshold" not in by_tag
    assert run_in(repository, monkeypatch, "good", "sick-poem") == 0
    assert capsys.readouterr().out.replace("sick-poem", "poor") == by_tag


def test_the_detections_of_the_file_that_ships(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """An int8 file that finds little, of a good model."""
    exported = repository.root / "metrics/export"
    repository.git("checkout", "--quiet", "good")
    repository.dvc("checkout", "--quiet")
    write(exported / "details.json", {"precision": "int8", "AP_drop": 0.2})
    write(exported / "predictions.json", detections(dataset(60), 0.6))
    try:
        assert run_in(repository, monkeypatch, "good", "workspace", "--fail-if-worse", "AP") == 3
        assert "`workspace` exports a file in int8" in capsys.readouterr().out
    finally:
        shutil.rmtree(exported)
        repository.git("checkout", "--quiet", "strange")
        repository.dvc("checkout", "--quiet")


def test_an_older_revision_has_only_the_detections_of_the_model(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository.root)
    metrics = repository.root / "metrics/export.json"
    said = "`workspace` exports a file in int8; these figures are the model's, not the exported file's."
    older: tuple[tuple[dict[str, Any], str], ...] = (
        ({"precision": "int8", "AP_drop": 0.2}, said),
        ({"precision": "fp32", "AP_drop": 0.0}, ""),
        ({"export": {"AP": 0.7, "AP_drop": 0.0}}, ""),
    )
    try:
        for content, note in older:
            write(metrics, content)
            assert comparison_inputs.read_revision("workspace").note == note
    finally:
        metrics.unlink()


def test_the_page_of_two_revisions(repository: Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It shows calibrated thresholds, each side's, and pictures that only a revision has."""
    monkeypatch.chdir(repository.root)
    good, poor = (comparison_inputs.read_revision(name) for name in ("good", "poor"))
    poor = poor._replace(temperature=0.5, card={"model": "simple", "size": [64, 96], "data": "0123456789abcdef"})
    comparison = compare.compare(good, poor)
    comparison_page.write_page(comparison, (good, poor), None, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "each side with its own temperature (1.000 and 0.500)" in page
    assert "0.350" in page
    assert "0.401" in page  # of 0.45
    assert "96 × 64 pixels" in page
    assert good.files is not None
    find = comparison_page.make_finder([tmp_path, good.files], tmp_path / "copies", None)
    copy = find(comparison_inputs.PREDICTIONS)  # any file that DVC tracks
    assert copy is not None
    assert json.loads(copy.read_text(encoding="utf-8")) == good.results.predictions
    assert find("images/nowhere.jpg") is None


def test_thresholds_of_the_evaluation(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the model's own scores, which are what prediction files have; old revisions know no others."""
    monkeypatch.chdir(repository.root)
    assert comparison_inputs.read_revision("poor").thresholds == {"bolt": 0.45, "nut|2": 0.45}
    rows = [{"class": "bolt", "threshold": 0.9, "raw_threshold": 0.7}, {"class": "nut|2", "threshold": 0.4}]
    assert comparison_inputs.read_thresholds({"classes": rows}, "here") == {"bolt": 0.7, "nut|2": 0.4}
    invalid: tuple[Any, ...] = ({}, [], {"classes": []}, {"classes": [{"class": "bolt"}]}, {"classes": [1]})
    for wrong in invalid:
        with pytest.raises(compare.UserError, match="here has no classes with a number `raw_threshold`"):
            comparison_inputs.read_thresholds(wrong, "here")


def test_different_test_sets_are_compared_on_common_images(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    assert run_in(repository, monkeypatch, "good", "grown") == 0
    out = capsys.readouterr().out
    assert "58 test images, 174 objects" in out
    assert "**Images left out**: 1 with different objects, 1 only in `good`, 1 only in `grown`." in out
    with pytest.raises(compare.UserError, match=r"no test image in common .* 60 only in good, 60 only in workspace"):
        run_in(repository, monkeypatch, "good", "workspace")


def test_invalid_revisions(repository: Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(compare.UserError, match="`nowhere` is not a git revision"):
        run_in(repository, monkeypatch, "good", "nowhere")
    with pytest.raises(compare.UserError, match="--truth needs two prediction files"):
        run_in(repository, monkeypatch, "good", "poor", "--truth", "truth.json")
    empty = Repository(tmp_path / "clone", repository.environment)
    repository.clone(empty.root)
    with pytest.raises(compare.UserError, match=r"data/coco/test.json of `good` .*`dvc fetch"):
        run_in(empty, monkeypatch, "good", "poor")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(compare.UserError, match="a repository of git and DVC"):
        run(monkeypatch, "good", "poor")


def test_as_a_command(repository: Repository) -> None:
    command = (sys.executable, str(SCRIPT), "poor", "good", "--fail-if-worse", "AP")
    assert repository.run(*command).startswith("### `poor` → `good`: AP +0.")
