"""The charts of a dataset count every box, show a part of many classes, and are drawn by DVC."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc_render.vega import VegaRenderer

from detector.manifest.manifest import CleanBox, CleanImage, Labels
from detector.preprocessing.plots import (
    MAX_COLORS,
    MAX_COUNT_BINS,
    MAX_POINTS,
    MAX_STATES,
    MOST_FREQUENT,
    NO_STATE,
    RAREST,
    Row,
    list_aspect_ratios,
    list_boxes_per_image,
    list_class_states,
    list_classes,
    list_relative_sizes,
    list_sizes,
    list_trust,
    rank_names,
    write_plot_numbers,
)

ROOT = Path(__file__).parents[2]
CHARTS = {
    name: settings
    for chart in yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["plots"]
    for name, settings in chart.items()
    if any(path.startswith("metrics/preprocess/") for path in settings["y"])
}


def box(label: str = "bolt", width: float = 4, height: float = 4, state: str | None = None) -> CleanBox:
    return CleanBox(label, (0.0, 0.0, float(width), float(height)), state)


def image(*boxes: CleanBox) -> CleanImage:
    return CleanImage("a", "a", "0", 100, 100, "a", None, None, boxes)


def bars(rows: list[Row]) -> dict[str, int]:
    """The bars that are not empty; checks that each has its place."""
    assert [row["place"] for row in rows] == list(range(len(rows)))
    return {name: count for name, count, _ in (row.values() for row in rows) if count}


def test_classes_are_ranked_and_unused_ones_stay() -> None:
    found = [box("ring"), box("nut"), box("ring")]
    rows = list_classes(found, Labels(["bolt", "nut", "ring"], []))
    assert [(row["class"], row["boxes"]) for row in rows] == [("ring", 2), ("nut", 1), ("bolt", 0)]


def test_of_many_classes_the_most_frequent_and_the_rarest_are_shown() -> None:
    names = [f"class {number}" for number in range(100)]
    rows = list_classes([box(name) for number, name in enumerate(names) for _ in range(number)], Labels(names, []))
    shown = [row["class"] for row in rows]
    assert shown == [*names[: -MOST_FREQUENT - 1 : -1], "80 others", *names[RAREST - 1 :: -1]]
    assert [row["boxes"] for row in rows if row["class"] not in names] == [None]


def test_a_single_name_too_many_is_shown() -> None:
    counts = {"a": 2, "b": 3, "c": 1}
    assert rank_names(counts, 2) == {"b": "b", "a": "a", "c": "c"}
    assert rank_names(counts, 1) == {"b": "b", "a": "2 others", "c": "2 others"}


def test_states_of_a_class() -> None:
    found = [box("ring"), box("bolt", state="old"), box("bolt", state="new"), box("bolt", state="new")]
    rows = list_class_states(found, Labels(["bolt", "ring"], ["old", "new"]))
    assert [(row["class"], row["state"], row["count"], row["fraction"]) for row in rows] == [
        ("bolt", "new", 2, 0.666667),
        ("bolt", "old", 1, 0.333333),
        ("ring", NO_STATE, 1, 1),
    ]
    assert [(row["row"], row["column"]) for row in rows] == [(0, 0), (0, 1), (1, 2)]


def test_many_classes_and_states_lose_no_box() -> None:
    labels = Labels([f"class {n}" for n in range(1000)], [f"state {n}" for n in range(30)])
    found = [box(labels.classes[n * n % 1000], state=labels.states[n % 30]) for n in range(3000)]
    rows = list_class_states(found, labels)
    assert sum(row["count"] for row in rows) == 3000
    assert len({row["class"] for row in rows}) <= MOST_FREQUENT + RAREST + 1
    assert len({row["state"] for row in rows}) <= MAX_STATES + 1


def test_sizes_are_those_of_some_boxes_of_each_class() -> None:
    found = [box(f"class {n % 20}", width=n + 1) for n in range(20 * MAX_POINTS + 7)]
    rows = list_sizes(found)
    classes = {row["class"] for row in rows}
    assert len(classes) == MAX_COLORS
    assert "13 others" in classes
    assert len(rows) <= MAX_COLORS * MAX_POINTS
    assert max(row["width"] for row in rows) > 19 * MAX_POINTS
    assert list_sizes([box("bolt", 1.26, 3)]) == [{"class": "bolt", "width": 1.3, "height": 3}]


def test_relative_sizes() -> None:
    assert bars(list_relative_sizes([image(box(width=10, height=40), box(width=100, height=100)), image()])) == {
        "0.20–0.24": 1,
        "0.96–1.00": 1,
    }


def test_aspect_ratios() -> None:
    found = [box(width=1, height=100), box(width=10, height=10), box(width=10, height=9), box(width=10, height=5)]
    assert bars(list_aspect_ratios([*found, box(width=9, height=1)])) == {"≤ 1:8": 1, "1:1": 2, "2:1": 1, "≥ 8:1": 1}


def test_boxes_per_image() -> None:
    assert list_boxes_per_image([image(), image(box(), box()), image()]) == [
        {"boxes": "0", "images": 2, "place": 0},
        {"boxes": "1", "images": 0, "place": 1},
        {"boxes": "2", "images": 1, "place": 2},
    ]
    crowded = list_boxes_per_image([image(*[box()] * 200), image(*[box()] * 3), image()])
    assert len(crowded) <= MAX_COUNT_BINS
    assert bars(crowded) == {"0–3": 2, "200–203": 1}


def test_trust_where_it_is_known() -> None:
    found = [CleanBox("bolt", (0, 0, 4, 4), None, trust) for trust in (None, 0.5, 1.0, 0.96)]
    assert bars(list_trust(found)) == {"0.50–0.55": 1, "0.95–1.00": 2}


@pytest.mark.parametrize("name", CHARTS)
@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (Labels(["bolt", "$5 <b>"], ["intact", "a.b[0]"]), [box(state="intact"), box("$5 <b>", state="a.b[0]")]),
        (Labels(["bolt"], []), [box()]),
    ],
    ids=["states", "no states"],
)
def test_dvc_draws_each_chart(tmp_path: Path, name: str, labels: Labels, found: list[CleanBox]) -> None:
    """With the templates, files and columns that dvc.yaml names, in two revisions."""
    write_plot_numbers([image(*found), image()], labels, tmp_path)
    settings: dict[str, Any] = CHARTS[name]
    ((file, column),) = settings["y"].items()
    assert Path(file).parent == Path("metrics/preprocess")
    written = json.loads((tmp_path / Path(file).name).read_text(encoding="utf-8"))
    rows = [row | {"rev": rev} for rev in ("new", "old") for row in written]
    properties = {
        **{key: settings[key] for key in ("x", "template", "title")},
        "y": column,
        "anchors_y_definitions": [{}],
        "revs_with_datapoints": ["new", "old"],
        "template_dir": str(ROOT / ".dvc/plots"),
    }
    filled = VegaRenderer(rows, name, **properties).get_filled_template()
    assert isinstance(filled, dict)
    assert filled["data"]["values"] == rows
    assert "<DVC" not in json.dumps(filled)


def test_the_files_are_those_of_dvc_yaml(tmp_path: Path) -> None:
    write_plot_numbers([image(box())], Labels(["bolt"], []), tmp_path)
    named = {Path(path).name for settings in CHARTS.values() for path in settings["y"]}
    assert {path.name for path in tmp_path.iterdir()} == named
