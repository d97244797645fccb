"""The output and exit codes of tools/compare.py, on files and in a git and DVC repository."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import compare
from tests.support.repository import Repository, environment_for

Capture = pytest.CaptureFixture[str]

SCRIPT = Path(compare.__file__)


def dataset(images: int, seed: int = 0) -> dict[str, Any]:
    """Three objects of two classes in each image."""
    random = np.random.default_rng(seed)
    ids = range(1, images + 1)
    tops = random.integers(60, size=3 * images).tolist()
    common = {"area": 1200, "iscrowd": 0, "state": 0}
    return {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 400, "height": 100, "content": f"c{i}"} for i in ids],
        "annotations": [
            {"id": 3 * i + k, "image_id": i, "category_id": 1 + k % 2, "bbox": [100 * k, tops[3 * i - 3 + k], 40, 30]}
            | common
            for i in ids
            for k in range(3)
        ],
        "categories": [{"id": 1, "name": "bolt"}, {"id": 2, "name": "nut|2"}],
        "states": [],
    }


def detections(truth: dict[str, Any], found: float, seed: int = 0) -> list[dict[str, Any]]:
    """A fraction of the objects, slightly misplaced, and a false positive in some images."""
    random = np.random.default_rng(seed)
    rows = []
    for item in truth["annotations"]:
        off = random.normal(0, 2, 4)
        score = float(random.uniform(0.3, 1))
        if random.random() < found:
            box = np.maximum(np.add(item["bbox"], off), 1).tolist()
            rows.append({"image_id": item["image_id"], "category_id": item["category_id"], "bbox": box, "score": score})
    for image in truth["images"]:
        if random.random() < 0.3:
            rows.append({"image_id": image["id"], "category_id": 1, "bbox": [350, 0, 40, 40], "score": 0.4})
    return rows


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a test set and three detectors' results: good, again the same, and poor."""
    truth = dataset(60)
    write(tmp_path / "truth.json", truth)
    write(tmp_path / "good.json", detections(truth, 0.95))
    write(tmp_path / "poor.json", detections(truth, 0.6))
    write(tmp_path / "other.json", detections(truth, 0.95, seed=1))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit code; invalid input raises UserError."""
    monkeypatch.setattr(sys, "argv", ["compare.py", *arguments])
    try:
        compare.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def cells(text: str, first: str) -> list[str]:
    """The row of a Markdown table that begins with `first`."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {first} |")]
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def test_a_significant_loss_fails(files: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    checks = ("--fail-if-worse", "AP50", "--fail-if-worse", "AP")
    code = run(monkeypatch, "good.json", "poor.json", "--truth", "truth.json", *checks, "--out", "table.md")
    out, err = capsys.readouterr()
    assert code == compare.EXIT_WORSE == 3
    assert "poor.json" in err
    assert "AP50, AP" in err
    assert out == (files / "table.md").read_text(encoding="utf-8")
    assert out.startswith("### `good.json` → `poor.json`: AP −0.")
    assert cells(out, "AP")[-1] == "**worse**"
    assert cells(out, "bolt")[1] == "120"
    assert cells(out, "nut\\|2")[1] == "60"
    assert "60 test images, 180 objects" in out
    assert "2,000" in out
    assert "best threshold" in out
    assert "left out" not in out


def test_a_gain_passes(files: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    code = run(monkeypatch, "poor.json", "good.json", "--truth", "truth.json", "--fail-if-worse", "AP")
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    assert cells(out, "AP")[-1] == cells(out, "bolt")[-1] == "**better**"
    better = [line for line in out.splitlines() if ".jpg | −" in line]
    assert len(better) == 5


@pytest.mark.parametrize("other", ["good.json", "other.json"])
def test_noise_passes(files: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, other: str) -> None:
    metrics = [argument for name in compare.COMPARED_METRICS for argument in ("--fail-if-worse", name)]
    assert run(monkeypatch, "good.json", other, "--truth", "truth.json", *metrics) == 0
    out = capsys.readouterr().out
    assert "not significant" in out.splitlines()[0]
    assert cells(out, "AP")[-1] == "not significant"
    if other == "good.json":
        assert "0; with more: 0; unchanged: 60." in out
        assert cells(out, "F1")[3:6] == ["0.000", "0.000 to 0.000", "1.000"]


def test_the_table_is_the_same_each_time(files: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    printed = []
    for _ in range(2):
        run(monkeypatch, "good.json", "other.json", "--truth", "truth.json")
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]


def test_groups_are_resampled_whole(files: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    truth = dataset(60)
    for image in truth["images"][:40]:
        image["group"] = f"walk {image['id'] // 10}"
    write(files / "truth.json", truth)
    run(monkeypatch, "good.json", "poor.json", "--truth", "truth.json")
    out = capsys.readouterr().out
    assert "25 groups" in out
    assert "fewer than 50" in out


INVALID_INPUTS = {
    "neither": (["nothing.json", "good.json"], "cannot read nothing.json"),
    "half": (["good.json", "main"], "good.json is a file"),
    "no truth": (["good.json", "poor.json"], "add --truth"),
    "not JSON": (["good.json", "broken.json"], "broken.json is not JSON"),
    "no list": (["good.json", "truth.json"], "truth.json is not a COCO results file"),
    "no keys": (["good.json", "keys.json"], "keys.json, detection 1: expected an object with"),
    "image": (["good.json", "image.json"], "image.json, detection 2: image_id 99"),
    "class": (["good.json", "class.json"], "class.json, detection 1: category_id 7"),
}


@pytest.mark.parametrize("name", INVALID_INPUTS)
def test_invalid_files(files: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (files / "broken.json").write_text("[{", encoding="utf-8")
    row = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "score": 0.5}
    write(files / "keys.json", [{"image_id": 1}])
    write(files / "image.json", [row, {**row, "image_id": 99}])
    write(files / "class.json", [{**row, "category_id": 7}])
    arguments, message = INVALID_INPUTS[name]
    truth = [] if name == "no truth" else ["--truth", "truth.json"]
    with pytest.raises(compare.UserError, match=message):
        run(monkeypatch, *arguments, *truth)


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        ([], "truth.json is not a COCO file: expected an object with images, annotations, categories"),
        ({"images": [{"id": 1}], "annotations": [], "categories": []}, "`images` must be a list of objects with"),
        ({**dataset(60), "annotations": []}, "no object on the 60 test images"),
        ({**dataset(60), "categories": []}, "truth.json, annotation 1: category_id 1"),
        (dataset(0), "good.json, detection 1: image_id 1"),
    ],
)
def test_invalid_ground_truth(files: Path, monkeypatch: pytest.MonkeyPatch, truth: Any, message: str) -> None:
    write(files / "truth.json", truth)
    with pytest.raises(compare.UserError, match=message):
        run(monkeypatch, "good.json", "poor.json", "--truth", "truth.json")


def test_an_output_that_cannot_be_written(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (files / "nowhere").touch()
    with pytest.raises(OSError, match="nowhere"):
        run(monkeypatch, "good.json", "poor.json", "--truth", "truth.json", "--out", "nowhere/x.md")


def test_no_detections(files: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    write(files / "none.json", [])
    assert run(monkeypatch, "none.json", "none.json", "--truth", "truth.json", "--fail-if-worse", "AP") == 0
    assert run(monkeypatch, "good.json", "none.json", "--truth", "truth.json", "--fail-if-worse", "F1") == 3
    assert cells(capsys.readouterr().out.split("###")[-1], "AP")[2] == "0.000"


def test_an_unknown_metric_is_a_wrong_command_line(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    assert run(monkeypatch, "good.json", "poor.json", "--truth", "truth.json", "--fail-if-worse", "mAP") == 2
    assert "invalid choice: 'mAP'" in capsys.readouterr().err


def experiment(repository: Repository, truth: dict[str, Any], rows: list[dict[str, Any]], threshold: float) -> None:
    """The outputs of evaluate, tracked as in the pipeline: data by DVC, metrics by git."""
    write(repository.root / compare.TRUTH, truth)
    write(repository.root / compare.PREDICTIONS, rows)
    write(repository.root / compare.METRICS_FILE, {"threshold": threshold})
    repository.dvc("add", "--quiet", "data/coco", "data/predictions")
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


def test_thresholds_of_the_evaluation(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """One for all, and single classes' own where the details have some."""
    monkeypatch.chdir(repository.root)
    assert compare.read_revision("poor").thresholds == {"": 0.45}
    details = {"classes": [{"class": "bolt", "threshold": 0.7}, {"class": "nut|2", "threshold": None}]}
    write(repository.root / compare.DETAILS, details)
    assert compare.read_revision("workspace").thresholds == {"": 0.35, "bolt": 0.7}
    (repository.root / compare.DETAILS).unlink()


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
