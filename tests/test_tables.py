"""What `dvc exp show` and `dvc metrics diff` show of an experiment on a terminal of 120 columns.

This project's pipeline, parameters and metrics files, with a stage that only writes numbers in place of each.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from detector.evaluation.metric_names import TABLE_METRICS
from tests.support.repository import SOURCE, Repository, environment_for
from tests.support.terminal import page_to_the_right

COLUMNS = 120
PRESSES = 16  # of the right arrow key, each half a screen: no column is farther
PIPELINE = yaml.safe_load((SOURCE / "dvc.yaml").read_text(encoding="utf-8"))
METRICS: dict[str, Any] = {
    "metrics/preprocess.json": {"images": 424, "boxes": 1596},
    "metrics/train/metrics.json": {
        "train": {"loss": 2.3},
        "val": {"loss": 2.2, "AP": 0.7, "AP50": 0.9},
        "step": 10,
        "best": {"epoch": 9, "AP": 0.7},
    },
    "metrics/evaluate.json": dict.fromkeys(TABLE_METRICS, 0.76817369786),
    "metrics/export.json": {"export": {"AP": 0.76, "AP_drop": 0.001}},
}
STAGE = f"""
import json, re, sys
from pathlib import Path

METRICS = {METRICS!r}
lr = re.search("^  lr: +(.+?) ", Path("params.yaml").read_text(), re.MULTILINE)[1]
number = 0 if lr == "auto" else float(lr)

def move(value):
    if isinstance(value, dict):
        return {{key: move(inner) for key, inner in value.items()}}
    return value + number if isinstance(value, float) else value

for path in sys.argv[1:]:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    changes = "train" in path or "evaluate" in path or "models" in path or "export" in path
    content = move(METRICS[path]) if path in METRICS else {{"recipe": {{"lr": number or 0.002}}}} if changes else {{}}
    Path(path).write_text(json.dumps(content))
"""


def list_files(stage: dict[str, Any]) -> list[str]:
    """The outputs of a stage; of a folder, one file, or those that other stages depend on."""
    entries = [entry for key in ("outs", "metrics", "plots") for entry in stage.get(key, [])]
    outs = [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]
    read = {path for other in PIPELINE["stages"].values() for path in other["deps"]}
    files = []
    for out in outs:
        files += [path for path in read if path.startswith(f"{out}/")] or [out if Path(out).suffix else f"{out}/a.json"]
    return files


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A committed result, and an experiment with another learning rate."""
    folder = tmp_path_factory.mktemp("tables")
    made = Repository(folder / "repository", environment_for(folder / "settings"))
    made.root.mkdir()
    made.git("init", "--quiet", "--initial-branch=main")
    made.dvc("init", "--quiet")
    for name in ("params.yaml", "versions.yaml"):
        shutil.copy(SOURCE / name, made.root)
    pipeline = {**PIPELINE, "stages": {}}
    for name, stage in PIPELINE["stages"].items():
        command = shlex.join([sys.executable, "stage.py", *list_files(stage)])
        pipeline["stages"][name] = {**stage, "cmd": command}
        for path in stage["deps"]:
            if path.startswith("stages/") or path in ("data/decisions.csv", "split.lock"):
                (made.root / path).parent.mkdir(parents=True, exist_ok=True)
                (made.root / path).write_text("")
    dataset = made.root / yaml.safe_load(made.read("params.yaml"))["preprocess"]["dataset"]
    dataset.mkdir(parents=True)
    (dataset / "image.jpg").write_text("")
    (made.root / "dvc.yaml").write_text(yaml.safe_dump(pipeline, sort_keys=False))
    (made.root / "stage.py").write_text(STAGE)
    made.dvc("repro", "--quiet")
    made.commit()
    made.dvc("exp", "run", "--quiet", "--name", "smaller-rate", "-S", "train.lr=0.00512")
    return made


def show(repository: Repository, *options: str, presses: int = 0) -> list[str]:
    """The screens of `dvc exp show`."""
    command = [sys.executable, "-m", "dvc", "exp", "show", *options]
    return page_to_the_right(command, repository.root, repository.environment, columns=COLUMNS, presses=presses)


def has_column(screen: str, name: str) -> bool:
    """Whether the header names the column in full."""
    return re.search(rf"(?<![\w./:]){re.escape(name)}(?![\w./])", screen) is not None


@pytest.mark.parametrize("options", [(), ("--only-changed",)], ids=["all", "changed"])
def test_ap_is_on_the_first_screen_and_the_changed_parameter_to_its_right(
    repository: Repository, options: tuple[str, ...]
) -> None:
    screens = show(repository, *options, presses=PRESSES)
    assert "smaller-rate" in screens[0]
    for name in ("AP", "AP50", "AP75", "F1"):
        assert has_column(screens[0], name)
    assert "0.76817" in screens[0]
    assert "0.77329" in screens[0]
    changed = [screen for screen in screens if has_column(screen, "train.lr")]
    assert any("0.00512" in screen for screen in changed), "DVC cut it off: too many or too wide columns before it"


def test_the_command_in_the_documentation_shows_both_on_one_screen(repository: Repository) -> None:
    text = (SOURCE / "docs/experiments.md").read_text(encoding="utf-8")
    match = re.search(r"^\$? ?dvc exp show (--only-changed --drop '.+?')", text, re.MULTILINE)
    assert match, "docs/experiments.md names the columns to leave out"
    (screen,) = show(repository, *shlex.split(match[1]))
    for name in ("AP", "AP50", "F1", "state_F1", "joint_AP", "train.lr"):
        assert has_column(screen, name), screen
    assert "0.00512" in screen


def test_no_column_is_called_by_its_path(repository: Repository) -> None:
    """Two metrics or parameters of one name would be, and so be several times as wide."""
    header = repository.dvc("exp", "show", "--csv").splitlines()[0].split(",")
    assert [name for name in header if ":" in name] == []
    assert header[5 : 5 + len(TABLE_METRICS)] == list(TABLE_METRICS)


def test_metrics_diff_fits(repository: Repository) -> None:
    lines = repository.dvc("metrics", "diff").splitlines()
    assert max(map(len, lines)) <= COLUMNS
    (line,) = [line for line in lines if line.split()[:2] == ["metrics/evaluate.json", "AP"]]
    assert line.split()[2:] == ["0.76817", "0.77329", "0.00512"]


def test_an_experiment_changes_one_line_of_the_parameters(repository: Repository) -> None:
    """DVC writes params.yaml anew; it is kept as DVC writes it, comments included."""
    before = (SOURCE / "params.yaml").read_bytes().splitlines(keepends=True)
    after = (repository.root / "params.yaml").read_bytes().splitlines(keepends=True)
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert [(old.split()[:2], new.split()[:2]) for old, new in changed] == [([b"lr:", b"auto"], [b"lr:", b"0.00512"])]
    ((old, new),) = changed
    assert old.index(b"#") == new.index(b"#")
    assert old.partition(b"#")[2] == new.partition(b"#")[2]


def test_at_most_25_metrics(repository: Repository) -> None:
    (shown,) = (side["data"] for side in json.loads(repository.dvc("metrics", "show", "--json")).values())

    def count(value: Any) -> int:
        return sum(map(count, value.values())) if isinstance(value, dict) else 1

    assert set(shown) == set(METRICS)
    assert sum(count(file["data"]) for file in shown.values()) <= 25
