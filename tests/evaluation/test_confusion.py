"""Confusion matrices of any number of classes keep their counts and stay small."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from dvc_render.vega import VegaRenderer
from PIL import Image

from detector.evaluation.confusion import (
    BACKGROUND_NAME,
    MAX_NAMES,
    describe_folding,
    fold_confusions,
    list_confusions,
    normalize_confusions,
)
from detector.evaluation.plots import draw_confusion

ROOT = Path(__file__).parents[2]
TEMPLATES = ROOT / ".dvc/plots"


def make_names(classes: int, background: bool = True) -> list[str]:
    return [*(f"class {number}" for number in range(classes)), *([BACKGROUND_NAME] if background else [])]


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("classes", [1, MAX_NAMES, MAX_NAMES + 1, 1000])
def test_no_count_is_lost(classes: int, background: bool) -> None:
    names = make_names(classes, background)
    matrix = np.random.default_rng(0).integers(0, 4, (len(names), len(names)))
    folded, shown = fold_confusions(matrix, names, background=background)
    assert folded.shape == (len(shown), len(shown))
    assert len(shown) <= MAX_NAMES + 2
    assert folded.sum() == matrix.sum()
    rows = list_confusions(matrix, names, background=background)
    assert len(rows) <= (MAX_NAMES + 2) ** 2
    assert sum(row["count"] for row in rows) == matrix.sum()
    if classes <= MAX_NAMES:
        assert (shown, describe_folding(names, background=background)) == (names, "")
        assert (folded == matrix).all()
    else:
        assert f"{MAX_NAMES} most confused of {classes:,}" in describe_folding(names, background=background)


def test_the_most_confused_are_kept_in_their_order() -> None:
    names = make_names(100)
    matrix = 50 * np.eye(101, dtype=int)
    matrix[100, 100] = 0
    matrix[7, 60], matrix[99, 100], matrix[100, 3] = 2, 1, 5
    folded, shown = fold_confusions(matrix, names, background=True)
    assert [name for name in ("class 3", "class 7", "class 60", "class 99") if name in shown] == sorted(
        ("class 3", "class 7", "class 60", "class 99"), key=shown.index
    )
    assert shown[-2:] == [f"{100 - MAX_NAMES} others", BACKGROUND_NAME]
    assert folded[shown.index("class 7"), shown.index("class 60")] == 2
    assert folded[shown.index("class 99"), -1] == 1
    assert folded[-1, shown.index("class 3")] == 5
    assert folded[-2, -2] == 50 * (100 - MAX_NAMES)


def test_a_picture_of_many_classes_with_long_names_is_small(tmp_path: Path) -> None:
    names = [f"class {number} " + "of a long name\n" * 20 for number in range(1000)] + [BACKGROUND_NAME]
    path = tmp_path / "c.png"
    draw_confusion(np.ones((1001, 1001), int), names, path, title="Confusion matrix", noun="class", background=True)
    with Image.open(path) as picture:
        assert max(picture.size) < 2500


def test_dvc_draws_the_counts(tmp_path: Path) -> None:
    """With this project's template of the name that dvc.yaml uses; a class keeps its place in every revision."""
    matrix = np.array([[3, 1, 0], [0, 4, 2], [1, 0, 0]])
    listed = list_confusions(matrix, make_names(2), background=True)
    rows = [row | {"rev": rev} for rev in ("new", "old") for row in listed]
    properties = {"x": "predicted", "y": "actual", "template": "confusion", "anchors_y_definitions": [{}],
                  "revs_with_datapoints": ["new", "old"], "template_dir": str(TEMPLATES)}  # fmt: skip
    filled = VegaRenderer(rows, "confusion", **properties).get_filled_template()
    assert isinstance(filled, dict)
    assert filled["data"]["values"] == rows
    cells, numbers = filled["spec"]["layer"]
    assert cells["encoding"]["color"]["field"] == "fraction"
    assert numbers["encoding"]["text"]["field"] == "count"
    for axis, place in (("x", "column"), ("y", "row")):
        assert filled["spec"]["encoding"][axis]["sort"]["field"] == place
    assert "<DVC" not in json.dumps(filled)


def test_a_few_false_detections_are_a_small_fraction() -> None:
    """Of the detections of their class: the background itself has no number of objects."""
    matrix = np.array([[48, 0, 4], [0, 46, 1], [3, 0, 0]])
    fractions = normalize_confusions(matrix, background=True)
    assert fractions[0].tolist() == [48 / 52, 0, 4 / 52]
    assert fractions[2].tolist() == [3 / 51, 0, 0]
    assert normalize_confusions(matrix[:2, :2], background=False).tolist() == [[1, 0], [0, 1]]
    assert (normalize_confusions(np.zeros((3, 3), int), background=True) == 0).all()


def test_a_state_called_background_is_a_state() -> None:
    names = [*make_names(MAX_NAMES, background=False), BACKGROUND_NAME]
    matrix = np.eye(len(names), dtype=int)
    matrix[-1, 0] = 3
    _, shown = fold_confusions(matrix, names, background=False)
    assert len(shown) == MAX_NAMES + 1
    assert BACKGROUND_NAME in shown[:-1], "one of the most confused"
    assert describe_folding(names, background=False) == f": the {MAX_NAMES} most confused of {len(names)}"
    rows = list_confusions(np.array([[8, 2], [3, 9]]), ["open", BACKGROUND_NAME], background=False)
    assert [row["fraction"] for row in rows] == [0.8, 0.2, 0.25, 0.75]
