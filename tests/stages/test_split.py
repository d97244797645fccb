"""The split stage from the command line: its files, a growing lock, and one message per user error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from detector.manifest.manifest import CleanBox, CleanImage, write_manifest

SCRIPT = Path(__file__).parents[2] / "stages" / "split.py"
PARAMS = {"strategy": "stratified", "ratios": {"train": 0.7, "val": 0.15, "test": 0.15}, "seed": 0}
SPLITS = ("train", "val", "test")


def image(number: int, label: str = "bolt", group: int | None = None, **changes: Any) -> CleanImage:
    path = f"data/raw/räder/{number:03}.jpg"
    group_path = path if group is None else f"data/raw/räder/{group:03}.jpg"
    box = CleanBox(label, (0.0, 0.0, 8.0, 8.0), "intact")
    fields = {"sequence": None, "split": None, **changes}
    return CleanImage(path, path, f"{number:016x}", 8, 8, group_path, boxes=(box,), **fields)


def run(folder: Path, images: list[CleanImage], **changes: Any) -> subprocess.CompletedProcess[str]:
    (folder / "params.yaml").write_text(yaml.safe_dump({"split": {**PARAMS, **changes}}))
    (folder / "data/clean").mkdir(parents=True, exist_ok=True)
    write_manifest(folder / "data/clean/manifest.jsonl", images)
    return start(folder)


def start(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", *options, str(SCRIPT)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)


def error_message(done: subprocess.CompletedProcess[str], folder: Path) -> str:
    """The message of a run that a user error stops: exit code 1, no traceback, no outputs."""
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.count("error:") == 1
    assert not (folder / "data/split").exists()
    return done.stderr


def outputs(folder: Path) -> dict[str, bytes]:
    files = [*sorted((folder / "data/split").iterdir()), folder / "metrics/split/details.json", folder / "split.lock"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files if path.exists()}


def lists(folder: Path) -> dict[str, list[str]]:
    return {name: (folder / f"data/split/{name}.txt").read_text("utf-8").splitlines() for name in SPLITS}


IMAGES = [image(number, "bolt" if number % 3 else "ring") for number in range(40)]
ONE_EACH = [image(number, label=name, split=name) for number, name in enumerate(SPLITS)]


def test_outputs_and_summary(tmp_path: Path) -> None:
    done = run(tmp_path, IMAGES[::-1])
    assert (done.returncode, done.stderr) == (0, "")
    found = lists(tmp_path)
    assert {name: len(paths) for name, paths in found.items()} == {"train": 28, "val": 6, "test": 6}
    assert sorted(path for paths in found.values() for path in paths) == [each.image for each in IMAGES]
    assert all(paths == sorted(paths) for paths in found.values())
    metrics = json.loads((tmp_path / "metrics/split/details.json").read_text())
    assert metrics["images"] == {"train": 28, "val": 6, "test": 6}
    assert sorted(metrics["class_shares"]) == ["bolt", "ring"]
    lock = (tmp_path / "split.lock").read_text().splitlines()
    assert lock[0] == "# strategy stratified, ratios 0.7/0.15/0.15, seed 0"
    split_of = {path: name for name, paths in found.items() for path in paths}
    assert lock[1:] == [f"{each.content} {split_of[each.image]}" for each in IMAGES]
    counts, deviation = done.stdout.splitlines()
    assert counts == "28 train, 6 val, 6 test images; 40 newly assigned"
    assert f" {metrics['max_class_deviation_points']} percentage points" in deviation


def test_imports_no_torch_matplotlib_or_pandas(tmp_path: Path) -> None:
    run(tmp_path, IMAGES)
    imported = start(tmp_path, "-X", "importtime").stderr
    assert "detector.splitting.splitting" in imported
    assert not any(name in imported for name in ("torch", "matplotlib", "pandas"))


def test_manifest_order_and_folder_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    run(tmp_path / "a", IMAGES)
    run(tmp_path / "b", IMAGES[::-1])
    assert outputs(tmp_path / "a") == outputs(tmp_path / "b")


def test_second_run_writes_the_same(tmp_path: Path) -> None:
    run(tmp_path, IMAGES)
    first = outputs(tmp_path)
    assert run(tmp_path, IMAGES).returncode == 0
    again = outputs(tmp_path)
    assert again == first


def test_added_images_move_nothing_and_an_image_between_two_splits_is_left_out(tmp_path: Path) -> None:
    run(tmp_path, IMAGES)
    before = lists(tmp_path)
    first, second = (int(before[name][0][-7:-4]) for name in ("train", "test"))
    joined = [image(number, group=first if number == second else None) for number in range(40)]
    new = [image(100, group=first), *(image(number) for number in range(101, 121))]
    done = run(tmp_path, [*joined, *new])
    assert done.returncode == 0
    after = lists(tmp_path)
    for name in SPLITS:
        assert set(before[name]) <= set(after[name])
    assert sum(map(len, after.values())) == 60
    assert f"  left out: {new[0].image}\n" in done.stdout
    (leak,) = (line for line in done.stdout.splitlines() if "leak" in line)
    assert before["train"][0] in leak
    metrics = json.loads((tmp_path / "metrics/split/details.json").read_text())
    assert (metrics["images_left_out"], metrics["groups_in_several_splits"]) == (1, 1)
    assert " 20 newly assigned" in done.stdout


def test_lock_of_another_seed_is_replaced(tmp_path: Path) -> None:
    run(tmp_path, IMAGES)
    before = lists(tmp_path)
    run(tmp_path, IMAGES, seed=1)
    assert lists(tmp_path) != before
    assert (tmp_path / "split.lock").read_text().startswith("# strategy stratified, ratios 0.7/0.15/0.15, seed 1\n")


def test_given_uses_the_datasets_splits_and_writes_no_lock(tmp_path: Path) -> None:
    given_splits = ["train", "val", "test", None]
    done = run(tmp_path, [image(number, split=given_splits[number % 4]) for number in range(8)], strategy="given")
    assert done.returncode == 0
    assert [len(paths) for paths in lists(tmp_path).values()] == [2, 2, 2]
    assert done.stdout.count("left out") == 2
    assert not (tmp_path / "split.lock").exists()


@pytest.mark.parametrize(
    ("images", "changes", "words"),
    [
        (IMAGES, {"sede": 1}, ["unknown key `split.sede`; did you mean `seed`?"]),
        (IMAGES, {"strategy": "fold"}, ["`split.strategy` is 'fold'", "'stratified', 'sequence', 'random' or 'given'"]),
        (IMAGES, {"ratios": {"train": 0.5, "val": 0.1, "test": 0.1}}, ["`split.ratios` is", "sum to 0.7, expected 1"]),
        (IMAGES, {"strategy": "given"}, ["`split.strategy` is given", "stratified"]),
        (IMAGES, {"strategy": "sequence"}, ["`split.strategy` is sequence", "stratified"]),
        (IMAGES[:2], {}, ["split `val` is empty", "2 images"]),
        (ONE_EACH, {"strategy": "given"}, ["train has no box of test, val"]),
    ],
)
def test_user_errors(tmp_path: Path, images: list[CleanImage], changes: dict[str, Any], words: list[str]) -> None:
    message = error_message(run(tmp_path, images, **changes), tmp_path)
    for word in words:
        assert word in message
    assert not (tmp_path / "split.lock").exists()


def test_invalid_lock_is_named_and_kept(tmp_path: Path) -> None:
    bad = "# strategy stratified, ratios 0.7/0.15/0.15, seed 0\n=======\n"
    (tmp_path / "split.lock").write_text(bad)
    assert "split.lock:2: found '======='" in error_message(run(tmp_path, IMAGES), tmp_path)
    assert (tmp_path / "split.lock").read_text() == bad


def commit_lock(folder: Path) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    for command in (("init", "-q"), ("add", "split.lock"), (*identity, "commit", "-qm", "lock")):
        subprocess.run(["git", *command], cwd=folder, check=True)


def test_a_lock_that_lost_lines_is_an_error_in_a_repository_with_a_history(tmp_path: Path) -> None:
    run(tmp_path, IMAGES)
    commit_lock(tmp_path)
    lock = (tmp_path / "split.lock").read_text()
    first = outputs(tmp_path)
    for damaged in ("", "\n", lock[: lock.index("\n") + 1], lock[: lock.index("\n", 200) + 1], lock[:100], lock[:-1]):
        (tmp_path / "split.lock").write_text(damaged)
        done = run(tmp_path, IMAGES)
        assert (done.returncode, done.stdout) == (1, "")
        assert "split.lock" in done.stderr
        assert "git checkout split.lock" in done.stderr
        assert (tmp_path / "split.lock").read_text() == damaged
    (tmp_path / "split.lock").write_text(lock)
    assert run(tmp_path, IMAGES).returncode == 0
    assert outputs(tmp_path) == first


def test_an_emptied_lock_is_a_start_for_another_dataset(tmp_path: Path) -> None:
    run(tmp_path, IMAGES)
    commit_lock(tmp_path)
    (tmp_path / "split.lock").write_text("")
    done = run(tmp_path, [image(number) for number in range(100, 140)])
    assert done.returncode == 0, done.stderr
    assert " 40 newly assigned" in done.stdout


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_a_lock_that_is_no_file(tmp_path: Path, kind: str) -> None:
    (tmp_path / "split.lock").mkdir() if kind == "folder" else os.mkfifo(tmp_path / "split.lock")
    assert f"split.lock is a {kind}, expected a file" in error_message(run(tmp_path, IMAGES), tmp_path)


def test_given_refuses_an_image_in_several_lists(tmp_path: Path) -> None:
    images = [image(number, split=("train", "val", "test", "train+val")[number % 4]) for number in range(40)]
    message = error_message(run(tmp_path, images, strategy="given"), tmp_path)
    assert "10 images are in several lists" in message
    assert f"{images[3].image} in train+val" in message
    assert run(tmp_path, images).returncode == 0, "the others deal anew"


def test_missing_manifest(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"split": PARAMS}))
    message = error_message(start(tmp_path), tmp_path)
    assert "data/clean/manifest.jsonl is missing" in message
    assert "dvc repro" in message
