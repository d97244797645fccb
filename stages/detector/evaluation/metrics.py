"""All numbers of an evaluation: the flat ones, which are compared, and the details beside them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.engine.coco_metrics import NUMBERS, class_numbers, coco_numbers, evaluate_boxes
from detector.evaluation.bootstrap import draws
from detector.evaluation.calibration import (
    Temperature,
    calibration_error,
    errors_of_draws,
    reliability,
    temperature_on,
    with_temperature,
)
from detector.evaluation.intervals import (
    AP50,
    Counts,
    coco_samples,
    counts_at,
    mean_over,
    number,
    resampled,
    share,
    with_interval,
)
from detector.evaluation.localization import localization_rows, mean_iou, mean_ious_of_draws, pairs_of
from detector.evaluation.matched_split import Judged, Thresholds
from detector.evaluation.operating_point import of_class, recall_at_precision
from detector.evaluation.slices import slice_rows
from detector.evaluation.state_measures import state_measures

TIDE = {"class": "Cls", "location": "Loc", "both": "Both", "duplicate": "Dupe", "background": "Bkg", "missed": "Miss"}
FIXED_PRECISION = 0.9
SEED = 0  # of the draws


class Measured(NamedTuple):
    """flat: name -> number, None where it does not exist; details: by section, with the reasons in `notes`."""

    flat: dict[str, float | None]
    details: dict[str, Any]

    def headline(self) -> str:
        """The main numbers with their intervals, and every note, in lines for the console."""
        lines = [
            ", ".join(map(self._text, ("AP", "AP50"))),
            f"at {self._text('threshold')}: {self._text('precision')}, {self._text('recall')}",
        ]
        if self.details["states"] is not None:
            told, joint, hallucination = map(self._text, ("state_macro_F1", "joint_AP", "hallucination"))
            lines.append(f"states: {told} given the boxes, {joint}, {hallucination}")
        lines += [f"note: {name}: {note}" for name, note in self.details["notes"].items()]
        return "\n".join(lines)

    def _text(self, name: str) -> str:
        value, low, high = (self.flat.get(name + end) for end in ("", "_low", "_high"))
        span = "" if low is None or high is None else f" ({low:.3f} to {high:.3f})"
        return f"{name} -" if value is None else f"{name} {value:.3f}{span}"


def measure(
    val: Judged, test: Judged, thresholds: Thresholds, state_scores: NDArray[np.float64], cost_ratio: float,
    resamples: int,
) -> Measured:  # fmt: skip
    """Judge test; thresholds and temperature come from val.

    state_scores [A, S]: what the state head says of test's objects (see `predictions.Predicted`); S = 0 without one.
    resamples: draws of the images, for the 95% intervals.
    """
    notes = dict(thresholds.notes)
    times = draws(test.groups, resamples, SEED)
    groups = len(set(test.groups.tolist()))
    if groups < 2:
        notes["intervals"] = "one image or one group: there is no other draw of it"
    counts = counts_at(test.matches, thresholds.limits)
    pairs = pairs_of(test.truth, test.predictions, test.matches, thresholds.limits)
    temperature = temperature_on(val.truth, val.predictions, val.evaluation, val.matches)
    calibration = calibration_details(test, temperature)
    tide = tide_details(test, notes)
    values = overall_values(test, thresholds, counts) | {
        "mean_IoU": mean_iou(pairs),
        "calibration_error": calibration["error"],
    }
    in_draws = resampled(test.evaluation, test.matches, times)
    samples = coco_samples(in_draws) | counts.of_draws(times) | {
        "mean_IoU": mean_ious_of_draws(pairs, times),
        "calibration_error": errors_of_draws(test.matches, times),
    }  # fmt: skip
    states = None
    if state_scores.shape[1]:
        states = state_measures(val, test, thresholds.limits, state_scores, times, cost_ratio)
        values |= states.values
        samples |= states.samples
        notes |= states.notes
    flat: dict[str, float | None] = {}
    for name, value in values.items():
        flat |= with_interval(name, value, samples[name], groups) if name in samples else {name: value}
        if name == "calibration_error":
            flat["temperature"] = temperature.used
            flat |= {f"tide_{kind}": tide[kind] for kind in TIDE}
    explain(flat, notes)
    if temperature.note:
        notes["temperature"] = temperature.note
    slices, unsliced = slice_rows(test.truth, test.evaluation, test.groups, in_draws)
    details = {
        "classes": class_rows(test, thresholds, counts, in_draws.precisions["all"], notes),
        "slices": slices,
        "states": None if states is None else states.details,
        "calibration": calibration,
        "tide": tide,
        "localization": localization_rows(pairs, [category["name"] for category in test.truth["categories"]]),
        "notes": notes | unsliced,
    }
    return Measured(flat, details)


def overall_values(test: Judged, thresholds: Thresholds, counts: Counts) -> dict[str, float | None]:
    """COCO's numbers and those at the operating threshold, without intervals."""
    once = np.ones((1, len(test.groups)), np.int32)
    reached = {name: number(sample[0]) for name, sample in counts.of_draws(once).items()}
    return coco_numbers(test.evaluation) | {"threshold": thresholds.overall} | reached


def class_rows(
    test: Judged, thresholds: Thresholds, counts: Counts, samples: NDArray[np.float64], notes: dict[str, str]
) -> list[dict[str, Any]]:
    """A row a class; reasons for what cannot be said of it go into notes.

    samples [B, 10, C]: average precision in other draws of the images.
    """
    names = [category["name"] for category in test.truth["categories"]]
    hits, found, truths = (column.sum(axis=0) for column in counts)
    groups = len(set(test.groups.tolist()))
    rows = []
    for place, (name, numbers) in enumerate(class_numbers(test.evaluation, names).items()):
        of_draws = samples[:, :, place]
        rows.append(
            {
                "class": name,
                "objects": int(truths[place]),
                **with_interval("AP", numbers["AP"], mean_over(of_draws, (1,)), groups),
                **with_interval("AP50", numbers["AP50"], of_draws[:, AP50], groups),
                **{f"AP_{size}": numbers[f"AP_{size}"] for size in ("small", "medium", "large")},
                "threshold": float(thresholds.limits[place]),
                "precision": number(share(hits[place], found[place])),
                "recall": number(share(hits[place], truths[place])),
                "F1": number(share(2 * hits[place], found[place] + truths[place] if truths[place] else 0)),
                f"recall_at_precision_{FIXED_PRECISION}": recall_at_precision(
                    of_class(test.matches, place), FIXED_PRECISION
                ),
            }
        )
        if not truths[place]:
            notes[f"class {name}"] = "there is no object of it"
        elif not found[place]:
            notes[f"class {name}"] = "no detection of it reaches the threshold, so it has no precision"
    return rows


def calibration_details(test: Judged, temperature: Temperature) -> dict[str, Any]:
    """Error and bins of test as it is, and the error with val's temperature; val's own two errors beside them."""
    after = None
    if temperature.fitted is not None:
        scaled = with_temperature(test.predictions, temperature.fitted)
        after = calibration_error(evaluate_boxes(test.truth, scaled))
    return {
        "error": calibration_error(test.evaluation),
        "error_after": after,
        "temperature": temperature.used,
        "fitted_temperature": temperature.fitted,
        "val_error": temperature.error,
        "val_error_after": temperature.error_after,
        "bins": reliability(test.evaluation),
    }


def tide_details(test: Judged, notes: dict[str, str]) -> dict[str, Any]:
    """How much AP50 each kind of error costs (Bolya et al. 2020, "TIDE"), and how many errors there are."""
    found = test.evaluation.tide_errors(pos_thr=0.5, bg_thr=0.1)
    counts = {kind: int(found["counts"].get(key, 0)) for kind, key in TIDE.items()}
    if not test.matches.truths.any() or not len(test.matches.scores):
        notes["tide"] = "there are no detections or no objects, so no error costs anything"
        return dict.fromkeys(TIDE) | {"counts": counts}
    return {kind: float(found["delta_ap"][key]) for kind, key in TIDE.items()} | {"counts": counts}


def explain(flat: dict[str, float | None], notes: dict[str, str]) -> None:
    """A reason for each number that does not exist and has none so far."""
    for name in (*NUMBERS, "recall", "F1"):
        if flat[name] is None:
            size = name.partition("_")[2]
            notes[name] = f"there is no {size} object to find" if size else "there is no object to find"
    if flat["precision"] is None:
        notes["precision"] = "no detection reaches the threshold"
    if flat["mean_IoU"] is None:
        notes["mean_IoU"] = "no object was found at the threshold"
    if flat["calibration_error"] is None:
        notes["calibration_error"] = "there are no detections"
    for name, value in flat.items():
        base, _, end = name.rpartition("_")
        if end == "low" and value is None and flat[base] is not None and "intervals" not in notes:
            notes[f"interval of {base}"] = "all draws of the images give the same, or too few give any"
