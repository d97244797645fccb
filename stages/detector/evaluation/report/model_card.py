"""The model card: the checkpoint's metadata and the limitations of the evaluation."""

from __future__ import annotations

from typing import Any

from detector.engine.dataset import LabelNames

MIN_OBJECTS = 10  # classes with fewer objects are listed as a limitation
MAX_LISTED = 50  # entries of a list, such as the class names


def flatten_card(card: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Keys, with a dot before those of nested dictionaries, and values as text."""
    rows: list[tuple[str, str]] = []
    for key, value in card.items():
        if isinstance(value, dict):
            rows += flatten_card(value, f"{prefix}{key}.")
        elif isinstance(value, (list, tuple)):
            rest = f", … ({len(value):,} in all)" if len(value) > MAX_LISTED else ""
            rows.append((prefix + key, ", ".join(map(str, value[:MAX_LISTED])) + rest or "none"))
        else:
            rows.append((prefix + key, f"{value:.6g}" if isinstance(value, float) else str(value)))
    return rows


def list_limitations(details: dict[str, Any], names: LabelNames, split: str) -> list[str]:
    """The limitations of the evaluation that the data reveal."""
    classes = details.get("classes") or []
    limitations = [
        f"The metrics are valid for images like those of {split}, captured and labeled the same way. Other cameras, "
        "sites, lighting or labeling rules need a separate evaluation.",
        "The confidence intervals cover the random choice of images, not labeling errors.",
    ]
    rare = [str(row["class"]) for row in classes if (row.get("objects") or 0) < MIN_OBJECTS]
    if rare:
        listed = ", ".join(rare[:8]) + (" …" if len(rare) > 8 else "")
        limitations.append(
            f"{len(rare)} of {len(classes)} classes have fewer than {MIN_OBJECTS} objects in {split} ({listed}): "
            "their metrics are mostly noise."
        )
    small = sum(bool(row.get("little_data")) for row in details.get("slices") or [])
    if small:
        limitations.append(f"{small} of the slices {'has' if small == 1 else 'have'} little data; they are marked.")
    absent = [state for state, present in zip(names.states, names.present, strict=True) if not present]
    if absent:
        limitations.append(f"Objects in the state {', '.join(absent)} must not be detected; detecting one is an error.")
    calibration = details.get("calibration") or {}
    if (calibration.get("error") or 0) > 0.05:
        error = f"{calibration['error']:.2f}"
        limitations.append(f"The scores are poorly calibrated: they differ from the precision by {error} on average.")
    limitations.append("Images are read as 8-bit RGB. Rotated boxes and masks are not supported.")
    return limitations
