"""The report: one page that holds everything, numbers, charts, pictures and code, and needs no network."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
import vl_convert
from numpy.typing import NDArray

from detector.evaluation.error_types import Pairs
from detector.evaluation.galleries import Shown, choose
from detector.evaluation.report.charts import Curve, all_charts
from detector.evaluation.report.model_card import cautions, flattened
from detector.evaluation.report.numbers import HEADLINES, Headline, headlines, share
from detector.evaluation.report.payload import DETECTIONS, columns, embedded_pictures
from detector.evaluation.report.suspect_rows import PICTURED, suspect_pictures

HERE = Path(__file__).parent
SCRIPTS = ("data", "charts", "tables", "pictures", "threshold", "confusion", "page")
PICTURES = 5_500_000  # bytes of all pictures in the page, as base64
MOST_SUSPECTS = 200  # rows of the table; the file has all


class Facts(NamedTuple):
    """What a report tells of.

    split: the name of what was judged. headline: metrics/evaluate.json. details: metrics/evaluate/details.json.
    card: models/detector.json. coco: the split with absent objects. thresholds float [C]: of each class.
    galleries: as `choose` gives them. suspects: rows of suspects.csv, worst first. curves: of the training.
    """

    split: str
    headline: dict[str, Any]
    details: dict[str, Any]
    card: dict[str, Any]
    coco: dict[str, Any]
    pairs: Pairs
    thresholds: NDArray[np.float64]
    galleries: dict[str, list[Shown]]
    suspects: list[dict[str, str]]
    curves: list[Curve]


def gather(
    split: str, coco: dict[str, Any], pairs: Pairs, thresholds: NDArray[np.float64], pictures: int,
    headline: dict[str, Any], details: dict[str, Any], card: dict[str, Any],
    suspects: list[dict[str, str]], curves: list[Curve],
) -> Facts:  # fmt: skip
    """The facts of a split and what was found in it; pictures: of each gallery."""
    galleries = choose(pairs, len(coco["images"]), thresholds, pictures)
    return Facts(split, headline, details, card, coco, pairs, thresholds, galleries, suspects, curves)


def write_report(facts: Facts, root: Path, path: Path) -> None:
    """Write the page; file names of images, and of suspects, are relative to `root`."""
    pictures = embedded_pictures(facts.pairs, facts.coco, facts.galleries, facts.thresholds, root, PICTURES)
    data = columns(facts.pairs, facts.coco, facts.thresholds, facts.galleries, set(pictures))
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.ChainableUndefined,
    )  # fmt: skip
    environment.filters["share"] = share
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":"), "allow_nan": False}
    environment.globals["notes"] = facts.details.get("notes") or {}
    text = environment.get_template("page.html").render(
        facts=facts,
        details={key: facts.details.get(key) for key in ("classes", "slices", "states", "calibration", "tide",
                                                         "localization", "notes")},
        headlines=headlines(facts.headline),
        others=_others(facts.headline),
        charts=all_charts(facts.details, facts.curves),
        pictures=pictures,
        data=packed(data),
        detections=len(facts.pairs.scores),
        most_detections=DETECTIONS,
        card=flattened(facts.card),
        counts=_counts(facts),
        cautions=cautions(facts.details, facts.coco, facts.split),
        suspects=facts.suspects[:MOST_SUSPECTS],
        suspect_pictures=suspect_pictures(facts.suspects[:PICTURED], root),
        style=(HERE / "style.css").read_text(encoding="utf-8"),
        library=vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"),
        code="\n".join((HERE / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS),
    )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def packed(value: Any) -> str:
    """JSON, gzip, base64: the same bytes each time."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def _others(headline: dict[str, Any]) -> list[Headline]:
    """All that the file of headline numbers has besides the large ones and the ends of their intervals."""
    shown = {key for key, *_ in HEADLINES}
    ends = {f"{key}_{end}" for key in headline for end in ("low", "high")}
    return [
        Headline(key, key, "", value, headline.get(f"{key}_low"), headline.get(f"{key}_high"))
        for key, value in headline.items()
        if key not in shown | ends and not isinstance(value, dict)
    ]


def _counts(facts: Facts) -> dict[str, int]:
    """Of the data, for the head of the page."""
    objects = facts.pairs.objects
    return {
        "images": len(facts.coco["images"]),
        "objects": int((~objects.absent).sum()),
        "absent": int(objects.absent.sum()),
        "crowds": sum(bool(annotation["iscrowd"]) for annotation in facts.coco["annotations"]),
    }
