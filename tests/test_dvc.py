"""The daily DVC commands do what people expect of them, each in a real repository."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image, ImageOps
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detector.engine.coco_metrics import COCO_METRICS
from tests.conftest import Reproduced
from tests.support.repository import DATASET, STAGES, Repository, stages_run

UP_TO_DATE = "Data and pipelines are up to date."


def stale(repository: Repository) -> set[str]:
    """The stages that `dvc repro` would begin with: those whose own dependencies changed."""
    return set(json.loads(repository.dvc("status", "--json"))) - {f"{DATASET}.dvc"}


def digests(repository: Repository, folder: str) -> dict[str, str]:
    """MD5 of every file in a folder."""
    files = sorted(path for path in (repository.root / folder).rglob("*") if path.is_file())
    return {str(path.relative_to(repository.root)): hashlib.md5(path.read_bytes()).hexdigest() for path in files}


def experiment(repository: Repository, name: str) -> dict[str, Any]:
    """Parameters and metrics of one experiment in `dvc exp show`."""
    (_, head) = json.loads(repository.dvc("exp", "show", "--json"))
    (found,) = [rev for exp in head["experiments"] for rev in exp["revs"] if rev["name"] == name]
    files = found["data"]["params"] | found["data"]["metrics"]
    return {path: content["data"] for path, content in files.items()}


def rows(repository: Repository) -> list[dict[str, Any]]:
    """The lines of the dataset."""
    return [json.loads(line) for line in repository.read(f"{DATASET}/dataset.jsonl").splitlines()]


def images_of(repository: Repository, split: str) -> list[str]:
    """The raw images that were dealt to a split."""
    return [path for path in repository.read(f"data/split/{split}.txt").splitlines() if path.startswith(DATASET)]


def add_image(repository: Repository) -> None:
    """A new labelled image: an old one upside down."""
    path = images_of(repository, "train")[0].removeprefix(f"{DATASET}/")
    row = next(row for row in rows(repository) if row["image_path"] == path)
    for box in row["bounding_box_annotations"]:
        top, bottom = box["y_min_normalized"], box["y_max_normalized"]
        box["y_min_normalized"], box["y_max_normalized"] = 1 - bottom, 1 - top
    folder = repository.root / DATASET
    with Image.open(folder / path) as image:
        ImageOps.flip(image).save(folder / "images/new.png")
    with (folder / "dataset.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({**row, "image_path": "images/new.png"}) + "\n")


def test_repro_runs_every_stage_once(reproduced: Reproduced, pipeline: Repository) -> None:
    assert stages_run(reproduced.output) == list(STAGES)
    again = pipeline.dvc("repro")
    assert stages_run(again) == []
    assert again.endswith(f"{UP_TO_DATE}\n")
    assert pipeline.git("status", "--porcelain") == ""


def test_the_numbers_are_pycocotools(pipeline: Repository) -> None:
    truth = json.loads(pipeline.read("data/coco/test.json"))
    predictions = json.loads(pipeline.read("data/predictions/test.json"))
    metrics = json.loads(pipeline.read("metrics/evaluate/details.json"))["metrics"]
    absent = {state["id"] for state in truth["states"] if not state["present"]}
    truth["annotations"] = [item for item in truth["annotations"] if item["state"] not in absent]
    assert predictions
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(predictions), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    for name, value in zip(COCO_METRICS, evaluation.stats, strict=True):
        assert (-1 if metrics[name] is None else metrics[name]) == pytest.approx(value, abs=1e-9), name


def test_any_file_of_the_model_gives_the_numbers_of_the_stage(pipeline: Repository) -> None:
    metrics = json.loads(pipeline.read("metrics/evaluate/details.json"))["metrics"]
    predictions = json.loads(pipeline.read("data/predictions/test.json"))
    for model in ("models/detector.safetensors", "models/model.onnx"):
        pipeline.run(sys.executable, "tools/evaluate_model.py", model, "test", "--out", "evaluations/one")
        found = json.loads(pipeline.read("evaluations/one/metrics.json"))
        for name in (*COCO_METRICS, "threshold", "precision", "recall", "F1"):
            assert found[name] == pytest.approx(metrics[name], abs=1e-3), (model, name)
        assert len(json.loads(pipeline.read("evaluations/one/predictions.json"))) == len(predictions) > 0
        if model.endswith(".safetensors"):
            assert {name: found[name] for name in metrics} == metrics
            assert pipeline.read("evaluations/one/predictions.json") == pipeline.read("data/predictions/test.json")
    assert pipeline.git("status", "--porcelain") == "", "git should ignore evaluations/"


def test_the_gate_reads_what_the_stages_wrote(pipeline: Repository) -> None:
    pipeline.replace("gate.yaml", "min_ap: 0.6", "min_ap: 0")
    pipeline.replace("gate.yaml", "label_issue_score: 0.5", "label_issue_score: 1")
    table = pipeline.run(sys.executable, "tools/gate.py", "HEAD")
    assert "### Gate passed" in table
    assert "| AP change since `HEAD` | 0.000 (" in table
    pipeline.git("checkout", "--quiet", "gate.yaml")


@pytest.mark.long
def test_another_split_is_judged(pipeline: Repository, tmp_path: Path) -> None:
    copy = pipeline.copy(tmp_path / "copy")
    copy.set_params({"evaluate.split": "val"})
    assert "val: AP 0." in copy.run(sys.executable, "stages/evaluate.py")
    copy.run(
        sys.executable, "tools/evaluate_model.py", "models/detector.safetensors", "val", "--out", "evaluations/one"
    )
    found, metrics = (json.loads(copy.read(path)) for path in ("evaluations/one/metrics.json", "metrics/evaluate.json"))
    assert {name: found[name] for name in metrics} == metrics
    assert metrics != json.loads(pipeline.read("metrics/evaluate.json"))


def test_a_fresh_clone_makes_the_same_bytes(pipeline: Repository, tmp_path: Path) -> None:
    clone = pipeline.clone(tmp_path / "clone")
    clone.make_dataset()
    assert stages_run(clone.dvc("repro")) == list(STAGES)
    assert clone.git("diff") == ""
    assert clone.git("status", "--porcelain") == ""


def test_the_lock_that_split_extends_is_recorded_as_it_left_it(pipeline: Repository) -> None:
    """split.lock is read and then extended by one stage; DVC must remember the extended file."""
    stage = yaml.safe_load(pipeline.read("dvc.lock"))["stages"]["split"]
    (recorded,) = [dependency["md5"] for dependency in stage["deps"] if dependency["path"] == "split.lock"]
    assert recorded == hashlib.md5((pipeline.root / "split.lock").read_bytes()).hexdigest()
    images = pipeline.read("data/clean/manifest.jsonl").splitlines()
    assert len(pipeline.read("split.lock").splitlines()) == 1 + len({json.loads(line)["content"] for line in images})


@pytest.fixture(scope="module")
def edited(reproduced: Reproduced, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    """One copy for all edits that are looked at and taken back."""
    folder = tmp_path_factory.mktemp("edited")
    yield reproduced.repository.copy(folder / "repository")
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("preprocess.min_box_size", "4", {"preprocess"}),
        ("split.seed", "1", {"split"}),
        ("evaluate.bootstrap_samples", "200", {"evaluate"}),
        ("postprocess.nms_iou", "0.4", {"evaluate", "export"}),
        ("export.box_tolerance", "0.4", {"export"}),
    ],
)
def test_a_parameter_makes_only_its_stages_stale(edited: Repository, key: str, value: str, expected: set[str]) -> None:
    edited.set_params({key: value})
    found = stale(edited)
    edited.git("checkout", "--quiet", ".")
    assert found == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("params.yaml", set()),
        ("README.md", set()),
        ("stages/detector/core/errors.py", set(STAGES)),
        ("stages/detector/manifest/manifest.py", {"preprocess", "split", "coco-convert", "evaluate"}),
        ("stages/detector/plotting/palette.py", {"preprocess", "evaluate", "export"}),
        ("stages/detector/preprocessing/cleaning.py", {"preprocess"}),
        ("stages/detector/splitting/splitting.py", {"split", "coco-convert"}),
        ("stages/detector/engine/dataset.py", {"train", "evaluate", "export"}),
        ("stages/detector/training/loop.py", {"train"}),
        ("stages/detector/models/simple.py", {"train", "evaluate", "export"}),
        ("stages/detector/models/dense_loss.py", {"train", "evaluate", "export"}),
        ("stages/detector/evaluation/metrics.py", {"evaluate"}),
        ("stages/detector/evaluation/report/page.js", {"evaluate"}),
        ("stages/detector/runners/tiled.py", {"export"}),
        ("stages/detector/exporting/onnx_file.py", {"export"}),
        ("stages/detector/comparison/comparison.py", set()),
        ("stages/detector/inference/pipeline.py", set()),
        ("stages/detector/serving/app.py", set()),
        ("stages/evaluate.py", {"evaluate"}),
        ("data/decisions.csv", {"preprocess", "evaluate"}),
    ],
)
def test_a_comment_makes_only_its_stages_stale(edited: Repository, path: str, expected: set[str]) -> None:
    with (edited.root / path).open("a", encoding="utf-8") as file:
        file.write("# one more comment\n")
    found = stale(edited)
    edited.git("checkout", "--quiet", ".")
    assert found == expected


@pytest.mark.long
def test_a_changed_image_reruns_what_saw_it(pipeline: Repository) -> None:
    target = pipeline.root / images_of(pipeline, "train")[0]
    with Image.open(target) as image:
        image.save(target, quality=50)
    assert stages_run(pipeline.dvc("repro", "train")) == ["preprocess", "split", "coco-convert", "train"]
    assert stale(pipeline) == {"evaluate", "export"}


def test_an_experiment_changes_one_number(pipeline: Repository) -> None:
    before = yaml.safe_load(pipeline.read("params.yaml"))
    assert stages_run(pipeline.dvc("exp", "run", "--name", "faster", "-S", "train.lr=0.005", "train")) == ["train"]

    shown = experiment(pipeline, "faster")
    assert shown["params.yaml"]["train"]["lr"] == 0.005
    logged = json.loads(pipeline.read("metrics/train/metrics.json"))
    assert shown["metrics/train/metrics.json"]["val"]["AP"] == pytest.approx(logged["val"]["AP"])
    parameters = json.loads(pipeline.dvc("params", "diff", "--json"))
    assert parameters == {
        "params.yaml": {"train.lr": {"old": "auto", "new": 0.005}},
        "metrics/train/recipe.yaml": {"recipe.lr": {"old": 0.00141421, "new": 0.005, "diff": 0.00358579}},  # scaled
    }
    changed = json.loads(pipeline.dvc("metrics", "diff", "--json"))["metrics/train/metrics.json"]["val.loss"]
    assert changed["diff"] == pytest.approx(changed["new"] - changed["old"])
    assert changed["diff"] != 0

    pipeline.git("checkout", "--quiet", ".")
    pipeline.dvc("checkout")
    assert yaml.safe_load(pipeline.read("params.yaml")) == before
    assert stale(pipeline) == set()
    pipeline.dvc("exp", "apply", "faster")
    assert yaml.safe_load(pipeline.read("params.yaml")) == {**before, "train": {**before["train"], "lr": 0.005}}
    assert stages_run(pipeline.dvc("repro", "train")) == []


def test_plots_are_compared_in_one_page(pipeline: Repository) -> None:
    """Between two commits, as after an experiment: the charts of dvc.yaml, each picture once, and nothing else."""
    pipeline.replace("metrics/train/plots/metrics/val/loss.tsv", "1\t", "1\t9")
    pipeline.dvc("commit", "--force", "train")
    pipeline.commit()
    plots = json.loads(pipeline.dvc("plots", "diff", "HEAD~1", "--json"))
    assert plots.get("errors", []) == []
    named = {name for plot in yaml.safe_load(pipeline.read("dvc.yaml"))["plots"] for name in plot}
    images = {str(path.relative_to(pipeline.root)) for path in (pipeline.root / "plots").rglob("*.[pj][np]g")}
    assert named | images == set(plots["data"])
    for name in named:
        assert [plot["revisions"] for plot in plots["data"][name]] == [["workspace", "HEAD~1"]], name
    pipeline.dvc("plots", "diff", "HEAD~1")
    page = pipeline.read("dvc_plots/index.html")
    assert all(name in page for name in ("Loss by epoch", "Validation AP by epoch", "random_01.jpg"))
    assert pipeline.git("status", "--porcelain") == "", "git should ignore dvc_plots/"


def test_an_experiment_elsewhere_has_the_data_and_brings_back_the_lock(pipeline: Repository) -> None:
    """`--temp` sees the raw dataset, though it is not in git; what was dealt there is applied here."""
    old = pipeline.read("split.lock")
    add_image(pipeline)
    command = ("exp", "run", "--temp", "--name", "more", "-S", "preprocess.min_box_size=4", "coco-convert")
    assert stages_run(pipeline.dvc(*command)) == ["preprocess", "split", "coco-convert"]
    assert pipeline.git("status", "--porcelain") == ""
    assert pipeline.read("split.lock") == old

    pipeline.dvc("exp", "apply", "more")
    new = pipeline.read("split.lock")
    assert set(old.splitlines()) < set(new.splitlines())
    assert len(new.splitlines()) == len(old.splitlines()) + 1
    assert any(f"{DATASET}/images/new.png" in images_of(pipeline, split) for split in ("train", "val", "test"))
    assert stages_run(pipeline.dvc("repro", "coco-convert")) == []


def test_an_added_image_moves_no_other(pipeline: Repository) -> None:
    before = {split: images_of(pipeline, split) for split in ("train", "val", "test")}
    add_image(pipeline)
    assert stages_run(pipeline.dvc("repro", "coco-convert")) == ["preprocess", "split", "coco-convert"]
    after = {split: images_of(pipeline, split) for split in before}
    assert sum(map(len, after.values())) == sum(map(len, before.values())) + 1
    assert all(set(before[split]) <= set(after[split]) for split in before)
    assert stages_run(pipeline.dvc("repro", "coco-convert")) == []

    # Back at the old lock it is dealt as before; at the extended one DVC remembers, and runs nothing.
    lock, recorded = pipeline.read("split.lock"), pipeline.read("dvc.lock")
    pipeline.git("checkout", "--quiet", ".")
    assert stages_run(pipeline.dvc("repro", "coco-convert")) == ["split"]
    assert (pipeline.read("split.lock"), pipeline.read("dvc.lock")) == (lock, recorded)
    pipeline.git("checkout", "--quiet", ".")
    (pipeline.root / "split.lock").write_text(lock, encoding="utf-8")
    assert stages_run(pipeline.dvc("repro", "coco-convert")) == []
    assert pipeline.read("dvc.lock") == recorded
