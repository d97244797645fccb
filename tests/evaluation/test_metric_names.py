"""The metric names are those that evaluate writes, and the documentation's table is generated from them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.engine.coco_metrics import COCO_METRICS
from detector.evaluation import metric_names
from detector.evaluation.matched_split import choose_thresholds
from detector.evaluation.metrics import compute_metrics
from detector.evaluation.tide import KINDS
from detector.evaluation.writers import write_metrics_json
from tests.support.coco_cases import make_coco_case
from tests.support.packed import split_rows

DOCS = Path(__file__).parents[2] / "docs" / "evaluation.md"


@pytest.fixture(scope="module", params=[True, False], ids=["states", "no states"])
def files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[bool, Any, Any]:
    """Whether the dataset has states, and what evaluate writes: all metrics by name, and the details."""
    states: bool = request.param
    folder = tmp_path_factory.mktemp("metrics")
    split = split_rows(*make_coco_case(5, images=20, states=states))
    objects = int((~split.labels.objects.crowds).sum())
    scores = np.random.default_rng(0).dirichlet(np.ones(3), objects) if states else np.zeros((objects, 0))
    thresholds = choose_thresholds(split, "f1", False, 10)
    metrics = compute_metrics(split, split, thresholds, state_scores=scores, cost_ratio=10, bootstrap_samples=100)
    write_metrics_json(folder / "evaluate.json", metrics.flat)
    write_metrics_json(folder / "details.json", metrics.details)
    flat, details = (json.loads((folder / f"{name}.json").read_text()) for name in ("evaluate", "details"))
    return states, flat, details


def test_the_file_has_these_keys_in_this_order(files: tuple[bool, Any, Any]) -> None:
    states, flat, _ = files
    assert list(flat) == metric_names.file_keys(states)


def test_few_metrics_are_columns_of_the_table(files: tuple[bool, Any, Any]) -> None:
    states, flat, _ = files
    picked = metric_names.pick_table_metrics(flat)
    assert len(picked) == (14 if states else 11)
    assert list(picked)[:4] == ["AP", "AP50", "AP75", "F1"]
    assert picked.items() <= flat.items()


def test_thresholds_are_calibrated_beside_the_raw_ones(files: tuple[bool, Any, Any]) -> None:
    _, flat, details = files
    temperature = details["calibration"]["temperature"]
    assert temperature != 1
    for row in [flat, *details["classes"]]:
        raw = row["raw_threshold"]
        expected = 1 / (1 + ((1 - raw) / raw) ** (1 / temperature))
        assert row["threshold"] == pytest.approx(expected, abs=1e-9)


def test_the_rows_of_classes_and_states_have_these_keys(files: tuple[bool, Any, Any]) -> None:
    states, _, details = files
    intervals = {end for name in metric_names.CLASS_INTERVALS for end in metric_names.interval_names(name)}
    for row in details["classes"]:
        assert set(row) == {"class", "objects", *metric_names.CLASS_METRICS, *intervals}
    if states:
        for row in details["states"]["given_boxes"]:
            assert set(row) == {"state", "objects", *metric_names.STATE_METRICS}


def test_each_metric_is_described() -> None:
    for name, metric in metric_names.METRICS.items():
        assert metric.name == name
        assert metric.title
        assert metric.meaning
        assert metric.unit
        assert metric.better in ("higher", "lower", "none")
        assert "|" not in metric.meaning
    assert list(metric_names.METRICS)[: len(COCO_METRICS)] == list(COCO_METRICS)
    assert [name for name in metric_names.METRICS if name.startswith("tide_")] == [f"tide_{kind}" for kind in KINDS]


@pytest.mark.parametrize("group", ["COMPARED_METRICS", "HEADLINE_METRICS", "COMMENT_METRICS", "TABLE_METRICS"])
def test_the_groups_name_metrics(group: str) -> None:
    names = getattr(metric_names, group)
    assert metric_names.PRIMARY_METRIC in names
    assert set(names) <= set(metric_names.METRICS)


def test_the_documentation_has_the_table() -> None:
    table = metric_names.metrics_table()
    assert table in DOCS.read_text(encoding="utf-8"), f"update the table in {DOCS.name}:\n{table}"


def test_the_names_load_without_torch() -> None:
    code = (
        "import sys, detector.evaluation.metric_names; print(*sorted({'torch', 'numpy', 'hotcoco'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""
