"""What the export stage reports about the files that it verified."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from detector.exporting.parity import DetectionDifference


class VerifiedFile(NamedTuple):
    """An ONNX file that passed the parity check.

    content: its bytes; ap: AP on test, None without objects; seconds: median per batch, by batch size; worst: the
    largest differences from the model's detections; unmatched: detections that only the file or only the model has;
    unstable: images in which the model's own detections depend on rounding, and the file has one of its answers.
    """

    content: bytes
    ap: float | None
    seconds: dict[int, float]
    worst: DetectionDifference
    unmatched: int
    unstable: int = 0


def describe_differences(file: VerifiedFile, model_ap: float | None) -> dict[str, Any]:
    """The size and AP of one file, and how its detections differ from the model's."""
    return {
        "bytes": len(file.content),
        "AP": round_metric(file.ap),
        "AP_drop": round_metric(compute_ap_drop(file.ap, model_ap)),
        "box_difference_below": round_up(file.worst.box),
        "score_difference_below": round_up(file.worst.score),
        "unmatched_detections": file.unmatched,
        "images_with_near_ties": file.unstable,
    }


def describe_times(file: VerifiedFile) -> dict[str, float]:
    """Milliseconds per batch, by batch size."""
    return {f"batch_{size}_ms": round(seconds * 1000, 2) for size, seconds in sorted(file.seconds.items())}


def summarize(name: str, file: VerifiedFile) -> str:
    """One line for the console."""
    ap = "-" if file.ap is None else f"{file.ap:.4f}"
    times = ", ".join(
        f"{seconds * 1000 / size:.1f} ms per image (batch size {size})"
        for size, seconds in sorted(file.seconds.items())
        if size in (min(file.seconds), max(file.seconds))
    )
    return (
        f"{name}: {len(file.content) / 1e6:.1f} MB, AP {ap}, {times}; compared with the model: boxes within "
        f"{file.worst.box:.1e} pixels, scores within {file.worst.score:.1e}, {file.unmatched:,} unmatched"
        + (f", {file.unstable:,} images with near-ties" if file.unstable else "")
    )


def find_drawback(fp32: VerifiedFile, lower: VerifiedFile, model_ap: float | None, max_ap_drop: float) -> str:
    """Why the file in lower precision is not to be preferred: AP or time per image; empty if it is.

    model_ap: AP of the model.
    """
    drop = compute_ap_drop(lower.ap, model_ap)
    if drop is not None and drop > max_ap_drop:
        return f"the other file's AP is lower by {drop:.4f}, allowed is {max_ap_drop}"
    times = [file.seconds[min(file.seconds)] * 1000 / min(file.seconds) for file in (fp32, lower)]
    return "" if times[1] < times[0] else f"{times[0]:.1f} ms per image, the other file {times[1]:.1f} ms"


def compute_ap_drop(file_ap: float | None, model_ap: float | None) -> float | None:
    """Return by how much the file's AP is below the model's."""
    return None if file_ap is None or model_ap is None else model_ap - file_ap


def round_metric(value: float | None) -> float | None:
    """Round to 6 digits; never returns -0.0."""
    return None if value is None else round(value, 6) + 0.0


def round_up(difference: float) -> float:
    """Round up to two digits; below 0.01, where variations are noise, to a power of ten, at least 1e-7."""
    if difference < 0.01:
        return float(f"1e{max(-7, math.ceil(math.log10(max(difference, 1e-12))))}")
    digit = math.floor(math.log10(difference)) - 1
    return float(f"{math.ceil(difference / 10**digit)}e{digit}")
