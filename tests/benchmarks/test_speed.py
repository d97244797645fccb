"""The table and the ratios, and every row once on tiny data: what it says, not how fast it is."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import evaluating, inspecting, loading, photographs, running, speed, table, timing, training, workspace
from detector.core.errors import UserError
from detector.preprocessing.formats.jsonl import read

DEPRECATED = pytest.mark.filterwarnings("ignore:The image decoding:DeprecationWarning")  # decode_jpeg
# A preprocess that notes how many images it was given, and whether it had a memory.
STAND_IN = """
import pathlib
lines = pathlib.Path("DATASET").read_text().splitlines()
with open("log", "a") as log:
    log.write(f"{len(lines)} {pathlib.Path('.cache').exists()}, ")
pathlib.Path(".cache").mkdir(exist_ok=True)
"""


@pytest.fixture(scope="module")
def paths(tmp_path_factory) -> list[Path]:
    return photographs.write_photographs(tmp_path_factory.mktemp("set") / "images", 3)


@pytest.fixture
def scripts(tmp_path) -> Path:
    """A stand-in for a copy of the repository: a light stage, a heavy one and a broken one."""
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages/torch.py").write_text("")
    (tmp_path / "stages/light.py").write_text("print('done')")
    (tmp_path / "stages/heavy.py").write_text("import torch")
    (tmp_path / "stages/broken.py").write_text("import sys; sys.exit('no such manifest')")
    return tmp_path


def test_an_empty_table_is_its_head():
    assert table.markdown([]).splitlines()[0].split(" | ")[0] == "| what"
    assert len(table.markdown([]).splitlines()) == 2


def test_table_is_aligned_markdown_with_a_word_per_verdict():
    rows = [
        table.Row("short", "1", "2", "3", "4", True),
        table.Row("a longer one, 640×480", "1", "2", "3", "4", False),
        table.Row("no target", "", "", ""),
    ]
    lines = table.markdown(rows).splitlines()
    assert len({len(line) for line in lines}) == 1
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert {len(line) for line in cells} == {len(table.HEAD)}
    assert set("".join(cells[1])) == {"-"}
    assert [line[-1] for line in cells[2:]] == ["pass", "MISS", ""]


@pytest.mark.parametrize(("ratio", "passed"), [(1.7999, False), (1.8, True), (20.0, True)])
def test_at_least_judges_the_ratio_and_not_its_digits(ratio, passed):
    assert table.at_least(ratio, 1.8) == (f"{ratio:.2f} ×", "≥ 1.8 ×", passed)


@pytest.mark.parametrize(("value", "shown"), [(0.0331, "33 ms"), (0.5, "500 ms"), (1.234, "1.23 s")])
def test_seconds(value, shown):
    assert table.seconds(value) == shown


def test_rate():
    assert table.rate(3000, 1.5) == "2,000 images/s"


def test_summarize_takes_the_median_of_the_pairs_not_of_the_medians():
    times = timing.summarize([(1.0, 2.0), (2.0, 8.0), (4.0, 4.0)])
    assert times.here == 2.0
    assert times.beside == 4.0
    assert times.ratio == 2.0  # of 2, 4 and 1
    assert times.more == -1.0  # of -1, -6 and 0


def test_compare_alternates():
    calls: list[str] = []
    timing.compare(lambda: calls.append("a"), lambda: calls.append("b"), pairs=2)
    assert calls == ["a", "b", "a", "b"]


def test_photographs_are_different_jpegs_and_the_same_each_time(paths, tmp_path):
    again = photographs.write_photographs(tmp_path / "again", 3)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in paths]
    assert len({path.read_bytes() for path in paths}) == 3
    assert all(40_000 < path.stat().st_size < 80_000 for path in paths)
    with Image.open(paths[0]) as image:
        assert (image.format, image.size, image.mode) == ("JPEG", (640, 480), "RGB")


def test_listed_photographs_can_be_read(paths):
    folder = paths[0].parent.parent
    photographs.list_photographs(paths[:2], folder / "dataset.jsonl")
    images = list(read(folder, Counter()))
    assert [folder / image.path for image in images] == paths[:2]
    assert all(len(image.boxes) == 5 for image in images)


def test_both_batches_show_the_same_picture(paths):
    ours, theirs = loading.uint8_batch(paths, (240, 320)), loading.float_batch(paths, (240, 320))
    assert ours.shape == theirs.shape == (3, 3, 240, 320)
    assert ours.dtype == torch.uint8
    assert theirs.dtype == torch.float32
    assert (ours / 255 - theirs).abs().mean() < 0.02


def test_loading_row_leaves_the_threads_as_they_were(paths):
    threads = torch.get_num_threads()
    row = loading.loading_row(paths, (240, 320), pairs=1)
    assert "640×480 → 320" in row.what
    assert row.passed is not None
    assert torch.get_num_threads() == threads


@DEPRECATED
def test_decode_all_counts_every_pixel(paths):
    with ThreadPoolExecutor(2) as pool:
        assert inspecting.decode_all(paths, pool) == 3 * 640 * 480


@DEPRECATED
def test_inspection_rows(paths, tmp_path, monkeypatch):
    @contextmanager
    def threads(files):
        with ThreadPoolExecutor(1) as pool:
            yield "threads", pool

    monkeypatch.setattr(inspecting, "fastest_pool", threads)
    row = inspecting.inspection_row(paths, tmp_path / "memory.sqlite", pairs=1)
    assert row.beside.endswith("decode_jpeg in threads")
    row = inspecting.one_more_row(paths, tmp_path / "memory.sqlite", pairs=2)
    assert row.what.endswith("+1 image of 2")
    assert row.target == "≥ 20 ×"


def test_a_broken_image_is_no_measurement(paths, tmp_path):
    with pytest.raises(UserError, match="readable"):
        inspecting.inspect_anew([*paths, tmp_path / "missing.jpg"], tmp_path / "memory.sqlite")


def test_evaluation_row_finds_the_numbers_equal():
    row = evaluating.evaluation_row(images=3, detections=4, pairs=1)
    assert "12 numbers equal" in row.measured


def test_generated_detections_are_neither_perfect_nor_hopeless():
    truth, predictions = evaluating.generated(4, 52)
    assert len(predictions) == 208
    assert {prediction["image_id"] for prediction in predictions} == {image["id"] for image in truth["images"]}
    numbers = evaluating.reference(truth, predictions)
    assert len(numbers) == 12
    assert 0.1 < numbers[1] < 0.9
    assert np.isfinite(numbers).all()


def test_both_trainings_see_the_same_boxes(paths):
    coco = training.labelled(paths)
    assert len(coco["annotations"]) == 3 * training.BOXES
    image, target = training.ReferenceDataset(coco)[1]
    assert image.shape == (3, 480, 640)
    assert image.dtype == torch.float32
    boxes = target["boxes"]
    assert boxes.shape == (training.BOXES, 4)
    assert ((boxes[:, 2:] - boxes[:, :2]) > 20).all()
    assert ((boxes >= 0) & (boxes <= torch.tensor([640, 480, 640, 480]))).all()


@pytest.mark.long
def test_training_row(paths):
    row = training.training_row(training.CONTESTS[0], paths, batch=2, pairs=1, steps=1)
    assert "training `ssdlite`, 320×320, batches of 2" in row.what
    assert row.target == "≥ 1.5 ×"


def test_stage_row_tells_whether_torch_was_imported(scripts):
    light, heavy = running.stage_row(scripts, "light", runs=1), running.stage_row(scripts, "heavy", runs=1)
    assert light.measured.endswith("no torch")
    assert heavy.measured.endswith("torch imported")
    assert heavy.passed is False


def test_a_stage_that_fails_is_told(scripts):
    with pytest.raises(UserError, match=r"stages/broken.py[\s\S]*no such manifest"):
        running.stage_row(scripts, "broken", runs=1)


def test_commands_do_not_see_another_repository(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", "/elsewhere")
    monkeypatch.setenv("GIT_DIR", "/elsewhere/.git")
    assert not {"DVC_ROOT", "GIT_DIR"} & set(workspace.environment(tmp_path))
    assert workspace.python(tmp_path, "-c", "import os; print(os.environ.get('DVC_ROOT'))") == "None\n"


@pytest.mark.parametrize("entry", ["data/clean", {"data/clean": {"cache": False}}])
def test_names_of_outputs_with_and_without_options(entry):
    assert workspace.name_of(entry) == "data/clean"


def test_preprocess_row_forgets_for_the_full_run_and_remembers_for_the_next(paths, tmp_path):
    listing = paths[0].parents[1] / "dataset.jsonl"
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages/preprocess.py").write_text(STAND_IN.replace("DATASET", str(listing)))
    row = running.preprocess_row(tmp_path, paths, listing, pairs=2)
    assert (tmp_path / "log").read_text() == "2 False, 3 True, " * 2
    assert row.what.endswith("+1 image of 2")
    assert row.passed is None


def test_repro_row_on_outputs_that_stand_in(tmp_path, monkeypatch):
    monkeypatch.setattr(running, "compare", lambda here, beside, pairs: timing.summarize([(1.5, 1.25)]))
    repository = tmp_path / "repository"
    workspace.copy_repository(repository, Path("data/raw/sample"))
    for name in ("data/raw/sample", "split.lock", *(f"data/coco/{split}.json" for split in ("train", "val", "test"))):
        workspace.fill(repository / name)
    workspace.fill_outputs(repository)
    row = running.repro_row(repository, tmp_path / "floor", pairs=1)
    assert row.measured == "+0.25 s"
    assert row.target == "≤ + 0.3 s"
    assert row.passed


def test_machine_names_date_processor_and_versions():
    assert f"torch {torch.__version__.partition('+')[0]}" in speed.machine()
    assert f"{speed.processor()}, " in speed.machine()


def test_a_missing_package_is_told(monkeypatch):
    monkeypatch.setattr(speed, "PACKAGES", ("no-such-package",))
    with pytest.raises(UserError, match=r"no-such-package is not installed in .*make install"):
        speed.check_environment()


def test_missing_git_is_told(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="Install git"):
        speed.check_environment()
