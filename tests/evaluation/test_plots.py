"""The charts' numbers and names; `tests/plotting/test_chart_process.py` draws them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detector.evaluation import plots
from detector.evaluation.plots import draw_confusion, draw_precision_recall, draw_reliability, draw_state_curves
from detector.plotting.fonts import load_font

CURVE = np.linspace(1, 0, 101)
BINS: list[dict[str, Any]] = [
    {"low": 0.0, "high": 0.5, "confidence": 0.3, "accuracy": 0.25, "count": 4},
    {"low": 0.5, "high": 1.0, "confidence": None, "accuracy": None, "count": 0},
]


@pytest.fixture
def charts(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What would be drawn."""
    drawn: list[dict[str, Any]] = []
    monkeypatch.setattr(plots, "save_chart", lambda chart, path: drawn.append(chart))
    return drawn


def rows_of(layer: dict[str, Any]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = layer["data"]["values"]
    return rows


def test_precision_recall_has_each_class_and_the_operating_point(charts: list[dict[str, Any]], tmp_path: Path) -> None:
    draw_precision_recall({"cat": CURVE, "dog": CURVE / 2}, tmp_path, threshold=0.5, precision=0.9, recall=0.25)
    curves, point = charts[0]["layer"]
    rows = rows_of(curves)
    assert len(rows) == 202
    assert rows[50] == {"recall": 0.5, "precision": 0.5, "series": "cat: 0.50"}
    assert rows[101 + 50] == {"recall": 0.5, "precision": 0.25, "series": "dog: 0.25"}
    assert rows_of(point) == [{"recall": 0.25, "precision": 0.9}]
    assert "threshold 0.50" in charts[0]["title"]


def test_precision_recall_without_an_operating_point(charts: list[dict[str, Any]], tmp_path: Path) -> None:
    draw_precision_recall({"cat": CURVE}, tmp_path, threshold=None, precision=None, recall=None)
    assert len(charts[0]["layer"]) == 1


def test_many_classes_are_a_mean_a_band_and_the_extremes(charts: list[dict[str, Any]], tmp_path: Path) -> None:
    curves = {f"class {number:02}": CURVE * number / 25 for number in range(1, 21)}
    draw_precision_recall(curves, tmp_path, threshold=None, precision=0.9, recall=0.25)
    band, lines, _ = charts[0]["layer"]
    assert rows_of(band)[0] == {"recall": 0.0, "low": pytest.approx(0.23), "high": pytest.approx(0.61)}
    labels = list(dict.fromkeys(row["series"] for row in rows_of(lines)))
    assert labels[0].startswith("mean of 20 classes: 0.21")
    assert labels[1:] == ["class 20: 0.40", "class 19: 0.38", "class 18: 0.36",
                          "class 03: 0.06", "class 02: 0.04", "class 01: 0.02"]  # fmt: skip
    assert lines["encoding"]["color"]["scale"]["domain"] == labels


def test_names_that_are_equal_when_shortened_stay_apart(charts: list[dict[str, Any]], tmp_path: Path) -> None:
    names = ["a" * 30 + middle + "b" * 30 for middle in "xyz"]
    draw_precision_recall(dict.fromkeys(names, CURVE), tmp_path, threshold=None, precision=None, recall=None)
    assert len({row["series"] for row in rows_of(charts[0]["layer"][0])}) == 3
    curves = {name: [(0.0, 1.0), (1.0, 0.5)] for name in names}
    draw_state_curves(curves, curves, tmp_path)
    for side in charts[1]["hconcat"]:
        assert len({row["state"] for row in rows_of(side)}) == 3


def test_confusions_keep_their_places(charts: list[dict[str, Any]], tmp_path: Path) -> None:
    matrix, names = np.array([[8, 2], [0, 5]]), ["cat", "dog"]
    draw_confusion(matrix, names, tmp_path, title="Confusion", noun="class", background=False)
    assert charts[0]["data"]["values"] == [
        {"row": 0, "column": 0, "text": "8", "fraction": 0.8},
        {"row": 0, "column": 1, "text": "2", "fraction": 0.2},
        {"row": 1, "column": 1, "text": "5", "fraction": 1.0},
    ]
    assert charts[0]["encoding"]["y"]["field"] == "row"
    assert charts[0]["encoding"]["y"]["title"] == "True class"


@pytest.mark.parametrize("classes", [3, 20])
def test_counts_of_many_digits_fit_into_their_cells(charts: list[dict[str, Any]], tmp_path: Path, classes: int) -> None:
    matrix, names = np.diag([1_234_567, 123_456, 999] + [1] * (classes - 3)), [str(n) for n in range(classes)]
    draw_confusion(matrix, names, tmp_path, title="Confusion", noun="class", background=False)
    texts = [row["text"] for row in charts[0]["data"]["values"]]
    assert texts[:3] == ["1.2M", "123k", "999"]
    font = load_font(charts[0]["layer"][1]["mark"]["fontSize"])
    assert all(font.getlength(text) < charts[0]["width"]["step"] for text in texts)


def test_a_state_called_background_is_a_state(charts: list[dict[str, Any]], tmp_path: Path) -> None:
    matrix, names = np.array([[8, 2], [3, 9]]), ["open", "background"]
    for background in (False, True):
        draw_confusion(matrix, names, tmp_path, title="Confusion", noun="state", background=background)
    state, class_ = (chart["layer"][0]["encoding"]["color"]["legend"]["title"] for chart in charts)
    assert state == ["fraction of the row"]
    assert class_ == ["fraction of the row", "background: of the column"]


def test_empty_bins_are_no_points_but_bars_of_no_height(charts: list[dict[str, Any]], tmp_path: Path) -> None:
    draw_reliability(BINS, BINS, tmp_path)
    curves, histogram = charts[0]["vconcat"]
    assert rows_of(curves["layer"][1]) == [
        {"series": "the model's scores", "score": 0.3, "precision": 0.25},
        {"series": "calibrated scores", "score": 0.3, "precision": 0.25},
    ]
    assert [row["count"] for row in rows_of(histogram)] == [4, 0]


def test_states_without_examples_have_no_curve(charts: list[dict[str, Any]], tmp_path: Path) -> None:
    points = [(0.0, 0.0), (0.5, 1.0)]
    draw_state_curves({"a": points, "b": []}, {"a": points, "b": []}, tmp_path)
    for side in charts[0]["hconcat"]:
        assert [(row["state"], row["x"], row["y"]) for row in rows_of(side)] == [("a", 0.0, 0.0), ("a", 0.5, 1.0)]


def test_of_many_states_those_with_the_least_area_are_drawn(charts: list[dict[str, Any]], tmp_path: Path) -> None:
    """A rare state that is found perfectly has a low precision at most of its points, which are at recall 1."""
    curves = {f"state {number}": [(0.5, 0.5 + number / 20), (1.0, 0.5)] for number in range(8)}
    curves |= {name: [(0.5, 1.0), *((1.0, 1 / count) for count in range(1, 100))] for name in ("rare", "rarer")}
    draw_state_curves(curves, curves, tmp_path)
    assert {row["state"] for row in rows_of(charts[0]["hconcat"][0])} == {f"state {number}" for number in range(8)}
    assert "8 of 10" in charts[0]["hconcat"][0]["title"]


def test_all_are_valid_charts(tmp_path: Path) -> None:
    """Names with quotes, line breaks, dollars and markup are names."""
    names = ["a \"b\" 'c'", "$x_1$", "two\nlines", "<b>&amp;</b>", "背景\ufffe\uffff\x00", "background"]
    path = tmp_path / "confusion.png"
    draw_confusion(np.eye(6, dtype=int), names, path, title="Confusion", noun="class", background=True)
    draw_precision_recall(
        dict.fromkeys(names, CURVE), tmp_path / "curve.png", threshold=None, precision=0.5, recall=0.5
    )
    draw_reliability(BINS, BINS, tmp_path / "reliability.png")
    curves = {name: [(0.0, 1.0), (1.0, 0.5)] for name in names}
    draw_state_curves(curves, curves, tmp_path / "states.png")
    draw_state_curves({}, {}, tmp_path / "empty.png")
    sizes = {}
    for path in tmp_path.glob("*.png"):
        with Image.open(path) as picture:
            sizes[path.stem] = picture.size
    assert len(sizes) == 5
    assert all(200 < side < 3000 for size in sizes.values() for side in size)
