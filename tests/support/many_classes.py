"""Evaluate and draw a dataset of any number of classes and boxes within a memory limit, as a program.

python tests/support/many_classes.py CLASSES IMAGES OBJECTS_PER_IMAGE GIGABYTES
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from detector.manifest.decisions import REQUIRED_COLUMNS


def main() -> None:
    classes, images, objects, gigabytes = map(int, sys.argv[1:])
    import evaluate
    from detector.plotting.chart_process import start_chart_process

    start_chart_process()  # without the limit: its JavaScript engine reserves many more addresses than it uses
    limit = gigabytes * 2**30
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    from detector.engine.checkpoint import Card
    from detector.engine.detections import pack_rows
    from detector.engine.ground_truth import pack_ground_truth
    from detector.engine.predict import PredictionResult
    from detector.evaluation.error_types import analyze_errors
    from detector.evaluation.matched_split import choose_thresholds, match_split
    from detector.evaluation.metrics import compute_metrics
    from detector.evaluation.plot_files import write_plots
    from detector.evaluation.report.identity import ModelSize
    from detector.evaluation.settings import EvaluateParams

    coco, rows = make_split(classes, images, objects)
    predictions = pack_rows(rows)
    labels = pack_ground_truth(coco)
    split = match_split(labels, predictions)
    thresholds = choose_thresholds(split, "f1", True, 10)
    nothing = np.zeros((images * objects, 0))
    metrics = compute_metrics(split, split, thresholds, state_scores=nothing, cost_ratio=10, bootstrap_samples=100)
    print(metrics.format_headline())
    analysis = analyze_errors(labels, predictions, split.matches)
    write_plots(evaluate.NUMBERS, evaluate.PLOTS, test=split, analysis=analysis, thresholds=thresholds, metrics=metrics)
    results = {"test": PredictionResult(predictions, {}, nothing)}
    issues, notes = evaluate.find_issues({"test": labels}, results, has_states=False, temperature=1.0)
    print(*(f"{key}: {note}" for key, note in notes.items()), sep="\n")
    evaluate.write_label_issues(issues, [labels])
    names = [category["name"] for category in coco["categories"]]
    card = Card(model="simple", classes=names, states=[], size=(64, 64), mean=(0, 0, 0), std=(1, 1, 1), recipe={},
                seed=0, data="", validation={})  # fmt: skip
    params = EvaluateParams(split="test", threshold_rule="f1", threshold_per_class=True, cost_ratio=10,
                            bootstrap_samples=100, threads=1)  # fmt: skip
    evaluate.write_report_and_galleries(split, analysis, thresholds, metrics, params=params, card=card,
                                        size=ModelSize(1, 1), splits={"test": labels}, issues=issues)  # fmt: skip
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


def make_split(classes: int, images: int, objects: int) -> tuple[dict[str, Any], Any]:
    """Frequent and rare classes, some with long names; most detections fit, some are of another class or missing."""
    rng = np.random.default_rng(0)
    Path("data").mkdir()
    Path("data/decisions.csv").write_text(",".join(REQUIRED_COLUMNS) + "\n")
    Path("images").mkdir()
    for number in range(1, min(images, 200) + 1):
        Image.new("RGB", (320, 240), (number % 256, 90, 120)).save(f"images/{number}.jpg")
    names = [f"class {number}" + " with a very long name" * (8 * (number % 50 == 7)) for number in range(classes)]
    annotations: list[dict[str, Any]] = []
    predictions: list[Any] = []
    for image in range(1, images + 1):
        category = (classes * rng.random(objects) ** 2).astype(int) + 1
        boxes = rng.integers([0, 0, 8, 8], [280, 200, 90, 90], (objects, 4))
        moved = boxes + rng.integers(-2, 3, boxes.shape)
        confused = np.where(rng.random(objects) < 0.2, rng.integers(1, classes + 1, objects), category)
        scores = rng.random(objects).round(5)
        for row in range(objects):
            annotations.append({"id": len(annotations) + 1, "image_id": image, "category_id": int(category[row]),
                                "bbox": boxes[row].tolist(), "area": int(boxes[row, 2] * boxes[row, 3]),
                                "iscrowd": 0, "state": 0})  # fmt: skip
            if scores[row] > 0.1:
                predictions.append({"image_id": image, "category_id": int(confused[row]),
                                    "bbox": moved[row].astype(float).tolist(), "score": float(scores[row]),
                                    "state": 0, "state_score": 0.0})  # fmt: skip
    rows = [{"id": i, "file_name": f"images/{(i - 1) % 200 + 1}.jpg", "width": 320, "height": 240}
            for i in range(1, images + 1)]  # fmt: skip
    categories = [{"id": number, "name": name} for number, name in enumerate(names, 1)]
    return {"images": rows, "annotations": annotations, "categories": categories, "states": []}, predictions


if __name__ == "__main__":
    main()
