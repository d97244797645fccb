"""What the page is made of, without a browser."""

from __future__ import annotations

import base64
import gzip
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.evaluation import report
from detector.evaluation.report import packed
from detector.evaluation.report.charts import Curve, all_charts, learning, thinned
from detector.evaluation.report.model_card import cautions, flattened
from detector.evaluation.report.numbers import headlines, share
from detector.evaluation.report.payload import columns, embedded_pictures
from detector.evaluation.report.suspect_rows import suspect_pictures
from tests.support.report_case import NAMES, facts_of


def test_every_script_is_in_the_page() -> None:
    assert {f"{name}.js" for name in report.SCRIPTS} == {path.name for path in report.HERE.glob("*.js")}


def test_numbers_as_people_read_them() -> None:
    shown = [share(value) for value in (None, 0.12345, 1234, "f1", True)]
    assert shown == ["—", "0.123", "1,234", "f1", "True"]
    keys = [one.key for one in headlines({"AP": 0.5, "AP_low": 0.4, "AP_high": 0.6})]
    assert keys == ["AP", "AP50", "AP75", "precision", "recall", "F1"]
    assert headlines({"AP": 0.5, "AP_low": 0.4, "AP_high": 0.6})[0][3:] == (0.5, 0.4, 0.6)
    assert "joint_AP" in [one.key for one in headlines({"joint_AP": None})]


def test_charts_only_of_what_there_is() -> None:
    assert list(all_charts({}, [])) == ["pr-chart"]
    assert list(all_charts({"tide": {"class": None}, "calibration": {"bins": []}, "states": None}, [])) == ["pr-chart"]
    assert list(learning([Curve("val/AP", [0.1])])) == ["learning-chart-2"]
    rows = learning([Curve("val/AP", [0.1, 0.2])])["learning-chart-2"]["data"]["values"]
    assert rows == [{"epoch": 1, "series": "AP", "value": 0.1}, {"epoch": 2, "series": "AP", "value": 0.2}]
    points = [[step, step] for step in range(1000)]
    assert (thinned(points)[0], thinned(points)[-1], len(thinned(points))) == ([0, 0], [999, 999], 200)
    assert thinned(points[:3]) == points[:3]


def test_the_card_is_flat_and_cautions_count() -> None:
    rows = flattened({"model": "simple", "recipe": {"lr": 0.0010000001, "freeze": []}, "size": (224, 224)})
    assert rows == [("model", "simple"), ("recipe.lr", "0.001"), ("recipe.freeze", "none"), ("size", "224, 224")]
    coco = {"states": [{"id": 1, "name": "gone", "present": False}]}
    said = " ".join(
        cautions({"classes": [{"class": "cup", "objects": 3}, {"class": "pan", "objects": 30}]}, coco, "val")
    )
    assert "1 of 2 classes have fewer than 10 objects in val (cup)" in said
    assert "in the state gone" in said


def test_packed_data_come_back() -> None:
    assert packed({"ä<": [1, None]}) == packed({"ä<": [1, None]})
    assert json.loads(gzip.decompress(base64.b64decode(packed({"ä<": [1, None]})))) == {"ä<": [1, None]}
    with pytest.raises(ValueError, match="JSON compliant"):
        packed(float("nan"))


def test_pictures_fit_into_the_budget(tmp_path: Path) -> None:
    facts = facts_of(tmp_path)
    arguments = (facts.pairs, facts.coco, facts.galleries, facts.thresholds, tmp_path)
    everything = embedded_pictures(*arguments, 10**7)
    assert sorted(everything) == list(range(14))
    assert Image.open(io.BytesIO(base64.b64decode(everything[3]))).size == (160, 120)
    half = sum(map(len, everything.values())) // 2
    some = embedded_pictures(*arguments, half)
    assert 0 < len(some) < 14
    assert sum(map(len, some.values())) <= half
    assert facts.galleries["best"][0].image in some
    assert embedded_pictures(*arguments, 0) == {}


def test_columns_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = facts_of(tmp_path)
    data = columns(facts.pairs, facts.coco, facts.thresholds, facts.galleries, {0, 2})
    assert data["classes"] == NAMES
    assert len(data["scores"]) == len(facts.pairs.scores) == len(data["boxes"])
    assert all((box is None) == (image not in (0, 2)) for box, image in zip(data["boxes"], data["image"], strict=True))
    assert data["left_out"] == 0
    monkeypatch.setattr("detector.evaluation.report.payload.DETECTIONS", 10)
    fewer = columns(facts.pairs, facts.coco, facts.thresholds, facts.galleries, set())
    assert fewer["left_out"] == len(facts.pairs.scores) - 10
    assert fewer["scores"] == np.sort(facts.pairs.scores)[::-1][:10].tolist()


def test_a_suspected_label_is_dashed_and_a_missing_one_solid(tmp_path: Path) -> None:
    Image.new("RGB", (60, 60)).save(tmp_path / "a.png")
    row = {"file": "a.png", "left": "20", "top": "20", "width": "20", "height": "20", "suggestion": "b"}
    label, missing = (
        np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB"), int)
        for picture in suspect_pictures([row | {"kind": kind} for kind in ("wrong_class", "missing_box")], tmp_path)
    )
    assert (label[:, :, 1] > label[:, :, 0] + 30).sum() > 100  # green
    assert (missing[:, :, 0] > missing[:, :, 1] + 60).sum() > (label[:, :, 1] > label[:, :, 0] + 30).sum()
