"""The coco-convert stage from the command line: three files that pycocotools reads, and one message per user error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pycocotools.coco import COCO

from detector.manifest.manifest import CleanBox, CleanImage, Labels, write_labels, write_manifest

SCRIPT = Path(__file__).parents[2] / "stages" / "coco_convert.py"
SPLITS = ("train", "val", "test")


def image(number: int) -> CleanImage:
    path = f"data/raw/räder/{number}.jpg"
    boxes = (CleanBox("bolt", (0.0, 0.5, 8.0, 8.0), "absent"),) * number
    return CleanImage(path, path, f"{number:016x}", 8, 8, path, None, None, boxes)


def prepare(folder: Path, **params: Any) -> None:
    """Write what the earlier stages would: images 0 to 3; train has two, val and test one each."""
    (folder / "params.yaml").write_text(yaml.safe_dump({"coco_convert": {"absent_states": ["absent"], **params}}))
    (folder / "data/clean").mkdir(parents=True)
    (folder / "data/split").mkdir()
    write_manifest(folder / "data/clean/manifest.jsonl", [image(number) for number in range(4)])
    write_labels(folder / "data/clean/labels.json", Labels(["bolt"], ["intact", "absent"]))
    for name, numbers in zip(SPLITS, ([3, 0], [1], [2]), strict=True):
        paths = [image(number).image for number in numbers]
        (folder / f"data/split/{name}.txt").write_text("".join(f"{path}\n" for path in paths), encoding="utf-8")


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", *options, str(SCRIPT)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)


def run_to_error(folder: Path) -> str:
    done = run(folder)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.count("error:") == 1
    return done.stderr


def test_outputs_and_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare(tmp_path)
    done = run(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    states, *counts = done.stdout.splitlines()
    assert states == "states: intact detectable; absent not"
    assert counts == ["train: 2 images, 3 boxes", "val: 1 images, 1 boxes", "test: 1 images, 2 boxes"]
    assert sorted(path.name for path in (tmp_path / "data/coco").iterdir()) == ["test.json", "train.json", "val.json"]
    for name, numbers in zip(SPLITS, ([0, 3], [1], [2]), strict=True):
        coco = COCO(tmp_path / f"data/coco/{name}.json")
        assert [coco.imgs[key]["file_name"] for key in (1, 2)[: len(numbers)]] == [image(n).image for n in numbers]
        assert [coco.imgs[key]["content"] for key in (1, 2)[: len(numbers)]] == [image(n).content for n in numbers]
        assert sorted(coco.anns) == list(range(1, sum(numbers) + 1))
        assert coco.dataset["states"][1] == {"id": 2, "name": "absent", "present": False}
    assert capsys.readouterr().err == ""


def test_two_runs_write_the_same_bytes(tmp_path: Path) -> None:
    prepare(tmp_path)
    run(tmp_path)
    first = {path: path.read_bytes() for path in (tmp_path / "data/coco").iterdir()}
    run(tmp_path)
    assert {path: path.read_bytes() for path in (tmp_path / "data/coco").iterdir()} == first
    assert all(data.endswith(b"}\n") and data.count(b"\n") == 1 for data in first.values())


def test_imports_no_torch_matplotlib_or_pandas(tmp_path: Path) -> None:
    prepare(tmp_path)
    imported = run(tmp_path, "-X", "importtime").stderr
    assert "detector.splitting.coco_writer" in imported
    assert not any(name in imported for name in ("torch", "matplotlib", "pandas"))


def test_unknown_key(tmp_path: Path) -> None:
    prepare(tmp_path, absent_sates=[])
    assert "unknown key `coco_convert.absent_sates`; did you mean `absent_states`?" in run_to_error(tmp_path)


def test_absent_state_that_does_not_occur_is_noted(tmp_path: Path) -> None:
    prepare(tmp_path, absent_states=["gone"])
    done = run(tmp_path)
    assert done.returncode == 0
    states, note, *_ = done.stdout.splitlines()
    assert states == "states: intact, absent detectable"
    assert "absent_states" in note
    assert "gone" in note


def test_split_lists_of_another_manifest(tmp_path: Path) -> None:
    prepare(tmp_path)
    (tmp_path / "data/split/val.txt").write_text("data/raw/gone.jpg\n")
    message = run_to_error(tmp_path)
    assert "data/split/val.txt: data/raw/gone.jpg is not in the manifest" in message
    assert "dvc repro split" in message


@pytest.mark.parametrize("missing", ["data/clean/labels.json", "data/clean/manifest.jsonl", "data/split/test.txt"])
def test_missing_input(tmp_path: Path, missing: str) -> None:
    prepare(tmp_path)
    (tmp_path / missing).unlink()
    message = run_to_error(tmp_path)
    assert f"{missing} is missing" in message
    assert "dvc repro" in message
