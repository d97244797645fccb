"""The output and exit codes of tools/compare.py, on files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import compare
from comparison_page import make_finder
from tests.support.compared_results import cells, dataset, detections, run, write

Capture = pytest.CaptureFixture[str]


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


def test_the_page_of_two_files(files: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """Images lie beside the file of the truth, or in its folder `images`; those that are not there are counted."""
    Image.new("RGB", (400, 100)).save(files / "1.jpg")
    (files / "images").mkdir()
    Image.new("RGB", (400, 100)).save(files / "images/2.jpg")
    (files / "elsewhere").mkdir()
    monkeypatch.chdir(files / "elsewhere")
    sides = ("../good.json", "../poor.json", "--truth", "../truth.json")
    assert run(monkeypatch, *sides, "--html", "page.html") == 0
    page = Path("page.html").read_text(encoding="utf-8")
    out, err = capsys.readouterr()
    assert out.startswith("### `../good.json` → `../poor.json`")
    (missing,) = re.findall(r"page.html: (\d+) images are neither on disk nor in DVC's cache or remote", err)
    (shown,) = re.findall(r"(\d+) of the images were not found", page)
    assert missing == shown
    assert (page.count('"/9j/'), int(missing)) == (2, 42)  # JPEGs
    assert "B is worse: AP −0." in page
    assert "://" not in re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)


def test_the_truth_of_somebody_else_shows_no_other_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its names may lead anywhere; what lies outside its own and the current folder counts as missing."""
    for path in ("private.jpg", "theirs/images/1.jpg", "here/2.jpg"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    (tmp_path / "theirs/link.jpg").symlink_to(tmp_path / "private.jpg")
    monkeypatch.chdir(tmp_path / "here")
    theirs = Path("../theirs")
    find = make_finder([Path(), theirs, theirs / "images"], tmp_path / "copies", [Path(), theirs])
    for name in ("../private.jpg", "../../private.jpg", str(tmp_path / "private.jpg"), "link.jpg", "3.jpg"):
        assert find(name) is None
    ours, image = tmp_path / "here/2.jpg", tmp_path / "theirs/images/1.jpg"
    for name, expected in (("1.jpg", image), ("images/1.jpg", image), ("2.jpg", ours), (str(ours), ours)):
        found = find(name)
        assert found is not None
        assert found.samefile(expected)


def test_the_page_shows_no_image_from_elsewhere(files: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    truth = dataset(60)
    for image in truth["images"]:
        image["file_name"] = str(files / f"{image['id']}.jpg")
        Image.new("RGB", (400, 100)).save(image["file_name"])
    write(files / "here/theirs/truth.json", truth)
    monkeypatch.chdir(files / "here")
    sides = ("../good.json", "../poor.json", "--truth", "theirs/truth.json")
    assert run(monkeypatch, *sides, "--html", "page.html") == 0
    assert '"/9j/' not in Path("page.html").read_text(encoding="utf-8")
    assert "page.html: 44 images are neither" in capsys.readouterr().err


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
