"""Can the intervals and the comparison be trusted, and what do they cost?

command  python -m benchmarks.uncertainty        (or `make bench-evaluation`)
reads    stages/
writes   nothing
time     about 2 minutes on 2 cores, of which it uses one

Speed and memory at the size of COCO's val; how often the 95% interval holds the true AP of generated detectors;
and how often the paired comparison finds a planted difference, or one where there is none.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.generated_detectors import detect, draw_scene
from benchmarks.speed import processor
from benchmarks.timing import say
from detector.comparison.comparison import METRICS, Side, differences
from detector.core.errors import run_command
from detector.engine.coco_metrics import evaluate_boxes
from detector.engine.detections import Prediction
from detector.evaluation.bootstrap import average_precisions, draws, interval, score_interval
from detector.evaluation.matching import Matches, matches_of

IMAGES, DETECTIONS, DRAWS = 5000, 100, 1000
TEST_SETS = 400
PAIRS = 300
POPULATION = 60_000  # images from which the true AP is taken: its own chance is 0.001
SKILLS = {"weak": 0.0, "middling": 1.0, "good": 2.5}
SIZES = (60, 150)  # images of a test set
NAMES = ("AP", "AP50")


def main() -> None:
    print(f"{time.strftime('%Y-%m-%d')}, {processor()}\n")
    for rows in (speed(), coverage(), power()):
        print("\n".join(rows), end="\n\n", flush=True)


def speed() -> Iterator[str]:
    """Seconds and peak memory of the draws, from boxes on."""
    say(f"{DRAWS:,} draws of {IMAGES:,} images x {DETECTIONS} detections")
    truth, predictions = boxes()
    start = time.perf_counter()
    matches = matches_of(evaluate_boxes(truth, predictions))
    matched = time.perf_counter()
    average_precisions(matches, draws(np.arange(IMAGES), DRAWS, seed=0))
    seconds = [matched - start, time.perf_counter() - matched]
    yield "| draws | images | detections | matching | draws | together | target | peak memory | target |"
    yield "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    yield (f"| {DRAWS:,} | {IMAGES:,} | {len(matches.scores):,} | {seconds[0]:.1f} s | {seconds[1]:.1f} s "
           f"| {sum(seconds):.1f} s | 60 s | {peak_memory():.2f} GiB | 2 GiB |")  # fmt: skip


def boxes() -> tuple[dict[str, Any], list[Prediction]]:
    """10 objects of ten classes in each image, and 10 detections near each, each farther off than the one before."""
    random = np.random.default_rng(0)
    objects = np.repeat(np.arange(1, IMAGES + 1), 10)
    corners, sizes = random.integers(0, 500, (len(objects), 2)), random.integers(10, 100, (len(objects), 2))
    bboxes = np.concatenate([corners, sizes], axis=1).astype(float)
    categories = random.integers(1, 11, len(objects))
    annotations = [
        {
            "id": number,
            "image_id": image,
            "category_id": category,
            "bbox": bbox,
            "area": bbox[2] * bbox[3],
            "iscrowd": 0,
        }
        for number, (image, category, bbox) in enumerate(
            zip(objects.tolist(), categories.tolist(), bboxes.tolist(), strict=True), 1
        )
    ]
    predictions: list[Any] = []
    for turn in range(1, DETECTIONS // 10 + 1):
        near = np.maximum(bboxes + random.normal(0, 3 * turn, bboxes.shape), 1)
        scores = random.random(len(objects)) / turn
        columns = (objects.tolist(), categories.tolist(), near.tolist(), scores.tolist())
        predictions += [
            {"image_id": image, "category_id": category, "bbox": bbox, "score": score}
            for image, category, bbox, score in zip(*columns, strict=True)
        ]
    images = [{"id": i, "width": 640, "height": 640, "file_name": f"{i}.jpg"} for i in range(1, IMAGES + 1)]
    classes = [{"id": i, "name": str(i)} for i in range(1, 11)]
    return {"images": images, "annotations": annotations, "categories": classes}, predictions


def peak_memory() -> float:
    """Of this process in GiB; NaN where the system does not tell."""
    if sys.platform == "win32":
        return float("nan")
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2 ** (30 if sys.platform == "darwin" else 20)


def coverage() -> Iterator[str]:
    """How often the 95% interval of a generated test set holds the AP of the population."""
    yield ("| detector | true AP | true AP50 | images | interval of AP holds it | of AP50 | within 92–98% "
           "| middle of the draws: AP | AP50 |")  # fmt: skip
    yield "| --- | ---: | ---: | ---: | ---: | ---: | --- | ---: | ---: |"
    for name, skill in SKILLS.items():
        random = np.random.default_rng(1)
        once = np.ones((1, POPULATION), np.int32)
        (true,) = headline(detect(draw_scene(POPULATION, random), skill, random), once)
        for images in SIZES:
            say(f"intervals of a {name} detector, {TEST_SETS} test sets of {images} images")
            held = np.zeros((2, 2))
            for seed in range(TEST_SETS):
                matches = detect(draw_scene(images, random), skill, random)
                times = draws(np.arange(images), 400, seed)
                value, *samples = headline(matches, np.append(np.ones((1, images), np.int32), times, axis=0))
                for place, column in enumerate(np.array(samples).T):
                    for method, bounds in enumerate((score_interval(column, value[place], images), interval(column))):
                        held[method, place] += bounds is not None and bounds[0] <= true[place] <= bounds[1]
            (ap, ap50), middle = held / TEST_SETS
            good = "yes" if max(abs(ap - 0.95), abs(ap50 - 0.95)) <= 0.03 else "no"
            yield (f"| {name} | {true[0]:.3f} | {true[1]:.3f} | {images} | {ap:.1%} | {ap50:.1%} | {good} "
                   f"| {middle[0]:.1%} | {middle[1]:.1%} |")  # fmt: skip


def headline(matches: Matches, times: NDArray[np.int32]) -> NDArray[np.float64]:
    """AP and AP50 [B, 2]."""
    precision = average_precisions(matches, times)
    return np.stack([np.nanmean(precision, axis=(1, 2)), np.nanmean(precision[:, 0], axis=1)], axis=1)


def power() -> Iterator[str]:
    """How often the paired comparison says better or worse."""
    yield "| planted | images | true difference of AP | found better | worse | classes found (Holm) |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    images = SIZES[-1]
    for name, more in {"nothing": 0.0, "a small gain": 0.15, "a gain": 0.4}.items():
        say(f"comparisons, {name} planted, {PAIRS} test sets")
        random = np.random.default_rng(2)
        scene = draw_scene(POPULATION, random)
        once = np.ones((1, POPULATION), np.int32)
        true = headline(detect(scene, 1 + more, random), once) - headline(detect(scene, 1.0, random), once)
        verdicts: list[str] = []
        classes = 0
        for seed in range(PAIRS):
            scene = draw_scene(images, random)
            a, b = (Side(detect(scene, skill, random), np.full(3, 0.5)) for skill in (1.0, 1 + more))
            metrics, of_classes = differences(a, b, ["a", "b", "c"], draws(np.arange(images), 400, seed))
            verdicts.append(metrics[METRICS.index("AP")].verdict)
            classes += any(row.verdict in ("better", "worse") for row in of_classes)
        better, worse = verdicts.count("better") / PAIRS, verdicts.count("worse") / PAIRS
        yield f"| {name} | {images} | {true[0, 0]:+.3f} | {better:.1%} | {worse:.1%} | {classes / PAIRS:.1%} |"


if __name__ == "__main__":
    run_command(main)
