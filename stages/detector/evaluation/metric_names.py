"""The metrics of the evaluate stage: their names, meaning, unit, and whether higher or lower is better.

Imports nothing but the standard library, so that commands and tests can read it without loading torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple, get_args

Better = Literal["higher", "lower", "none"]
ComparedMetric = Literal["AP", "AP50", "AP75", "F1"]


class Metric(NamedTuple):
    """One metric.

    title: its label in the report. interval: whether `{name}_low` and `{name}_high`, its 95% confidence interval, are
    written with it. needs_states: whether only datasets with states have it.
    """

    name: str
    title: str
    meaning: str
    unit: str
    better: Better
    interval: bool = True
    needs_states: bool = False


def _coco_metrics() -> Iterator[Metric]:
    """COCO's twelve, in the order of pycocotools."""
    yield Metric("AP", "AP", "average precision, mean over IoU 0.50 to 0.95 and classes", "0 to 1", "higher")
    yield Metric("AP50", "AP50", "average precision at IoU 0.5", "0 to 1", "higher")
    yield Metric("AP75", "AP75", "average precision at IoU 0.75", "0 to 1", "higher")
    for size in ("small", "medium", "large"):
        yield Metric(f"AP_{size}", f"AP {size}", f"AP on {size} objects", "0 to 1", "higher")
    for most in (1, 10, 100):
        meaning = f"average recall with at most {most} detection{'s' if most > 1 else ''} per image and class"
        yield Metric(f"AR{most}", f"AR{most}", meaning, "0 to 1", "higher")
    for size in ("small", "medium", "large"):
        yield Metric(f"AR_{size}", f"AR {size}", f"AR100 on {size} objects", "0 to 1", "higher")


def _threshold_metrics() -> Iterator[Metric]:
    """The operating threshold, what it gives at IoU 0.5, and calibration."""
    meaning = "operating threshold of the calibrated score, chosen on val; null with per-class thresholds"
    yield Metric("threshold", "Threshold", meaning, "score", "none", interval=False)
    meaning = "the same threshold on the scale of the model's own scores, as in data/predictions"
    yield Metric("raw_threshold", "Raw threshold", meaning, "score", "none", interval=False)
    meaning = "fraction of the detections that are correct, at the threshold"
    yield Metric("precision", "Precision", meaning, "0 to 1", "higher")
    yield Metric("recall", "Recall", "fraction of the objects that are detected, at the threshold", "0 to 1", "higher")
    yield Metric("F1", "F1", "harmonic mean of precision and recall, at the threshold", "0 to 1", "higher")
    yield Metric("mean_IoU", "Mean IoU", "mean IoU of the correct detections, at the threshold", "0 to 1", "higher")
    meaning = "expected calibration error: mean gap between calibrated score and precision"
    yield Metric("calibration_error", "Calibration error", meaning, "0 to 1", "lower")
    meaning = "divisor of the score's logit that calibrates scores; 1 leaves them unchanged"
    yield Metric("temperature", "Temperature", meaning, "factor", "none", interval=False)


def _tide_metrics() -> Iterator[Metric]:
    """TIDE's error types."""
    errors = {
        "class": "wrong classes",
        "location": "poor localization",
        "both": "wrong classes with poor localization",
        "duplicate": "duplicate detections",
        "background": "detections on background",
        "missed": "missed objects",
    }
    for name, error in errors.items():
        yield Metric(f"tide_{name}", f"TIDE {name}", f"AP50 lost to {error}", "AP50", "lower", interval=False)


def _state_metrics() -> Iterator[Metric]:
    """Those of datasets with states."""
    meaning = "macro F1 over the states, given the true boxes"
    yield Metric("state_F1", "State F1", meaning, "0 to 1", "higher", needs_states=True)
    meaning = "AP50 where class and state must both be correct"
    yield Metric("joint_AP", "Joint AP", meaning, "0 to 1", "higher", needs_states=True)
    meaning = "fraction of the absent objects that are detected, at the threshold"
    yield Metric("hallucination", "Hallucination", meaning, "0 to 1", "lower", needs_states=True)


# By name, in the order of `metrics` in metrics/evaluate/details.json, which has them all.
METRICS: dict[str, Metric] = {
    metric.name: metric
    for group in (_coco_metrics, _threshold_metrics, _tide_metrics, _state_metrics)
    for metric in group()
}

PRIMARY_METRIC = "AP"
# What the paired comparison of two detectors tests.
COMPARED_METRICS: tuple[ComparedMetric, ...] = get_args(ComparedMetric)
# The large numbers of the report.
HEADLINE_METRICS = ("AP", "AP50", "AP75", "precision", "recall", "F1", "state_F1", "joint_AP", "hallucination")
# The rows of a pull request's comment.
COMMENT_METRICS = (*COMPARED_METRICS, "precision", "recall", "state_F1", "joint_AP", "calibration_error")
# The keys of metrics/evaluate.json, in the order of the columns of `dvc exp show`: what experiments are compared by.
TABLE_METRICS = ("AP", "AP50", "AP75", "F1", "precision", "recall", "state_F1", "joint_AP", "hallucination",
                 "threshold", "calibration_error", "AP_small", "AP_medium", "AP_large")  # fmt: skip

# The numbers of each row of metrics/evaluate/details.json, of `classes` and of the states' `given_boxes`.
CLASS_METRICS = ("AP", "AP50", "AP_small", "AP_medium", "AP_large", "threshold", "raw_threshold", "precision", "recall",
                 "F1", "recall_at_precision_0.9")  # fmt: skip
CLASS_INTERVALS = ("AP", "AP50")
STATE_METRICS = ("precision", "recall", "F1")


def interval_names(name: str) -> tuple[str, str]:
    """The keys of the lower and the upper end of a metric's 95% confidence interval."""
    return f"{name}_low", f"{name}_high"


def pick_table_metrics(flat: Mapping[str, float | None]) -> dict[str, float | None]:
    """The contents of metrics/evaluate.json; those of states if there are any."""
    return {name: flat[name] for name in TABLE_METRICS if name in flat}


def file_keys(states: bool) -> list[str]:
    """All keys of `metrics` in the details, in their order; states: whether the dataset has states."""
    keys: list[str] = []
    for metric in METRICS.values():
        if states or not metric.needs_states:
            keys += [metric.name, *(interval_names(metric.name) if metric.interval else ())]
    return keys


def metrics_table() -> str:
    """All metrics as the Markdown table of docs/evaluation.md."""
    lines = ["| metric | meaning | unit | better | 95% CI | compared |", "| --- | --- | --- | --- | --- | --- |"]
    for metric in METRICS.values():
        marks = " | ".join("yes" if mark else "no" for mark in (metric.interval, metric.name in TABLE_METRICS))
        lines.append(f"| `{metric.name}` | {metric.meaning} | {metric.unit} | {metric.better} | {marks} |")
    return "\n".join(lines)
