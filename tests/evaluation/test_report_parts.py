"""The parts of the report, without a browser."""

from __future__ import annotations

import base64
import gzip
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.engine.dataset import LabelNames
from detector.evaluation import report
from detector.evaluation.report import write_report
from detector.evaluation.report.chart_parts import MAX_SERIES, subsample
from detector.evaluation.report.charts import (
    MAX_INTERVALS,
    MIN_TIDE_AXIS,
    TrainingCurve,
    build_charts,
    build_tide_chart,
    build_training_charts,
)
from detector.evaluation.report.dataset_charts import MAX_CLASSES, build_class_distribution, build_heat_maps
from detector.evaluation.report.identity import ModelSize, describe_identity, find_dataset
from detector.evaluation.report.label_issue_crops import encode_issue_crops
from detector.evaluation.report.metric_values import format_number, list_headline_metrics, list_other_metrics
from detector.evaluation.report.model_card import flatten_card, list_limitations
from detector.evaluation.report.page import FOLDER, SHARED_SCRIPTS, pack_json
from detector.evaluation.report.payload import (
    build_page_data,
    encode_pictures,
    keep_first_images,
    limit_images,
)
from tests.support.packed import pack_labels
from tests.support.report_case import NAMES, make_report_inputs


def test_every_script_is_in_the_page() -> None:
    assert {*report.SCRIPTS, *SHARED_SCRIPTS} == set(report.FOLDER.glob("*.js"))


def test_numbers_are_formatted_and_metrics_selected() -> None:
    shown = [format_number(value) for value in (None, 0.12345, 1234, "f1", True)]
    assert shown == ["—", "0.123", "1,234", "f1", "True"]
    metrics = {"AP": 0.5, "AP_low": 0.4, "AP_high": 0.6}
    headline = list_headline_metrics(metrics)
    assert [metric.name for metric in headline] == ["AP", "AP50", "AP75", "precision", "recall", "F1"]
    assert headline[0][3:] == (0.5, 0.4, 0.6)
    assert "joint_AP" in [metric.name for metric in list_headline_metrics({"joint_AP": None})]
    others = list_other_metrics(metrics | {"AR10": 0.7, "AR10_low": 0.6, "AR10_high": 0.8, "new": 1.0})
    assert [(metric.name, metric.value, metric.low) for metric in others] == [("AR10", 0.7, 0.6), ("new", 1.0, None)]


def test_charts_without_data_are_left_out() -> None:
    assert list(build_charts({}, [])) == ["pr-chart", "confidence-chart"]
    empty = {"tide": {"class": None}, "calibration": {"bins": []}, "states": None}
    assert list(build_charts(empty, [])) == ["pr-chart", "confidence-chart"]
    assert list(build_training_charts([TrainingCurve("val/AP", [0.1])])) == ["training-chart-2"]
    rows = build_training_charts([TrainingCurve("val/AP", [0.1, 0.2])])["training-chart-2"]["data"]["values"]
    assert rows == [{"epoch": 1, "series": "AP", "value": 0.1}, {"epoch": 2, "series": "AP", "value": 0.2}]
    parts = [TrainingCurve(f"train/{name}", [1.0]) for name in ("loss", "box_loss", "class_loss")]
    charts = build_training_charts([*parts, TrainingCurve("lr", [0.1])])
    assert list(charts) == ["training-chart-1", "training-chart-3", "training-chart-4"]
    components = charts["training-chart-4"]["data"]["values"]
    assert [row["series"] for row in components] == ["box_loss", "class_loss"]
    points = [[step, step] for step in range(1000)]
    assert (subsample(points)[0], subsample(points)[-1], len(subsample(points))) == ([0, 0], [999, 999], 200)
    assert subsample(points[:3]) == points[:3]


def test_an_interval_chart_shows_the_lowest_of_many() -> None:
    rows = [{"class": f"class {number}", "AP": number / 1000, "objects": 1} for number in range(1000)]
    few, many = (build_charts({"classes": some}, [])["class-chart"] for some in (rows[:MAX_INTERVALS], rows))
    assert "title" not in few
    assert f"{MAX_INTERVALS} of 1,000 classes with the lowest AP" in many["title"]
    assert [row["name"] for row in many["data"]["values"]] == [f"class {n}" for n in range(MAX_INTERVALS - 1, -1, -1)]
    assert many["height"] == few["height"]


def test_a_bar_of_a_thousandth_does_not_fill_the_tide_chart() -> None:
    def find_end(lost: float) -> float:
        chart = build_tide_chart({"class": lost, "missed": 0.0})["tide-chart"]
        return float(chart["encoding"]["x"]["scale"]["domain"][1])

    assert find_end(0.0018) == MIN_TIDE_AXIS
    assert find_end(0.5) == 0.6


def test_many_states_have_as_many_curves_as_there_are_colors() -> None:
    curves = {f"state {number}": [[0, number / 20], [1, number / 20]] for number in range(20)}
    chart = build_charts({"states": {"roc": curves}}, [])["roc-chart"]
    assert {row["state"] for row in chart["data"]["values"]} == {f"state {number}" for number in range(MAX_SERIES)}
    assert f"the {MAX_SERIES} lowest of 20 states" in chart["title"]


def test_the_charts_of_the_dataset(tmp_path: Path) -> None:
    inputs = make_report_inputs(tmp_path)
    chart = build_class_distribution(dict.fromkeys(("train", "test"), inputs.labels))["distribution-chart"]
    rows = [row for row in chart["data"]["values"] if row["split"] == "test"]
    present = np.bincount(inputs.analysis.objects.categories[~inputs.analysis.objects.absent], minlength=len(NAMES))
    assert {row["class"]: row["count"] for row in rows} == dict(zip(NAMES, present.tolist(), strict=True))
    assert sum(row["share"] for row in rows) == pytest.approx(1, abs=1e-4)
    many = {
        "images": [{"id": 1}],
        "annotations": [{"image_id": 1, "bbox": [0, 0, 1, 1], "category_id": 5}],
        "categories": [{"id": n, "name": str(n)} for n in range(1, 100)],
    }
    cut = build_class_distribution({"test": pack_labels(many)})["distribution-chart"]
    assert f"the {MAX_CLASSES} most frequent of 99 classes" in cut["title"]
    assert cut["data"]["values"][0]["class"] == "5"
    assert build_class_distribution({"test": pack_labels({"annotations": []})}) == build_heat_maps([]) == {}
    image = {"id": 1, "width": 100, "height": 50}
    boxes = [{"image_id": 1, "bbox": [0, 0, 10, 5]}] * 3
    maps = build_heat_maps([pack_labels({"images": [image], "annotations": boxes})])
    (center,), (size,) = (maps[name]["data"]["values"] for name in ("place-chart", "box-size-chart"))
    assert (center["boxes"], center["x"], center["y"]) == (3, round(1 / 24, 5), round(1 / 24, 5))
    assert size["x"] <= 0.1 <= size["x2"]


def test_the_identity_names_data_and_model_and_no_time() -> None:
    files = ["data/raw/mine/a/1.jpg", "data/raw/mine/b/2.jpg", "data/clean/images/3.png"]
    card = {"model": "simple", "size": [256, 320], "precision": "fp32", "data": "0123456789abcdef"}
    assert describe_identity(card, files, ModelSize(3_364_000, 13_471_692)) == [
        ("images", "data/raw/mine"),
        ("dataset hash", "0123456789ab"),
        ("input", "320 × 256 pixels"),
        ("precision", "fp32"),
        ("parameters", "3.36 million"),
        ("checkpoint", "13.5 MB"),
    ]
    assert describe_identity({}, [], None) == []
    assert find_dataset(["data/clean/images/3.png"]) == "data/clean/images"


def test_a_full_matrix_cell_can_be_read() -> None:
    """axe-core cannot judge text on the matrices' tint, so its contrast is computed here."""
    style = (FOLDER / "style.css").read_text(encoding="utf-8")

    def luminance(color: list[float]) -> float:
        linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in color]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for scheme in style.split("@media screen and (prefers-color-scheme: dark)")[:2]:
        page, ink = ([int(part, 16) / 255 for part in re.findall("..", re.findall(rf"--{name}: #(\w+)", scheme)[0])]
                     for name in ("page", "ink"))  # fmt: skip
        heat = [int(part) / 255 for part in re.findall(r"--heat: ([\d, ]+);", scheme)[0].split(", ")]
        cell = [0.75 * tint + 0.25 * base for tint, base in zip(heat, page, strict=True)]
        low, high = sorted((luminance(cell), luminance(ink)))
        assert (high + 0.05) / (low + 0.05) >= 4.5


def test_a_long_list_of_the_card_is_cut() -> None:
    ((_, text),) = flatten_card({"classes": [f"class {number}" for number in range(1000)]})
    assert "class 49, … (1,000 in all)" in text
    assert len(text) < 1000


def test_a_page_of_many_objects_holds_the_first_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = make_report_inputs(tmp_path)
    analysis, count = inputs.analysis, len(inputs.labels.images.ids)
    assert limit_images(analysis, count) == count
    per_image = np.bincount(analysis.objects.images, minlength=count)
    monkeypatch.setattr("detector.evaluation.report.payload.MAX_OBJECTS", int(per_image[:5].sum()))
    shown = limit_images(analysis, count)
    assert per_image[:shown].sum() == per_image[:5].sum()
    kept = keep_first_images(analysis, shown)
    assert len(kept.objects.ids) == per_image[:5].sum()
    assert set(kept.images.tolist()) <= set(range(shown))
    before = [analysis.objects.ids[index] for index in analysis.object_indices[analysis.images < shown] if index >= 0]
    assert before == [kept.objects.ids[index] for index in kept.object_indices if index >= 0]
    write_report(inputs, tmp_path, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert f"only the first {shown} of {count} images" in page
    monkeypatch.setattr("detector.evaluation.report.payload.MAX_IMAGES", 3)
    assert limit_images(analysis, count) == 3


def test_the_card_is_flattened_and_limitations_count() -> None:
    rows = flatten_card({"model": "simple", "recipe": {"lr": 0.0010000001, "freeze": []}, "size": (224, 224)})
    assert rows == [("model", "simple"), ("recipe.lr", "0.001"), ("recipe.freeze", "none"), ("size", "224, 224")]
    names = LabelNames(["cup", "pan"], ["gone"], [False])
    details = {"classes": [{"class": "cup", "objects": 3}, {"class": "pan", "objects": 30}]}
    limitations = " ".join(list_limitations(details, names, "val"))
    assert "1 of 2 classes" in limitations
    assert "(cup)" in limitations
    assert "gone" in limitations


def test_packed_json_round_trip() -> None:
    assert pack_json({"ä<": [1, None]}) == pack_json({"ä<": [1, None]})
    assert json.loads(gzip.decompress(base64.b64decode(pack_json({"ä<": [1, None]})))) == {"ä<": [1, None]}
    with pytest.raises(ValueError, match="JSON compliant"):
        pack_json(float("nan"))


def test_pictures_fit_into_the_budget(tmp_path: Path) -> None:
    inputs = make_report_inputs(tmp_path)
    arguments = (inputs.analysis, inputs.labels.images.files.tolist(), inputs.galleries, inputs.thresholds)
    pictures = encode_pictures(*arguments, root=tmp_path, budget=10**7)
    assert sorted(pictures) == list(range(14))
    assert Image.open(io.BytesIO(base64.b64decode(pictures[3]))).size == (160, 120)
    half = sum(map(len, pictures.values())) // 2
    some = encode_pictures(*arguments, root=tmp_path, budget=half)
    assert 0 < len(some) < 14
    assert sum(map(len, some.values())) <= half
    assert inputs.galleries["best"][0].image in some
    assert encode_pictures(*arguments, root=tmp_path, budget=0) == {}


def test_page_data_has_one_entry_per_detection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = make_report_inputs(tmp_path)
    arguments = (inputs.analysis, inputs.labels.images, inputs.labels.names, inputs.thresholds)
    data = build_page_data(*arguments, {0, 2})
    assert data["classes"] == NAMES
    assert len(data["scores"]) == len(inputs.analysis.scores) == len(data["boxes"])
    assert all((box is None) == (image not in (0, 2)) for box, image in zip(data["boxes"], data["image"], strict=True))
    assert data["omitted"] == 0
    monkeypatch.setattr("detector.evaluation.report.payload.MAX_DETECTIONS", 10)
    fewer = build_page_data(*arguments, set())
    assert fewer["omitted"] == len(inputs.analysis.scores) - 10
    assert fewer["scores"] == np.sort(inputs.analysis.scores)[::-1][:10].tolist()


def test_an_existing_label_is_dashed_and_a_missing_one_solid(tmp_path: Path) -> None:
    Image.new("RGB", (60, 60)).save(tmp_path / "a.png")
    row = {"file": "a.png", "left": "20", "top": "20", "width": "20", "height": "20", "suggestion": "b"}
    label, missing = (
        np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB"), int)
        for picture in encode_issue_crops([row | {"kind": kind} for kind in ("wrong_class", "missing_box")], tmp_path)
    )
    assert (label[:, :, 1] > label[:, :, 0] + 30).sum() > 100  # green
    assert (missing[:, :, 0] > missing[:, :, 1] + 60).sum() > (label[:, :, 1] > label[:, :, 0] + 30).sum()
