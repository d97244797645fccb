"""All metrics of an evaluation: the flat ones by name, and the details by section.

Thresholds are chosen and applied on the model's own scores; those written are calibrated, next to a `raw_threshold`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.engine.coco_metrics import COCO_METRICS
from detector.evaluation.bootstrap import bootstrap_weights
from detector.evaluation.calibration import (
    Temperature,
    bootstrap_ece,
    calibrate_matches,
    calibrate_score,
    choose_temperature,
    compute_calibration_error,
    compute_reliability_bins,
)
from detector.evaluation.intervals import (
    IOU_50,
    Bootstrap,
    Counts,
    add_interval,
    bootstrap_coco_metrics,
    count_at_threshold,
    nanmean,
    none_if_nan,
    read_first_sample,
    run_bootstrap,
    safe_divide,
    weigh_once,
)
from detector.evaluation.localization import bootstrap_mean_iou, compute_mean_iou, pair_boxes, tabulate_localization
from detector.evaluation.matched_split import MatchedSplit, Thresholds
from detector.evaluation.matching import Matches
from detector.evaluation.metric_names import interval_names
from detector.evaluation.operating_point import compute_recall_at_precision, select_class
from detector.evaluation.overlaps import find_overlaps
from detector.evaluation.slices import tabulate_slices
from detector.evaluation.state_metrics import compute_state_metrics
from detector.evaluation.tide import KINDS, compute_tide

FIXED_PRECISION = 0.9
BOOTSTRAP_SEED = 0
MAX_PRINTED_NOTES = 40


class Metrics(NamedTuple):
    """flat: by name, None where a metric does not exist; details: by section, with the reasons in `notes`."""

    flat: dict[str, float | None]
    details: dict[str, Any]

    def format_headline(self) -> str:
        """The main metrics with their intervals, and the first notes, as lines for the console."""
        lines = [
            ", ".join(map(self._format, ("AP", "AP50"))),
            f"at {self._format('threshold')}: {self._format('precision')}, {self._format('recall')}",
        ]
        if self.details["states"] is not None:
            macro_f1, joint_ap, hallucination = map(self._format, ("state_F1", "joint_AP", "hallucination"))
            lines.append(f"states: {macro_f1} given the true boxes, {joint_ap}, {hallucination}")
        notes = self.details["notes"]
        lines += [f"note: {name}: {note}" for name, note in list(notes.items())[:MAX_PRINTED_NOTES]]
        if len(notes) > MAX_PRINTED_NOTES:
            lines.append(f"and {len(notes) - MAX_PRINTED_NOTES:,} more notes, under `notes` in the details")
        return "\n".join(lines)

    def _format(self, name: str) -> str:
        low_name, high_name = interval_names(name)
        value, low, high = (self.flat.get(key) for key in (name, low_name, high_name))
        interval = "" if low is None or high is None else f" ({low:.3f} to {high:.3f})"
        return f"{name} -" if value is None else f"{name} {value:.3f}{interval}"


def compute_metrics(
    val: MatchedSplit,
    test: MatchedSplit,
    thresholds: Thresholds,
    *,
    state_scores: NDArray[np.float64],
    cost_ratio: float,
    bootstrap_samples: int,
) -> Metrics:
    """Evaluate test; thresholds and temperature are chosen on val.

    state_scores [A, S]: the state head's probabilities of test's objects (see `PredictionResult`); S = 0 without
    one. bootstrap_samples: for the 95% intervals.
    """
    notes = dict(thresholds.notes)
    weights = bootstrap_weights(test.groups, bootstrap_samples, BOOTSTRAP_SEED)
    groups = len(np.unique(test.groups))
    if groups < 2:
        notes["intervals"] = "only one image or one group: nothing to resample"
    counts = count_at_threshold(test.matches, thresholds.by_class)
    pairs = pair_boxes(test.truth, test.predictions, test.matches, thresholds.by_class)
    temperature = choose_temperature(val.matches)
    calibration = compute_calibration(test.matches, temperature)
    overlaps = find_overlaps(test.truth, test.predictions)
    tide = compute_tide(overlaps, test.predictions, test.matches)
    once, bootstrap = run_bootstrap(overlaps, test.matches, weigh_once(test.groups), weights)
    values = compute_overall(once, thresholds, counts, temperature.used) | {
        "mean_IoU": compute_mean_iou(pairs),
        "calibration_error": calibration["error_after" if temperature.is_applied else "error"],
    }
    replicates = bootstrap_coco_metrics(bootstrap) | counts.compute_scores(weights)
    replicates |= {
        "mean_IoU": bootstrap_mean_iou(pairs, weights),
        "calibration_error": bootstrap_ece(calibrate_matches(test.matches, temperature.used), weights),
    }
    states = None
    if state_scores.shape[1]:
        states = compute_state_metrics(
            val,
            test,
            thresholds=thresholds.by_class,
            state_scores=state_scores,
            weights=weights,
            cost_ratio=cost_ratio,
            temperature=temperature.used,
        )
        values |= states.values
        replicates |= states.replicates
        notes |= states.notes
    flat: dict[str, float | None] = {}
    for name, value in values.items():
        flat |= add_interval(name, value, replicates[name], groups) if name in replicates else {name: value}
        if name == "calibration_error":
            flat["temperature"] = temperature.used
            flat |= {f"tide_{kind}": tide[kind] for kind in KINDS}
    if tide["missed"] is None:
        notes["tide"] = "no detections or no objects, so errors cost nothing"
    note_missing(flat, notes)
    if temperature.note:
        notes["temperature"] = temperature.note
    slices, slice_notes = tabulate_slices(
        test.truth, overlaps, test.matches, test.groups, once=once, bootstrap=bootstrap
    )
    details = {
        "classes": tabulate_classes(
            test, thresholds, counts, once=once, bootstrap=bootstrap, temperature=temperature.used, notes=notes
        ),
        "slices": slices,
        "states": None if states is None else states.details,
        "calibration": calibration,
        "tide": tide,
        "localization": tabulate_localization(pairs, test.truth.names.classes),
        "notes": notes | slice_notes,
    }
    return Metrics(flat, details)


def compute_overall(
    once: Bootstrap, thresholds: Thresholds, counts: Counts, temperature: float | None
) -> dict[str, float | None]:
    """COCO's metrics and those at the operating threshold; once: with every image once."""
    scores = {name: none_if_nan(values[0]) for name, values in counts.compute_scores(once.weights).items()}
    raw = thresholds.overall
    threshold = None if raw is None else calibrate_score(raw, temperature)
    return read_first_sample(once) | {"threshold": threshold, "raw_threshold": raw} | scores


def tabulate_classes(
    test: MatchedSplit,
    thresholds: Thresholds,
    counts: Counts,
    *,
    once: Bootstrap,
    bootstrap: Bootstrap,
    temperature: float | None,
    notes: dict[str, str],
) -> list[dict[str, Any]]:
    """One row per class; the reasons for missing metrics are added to notes.

    once: with every image once, for the metrics; bootstrap: for their intervals.
    """
    names = test.truth.names.classes
    hits, detections, objects = counts.by_class
    groups = len(np.unique(test.groups))
    rows = []
    for index, name in enumerate(names):
        precisions = {size: values[0, :, index] for size, values in once.precisions.items()}  # [10]
        aps = {size: none_if_nan(nanmean(values, (0,))) for size, values in precisions.items()}
        replicates = bootstrap.precisions["all"][:, :, index]
        recall_at_precision = compute_recall_at_precision(select_class(test.matches, index), FIXED_PRECISION)
        f1_denominator = detections[index] + objects[index] if objects[index] else 0
        rows.append(
            {
                "class": name,
                "objects": int(objects[index]),
                **add_interval("AP", aps.pop("all"), nanmean(replicates, (1,)), groups),
                **add_interval("AP50", none_if_nan(precisions["all"][IOU_50]), replicates[:, IOU_50], groups),
                **{f"AP_{size}": value for size, value in aps.items()},
                "threshold": calibrate_score(float(thresholds.by_class[index]), temperature),
                "raw_threshold": float(thresholds.by_class[index]),
                "precision": none_if_nan(safe_divide(hits[index], detections[index])),
                "recall": none_if_nan(safe_divide(hits[index], objects[index])),
                "F1": none_if_nan(safe_divide(2 * hits[index], f1_denominator)),
                f"recall_at_precision_{FIXED_PRECISION}": recall_at_precision,
            }
        )
        if not objects[index]:
            notes[f"class {name}"] = "no object of this class"
        elif not detections[index]:
            notes[f"class {name}"] = "no detection of this class reaches the threshold, so precision is undefined"
    return rows


def compute_calibration(matches: Matches, temperature: Temperature) -> dict[str, Any]:
    """Test's error and bins as they are, both with val's temperature, and both errors of val.

    `calibrated_bins` are those of the scores that people see: without a temperature that helps, the same as `bins`.
    """
    after, bins = None, compute_reliability_bins(matches)
    calibrated_bins = bins
    if temperature.fitted is not None:
        calibrated = calibrate_matches(matches, temperature.fitted)
        after = compute_calibration_error(calibrated)
        calibrated_bins = compute_reliability_bins(calibrated) if temperature.is_applied else bins
    return {
        "error": compute_calibration_error(matches),
        "error_after": after,
        "temperature": temperature.used,
        "fitted_temperature": temperature.fitted,
        "val_error": temperature.error,
        "val_error_after": temperature.error_after,
        "bins": bins,
        "calibrated_bins": calibrated_bins,
    }


def note_missing(flat: dict[str, float | None], notes: dict[str, str]) -> None:
    """Add a reason for each missing metric that has none yet."""
    for name in (*COCO_METRICS, "recall", "F1"):
        if flat[name] is None:
            size = name.partition("_")[2]
            notes[name] = f"no {size} object to detect" if size else "no object to detect"
    if flat["precision"] is None:
        notes["precision"] = "no detection reaches the threshold"
    if flat["mean_IoU"] is None:
        notes["mean_IoU"] = "no correct detection reaches the threshold"
    if flat["calibration_error"] is None:
        notes["calibration_error"] = "no detections"
    if flat["raw_threshold"] is None:
        notes["raw_threshold"] = notes["threshold"]
    for name, value in flat.items():
        base, _, end = name.rpartition("_")
        if end == "low" and value is None and flat[base] is not None and "intervals" not in notes:
            notes[f"interval of {base}"] = "all bootstrap samples give the same value, or too few give any"
