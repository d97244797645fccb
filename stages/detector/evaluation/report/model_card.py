"""What one must know of the model besides its numbers."""

from __future__ import annotations

from typing import Any

FEW = 10  # objects of a class, of which numbers say little


def flattened(card: dict[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Its keys, those of inner dictionaries with a dot, and values as text."""
    rows: list[tuple[str, str]] = []
    for key, value in card.items():
        if isinstance(value, dict):
            rows += flattened(value, f"{before}{key}.")
        elif isinstance(value, (list, tuple)):
            rows.append((before + key, ", ".join(map(str, value)) or "none"))
        else:
            rows.append((before + key, f"{value:.6g}" if isinstance(value, float) else str(value)))
    return rows


def cautions(details: dict[str, Any], coco: dict[str, Any], split: str) -> list[str]:
    """What these numbers do not show, as far as it can be told from the data."""
    classes = details.get("classes") or []
    said = [
        f"The numbers hold for images like those of {split}, taken and labelled in the same way. Other cameras, "
        "places, light or label rules need an evaluation of their own.",
        "The intervals say what another draw of such images may give; they know nothing of wrong labels.",
    ]
    rare = [str(row["class"]) for row in classes if (row.get("objects") or 0) < FEW]
    if rare:
        names = ", ".join(rare[:8]) + (" …" if len(rare) > 8 else "")
        said.append(f"{len(rare)} of {len(classes)} classes have fewer than {FEW} objects in {split} ({names}): "
                    "their numbers are mostly chance.")  # fmt: skip
    little = [row for row in details.get("slices") or [] if row.get("little_data")]
    if little:
        said.append(f"{len(little)} slices have little data and are marked.")
    if any(not state["present"] for state in coco.get("states", [])):
        gone = ", ".join(state["name"] for state in coco["states"] if not state["present"])
        said.append(f"Objects in the state {gone} are nothing to be found: finding one is a mistake.")
    calibration = details.get("calibration") or {}
    if (calibration.get("error") or 0) > 0.05:
        said.append(f"Scores are not probabilities here: they are off by {calibration['error']:.2f} on average.")
    said.append("Images are read as 8-bit RGB; no rotated boxes and no masks.")
    return said
