"""Each row of the speed benchmark once, on tiny data."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import (
    coco_evaluation,
    image_reading,
    photographs,
    speed,
    stage_runtime,
    timing,
    training_steps,
    workspace,
)
from detector.core.errors import UserError
from detector.preprocessing.findings import FindingLog
from detector.preprocessing.formats.jsonl import read_jsonl

DEPRECATED = pytest.mark.filterwarnings("ignore:The image decoding:DeprecationWarning")  # decode_jpeg
# A fake preprocess that logs the number of images and whether it has a cache.
FAKE_PREPROCESS = """
import pathlib
lines = pathlib.Path("DATASET").read_text().splitlines()
with open("log", "a") as log:
    log.write(f"{len(lines)} {pathlib.Path('.cache').exists()}, ")
pathlib.Path(".cache").mkdir(exist_ok=True)
"""


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return photographs.write_photographs(tmp_path_factory.mktemp("set") / "images", 3)


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    """A fake copy of the repository with a light, a heavy and a broken stage."""
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages/torch.py").write_text("")
    (tmp_path / "stages/light.py").write_text("print('done')")
    (tmp_path / "stages/heavy.py").write_text("import torch")
    (tmp_path / "stages/broken.py").write_text("import sys; sys.exit('no such manifest')")
    return tmp_path


def test_photographs_are_different_and_reproducible(paths: list[Path], tmp_path: Path) -> None:
    again = photographs.write_photographs(tmp_path / "again", 3)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in paths]
    assert len({path.read_bytes() for path in paths}) == 3
    assert all(40_000 < path.stat().st_size < 80_000 for path in paths)
    with Image.open(paths[0]) as image:
        assert (image.format, image.size, image.mode) == ("JPEG", (640, 480), "RGB")


def test_the_dataset_can_be_read(paths: list[Path]) -> None:
    folder = paths[0].parent.parent
    photographs.write_dataset(paths[:2], folder / "dataset.jsonl")
    images = list(read_jsonl(folder, FindingLog()))
    assert [folder / image.path for image in images] == paths[:2]
    assert all(len(image.boxes) == 5 for image in images)


def test_both_batches_have_the_same_content(paths: list[Path]) -> None:
    ours, theirs = image_reading.uint8_batch(paths, (240, 320)), image_reading.float_batch(paths, (240, 320))
    assert ours.shape == theirs.shape == (3, 3, 240, 320)
    assert ours.dtype == torch.uint8
    assert theirs.dtype == torch.float32
    assert (ours / 255 - theirs).abs().mean() < 0.02


def test_loading_row_restores_the_number_of_threads(paths: list[Path]) -> None:
    threads = torch.get_num_threads()
    row = image_reading.loading_row(paths, (240, 320), pairs=1)
    assert "640×480 → 320" in row.what
    assert row.passed is not None
    assert torch.get_num_threads() == threads


@DEPRECATED
def test_decode_all_counts_every_pixel(paths: list[Path]) -> None:
    with ThreadPoolExecutor(2) as pool:
        assert image_reading.decode_all(paths, pool) == 3 * 640 * 480


@DEPRECATED
def test_inspection_rows(paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def threads(files: list[Path]) -> Iterator[tuple[str, ThreadPoolExecutor]]:
        with ThreadPoolExecutor(1) as pool:
            yield "threads", pool

    monkeypatch.setattr(image_reading, "open_fastest_pool", threads)
    row = image_reading.inspection_row(paths, tmp_path / "cache.sqlite", pairs=1)
    assert row.baseline.endswith("decode_jpeg in threads")
    row = image_reading.added_image_row(paths, tmp_path / "cache.sqlite", pairs=2)
    assert row.what.endswith("+1 image of 2")
    assert row.target == "≥ 20 ×"


def test_a_broken_image_is_an_error(paths: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="readable"):
        image_reading.inspect_without_cache([*paths, tmp_path / "missing.jpg"], tmp_path / "cache.sqlite")


def test_evaluation_row_checks_that_metrics_are_equal() -> None:
    row = coco_evaluation.evaluation_row(images=3, detections=4, pairs=1)
    assert "12 metrics equal" in row.measured


def test_generated_detections_have_a_medium_ap() -> None:
    truth, predictions = coco_evaluation.generate_case(4, 52)
    assert len(predictions) == 208
    assert set(predictions.image_ids.tolist()) == set(truth.images.ids.tolist())
    coco = coco_evaluation.build_dictionary(truth)
    metrics = coco_evaluation.evaluate_with_pycocotools(coco, list(predictions.to_rows()))
    assert len(metrics) == 12
    assert 0.1 < metrics[1] < 0.9
    assert np.isfinite(metrics).all()


def test_both_trainings_see_the_same_boxes(paths: list[Path]) -> None:
    coco = training_steps.random_labels(paths)
    assert len(coco["annotations"]) == 3 * training_steps.BOXES
    image, target = training_steps.ReferenceDataset(coco)[1]
    assert image.shape == (3, 480, 640)
    assert image.dtype == torch.float32
    boxes = target["boxes"]
    assert boxes.shape == (training_steps.BOXES, 4)
    assert ((boxes[:, 2:] - boxes[:, :2]) > 20).all()
    assert ((boxes >= 0) & (boxes <= torch.tensor([640, 480, 640, 480]))).all()


@pytest.mark.long
def test_training_row(paths: list[Path]) -> None:
    row = training_steps.training_row(training_steps.MODEL_PAIRS[0], paths, batch=2, pairs=1, steps=1)
    assert "training `ssdlite`, 320×320, batches of 2" in row.what
    assert row.target == "≥ 1.5 ×"


def test_stage_row_shows_whether_torch_was_imported(scripts: Path) -> None:
    light, heavy = stage_runtime.stage_row(scripts, "light", runs=1), stage_runtime.stage_row(scripts, "heavy", runs=1)
    assert light.measured.endswith("no torch")
    assert heavy.measured.endswith("torch imported")
    assert heavy.passed is False


def test_a_failing_stage_is_an_error(scripts: Path) -> None:
    with pytest.raises(UserError, match=r"stages/broken.py[\s\S]*no such manifest"):
        stage_runtime.stage_row(scripts, "broken", runs=1)


def test_commands_do_not_see_another_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", "/elsewhere")
    monkeypatch.setenv("GIT_DIR", "/elsewhere/.git")
    assert not {"DVC_ROOT", "GIT_DIR"} & set(workspace.build_environment(tmp_path))
    assert workspace.run_python(tmp_path, "-c", "import os; print(os.environ.get('DVC_ROOT'))") == "None\n"


@pytest.mark.parametrize("entry", ["data/clean", {"data/clean": {"cache": False}}])
def test_paths_of_outputs_with_and_without_options(entry: str | dict[str, Any]) -> None:
    assert workspace.output_path(entry) == "data/clean"


def test_preprocess_row_clears_the_cache_for_the_full_run_only(paths: list[Path], tmp_path: Path) -> None:
    listing = paths[0].parents[1] / "dataset.jsonl"
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages/preprocess.py").write_text(FAKE_PREPROCESS.replace("DATASET", str(listing)))
    row = stage_runtime.preprocess_row(tmp_path, paths, listing, pairs=2)
    assert (tmp_path / "log").read_text() == "2 False, 3 True, " * 2
    assert row.what.endswith("+1 image of 2")
    assert row.passed is None


def test_repro_row_on_placeholder_outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        stage_runtime, "time_pairs", lambda ours, baseline, pairs: timing.summarize_pairs([(1.5, 1.25)])
    )
    repository = tmp_path / "repository"
    workspace.copy_repository(repository, Path("data/raw/sample"))
    for name in ("data/raw/sample", "split.lock", *(f"data/coco/{split}.json" for split in ("train", "val", "test"))):
        workspace.write_placeholder(repository / name)
    workspace.write_placeholder_outputs(repository)
    row = stage_runtime.repro_row(repository, tmp_path / "trivial", pairs=1)
    assert row.measured == "+0.25 s"
    assert row.target == "≤ + 0.3 s"
    assert row.passed


def test_machine_names_date_processor_and_versions() -> None:
    assert f"torch {torch.__version__.partition('+')[0]}" in speed.describe_machine()
    assert f"{speed.processor_name()}, " in speed.describe_machine()


def test_a_missing_package_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "PACKAGES", ("no-such-package",))
    with pytest.raises(UserError, match=r"no-such-package is not installed in .*make install"):
        speed.check_environment()


def test_missing_git_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="Install git"):
        speed.check_environment()
