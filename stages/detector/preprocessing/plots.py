"""The numbers that DVC draws the charts of a dataset from: class balance, box sizes, boxes per image and trust."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from detector.core.output_files import write_bytes
from detector.manifest.manifest import CleanBox, CleanImage, Labels

NO_STATE = "no state"
MOST_FREQUENT, RAREST = 15, 5  # classes shown where there are more
MAX_STATES = 12
MAX_COLORS, MAX_POINTS = 8, 250  # classes in the chart of sizes, and points of each
SIZE_BINS, TRUST_BINS = 25, 20
MAX_COUNT_BINS = 60  # of the boxes per image
RATIO_STEPS = 6  # half powers of two to either side of a square

Row = dict[str, Any]


def write_plot_numbers(images: Sequence[CleanImage], labels: Labels, folder: Path) -> None:
    """Write folder/*.json, the same files for any dataset because dvc.yaml names them."""
    boxes = [box for image in images for box in image.boxes]
    tables = {
        "classes": list_classes(boxes, labels),
        "class_states": list_class_states(boxes, labels),
        "box_sizes": list_sizes(boxes),
        "relative_sizes": list_relative_sizes(images),
        "aspect_ratios": list_aspect_ratios(boxes),
        "boxes_per_image": list_boxes_per_image(images),
        "trust": list_trust(boxes),
    }
    for name, rows in tables.items():
        text = "[" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "]\n"
        write_bytes(folder / f"{name}.json", text.encode(), sync=False)  # DVC hashes it when the stage has ended


def rank_names(counts: Mapping[str, int], frequent: int, rarest: int = 0) -> dict[str, str]:
    """What each name is shown as, most frequent first: itself, or "N others" where there are too many."""
    ranked = sorted(counts, key=lambda name: -counts[name])
    hidden = set(ranked[frequent : len(ranked) - rarest])
    return {name: f"{len(hidden):,} others" if name in hidden and len(hidden) > 1 else name for name in ranked}


def list_classes(boxes: Sequence[CleanBox], labels: Labels) -> list[Row]:
    """Boxes per class, most frequent first; no number, and so no bar, for "N others", which would dwarf the rest."""
    counts = dict.fromkeys(labels.classes, 0) | Counter(box.label for box in boxes)
    names = _number(rank_names(counts, MOST_FREQUENT, RAREST).values())
    return [{"class": name, "boxes": counts.get(name), "place": place} for name, place in names.items()]


def list_class_states(boxes: Sequence[CleanBox], labels: Labels) -> list[Row]:
    """The pairs of class and state that occur, for .dvc/plots/confusion.json; fraction: of the class."""
    pairs = Counter((box.label, box.state or NO_STATE) for box in boxes)
    per_class, per_state = dict.fromkeys(labels.classes, 0), dict.fromkeys([*labels.states, NO_STATE], 0)
    for (label, state), count in pairs.items():
        per_class[label] += count
        per_state[state] += count
    classes, states = rank_names(per_class, MOST_FREQUENT, RAREST), rank_names(per_state, MAX_STATES)
    cells = _sum_counts(((classes[label], states[state]), count) for (label, state), count in pairs.items())
    totals = _sum_counts((label, count) for (label, _), count in cells.items())
    rows, columns = _number(classes.values()), _number(states.values())
    return [
        {
            "row": rows[label],
            "column": columns[state],
            "class": label,
            "state": state,
            "count": count,
            "fraction": round(count / totals[label], 6),
        }
        for (label, state), count in sorted(cells.items(), key=lambda cell: (rows[cell[0][0]], columns[cell[0][1]]))
    ]


def list_sizes(boxes: Sequence[CleanBox]) -> list[Row]:
    """Width and height of some boxes of each class, evenly spaced over the dataset."""
    shown = rank_names(Counter(box.label for box in boxes), MAX_COLORS - 1)
    by_class: dict[str, list[CleanBox]] = {name: [] for name in shown.values()}
    for box in boxes:
        by_class[shown[box.label]].append(box)
    return [
        {"class": name, "width": round(_width(box), 1), "height": round(_height(box), 1)}
        for name, found in by_class.items()
        for box in found[:: math.ceil(len(found) / MAX_POINTS)]
    ]


def list_relative_sizes(images: Sequence[CleanImage]) -> list[Row]:
    """Boxes by the square root of their share of the image."""
    sizes = [
        math.sqrt(_width(box) * _height(box) / (image.width * image.height)) for image in images for box in image.boxes
    ]
    return _list_fractions("size", sizes, SIZE_BINS)


def list_trust(boxes: Sequence[CleanBox]) -> list[Row]:
    """Boxes by their trust, where it is known."""
    return _list_fractions("trust", [box.trust for box in boxes if box.trust is not None], TRUST_BINS)


def list_aspect_ratios(boxes: Sequence[CleanBox]) -> list[Row]:
    """Boxes by width / height, in bins around the half powers of two; the outer bins hold what is beyond them, too."""
    steps = range(-RATIO_STEPS, RATIO_STEPS + 1)
    names = [f"{2 ** (step / 2):.2g}:1" if step > 0 else f"1:{2 ** (-step / 2):.2g}" for step in steps]
    names[0], names[-1] = f"≤ {names[0]}", f"≥ {names[-1]}"
    found = Counter(round(2 * math.log2(_width(box) / _height(box))) for box in boxes)
    counts = _sum_counts(
        (names[min(max(step, -RATIO_STEPS), RATIO_STEPS) + RATIO_STEPS], count) for step, count in found.items()
    )
    return _list_bars("aspect_ratio", "boxes", counts, names)


def list_boxes_per_image(images: Sequence[CleanImage]) -> list[Row]:
    """Images by their number of boxes, in bins of several numbers if an image has many."""
    found = Counter(len(image.boxes) for image in images)
    most = max(found, default=0)
    step = most // MAX_COUNT_BINS + 1
    names = [f"{low}" if step == 1 else f"{low}–{low + step - 1}" for low in range(0, most + 1, step)]
    counts = _sum_counts((names[number // step], count) for number, count in found.items())
    return _list_bars("boxes", "images", counts, names)


def _list_fractions(key: str, values: Sequence[float], bins: int) -> list[Row]:
    """Boxes per bin of values from 0 to 1."""
    names = [f"{low / bins:.2f}–{(low + 1) / bins:.2f}" for low in range(bins)]
    return _list_bars(key, "boxes", Counter(names[min(int(value * bins), bins - 1)] for value in values), names)


def _list_bars(key: str, counted: str, counts: Mapping[str, int], names: Iterable[str]) -> list[Row]:
    """A bar for each of `names`, for .dvc/plots/bars.json."""
    return [{key: name, counted: counts.get(name, 0), "place": place} for name, place in _number(names).items()]


def _number(names: Iterable[str]) -> dict[str, int]:
    return {name: place for place, name in enumerate(dict.fromkeys(names))}


def _sum_counts(counts: Iterable[tuple[Any, int]]) -> Counter[Any]:
    total: Counter[Any] = Counter()
    for key, count in counts:
        total[key] += count
    return total


def _width(box: CleanBox) -> float:
    return box.xyxy[2] - box.xyxy[0]


def _height(box: CleanBox) -> float:
    return box.xyxy[3] - box.xyxy[1]
