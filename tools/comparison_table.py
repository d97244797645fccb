"""A comparison as Markdown, for a pull request or the console."""

from __future__ import annotations

from typing import NamedTuple

from detector.comparison.common_images import CommonImages
from detector.comparison.comparison import DetectorMatches, ImageChange, MetricDifference
from detector.evaluation.metric_names import PRIMARY_METRIC

MAX_IMAGES = 5  # in each direction
MIN_GROUPS = 50  # with fewer, the intervals are known to be too narrow
VERDICTS = {"better": "**better**", "worse": "**worse**", "not significant": "not significant", "undefined": "–"}


class Comparison(NamedTuple):
    """a, b: names of both sides; sides: what was compared, in this order. groups: number of groups of images that are
    resampled together.

    best_thresholds: whether F1 is at the thresholds that are best on these images. changes: all images, the most
    improved first; files: file names of the images by id. notes: sentences about one side.
    """

    a: str
    b: str
    common: CommonImages
    sides: tuple[DetectorMatches, DetectorMatches]
    groups: int
    bootstrap_samples: int
    best_thresholds: bool
    metrics: list[MetricDifference]
    classes: list[MetricDifference]
    changes: list[ImageChange]
    files: dict[int, str]
    notes: list[str]


def render_comparison(comparison: Comparison) -> str:
    """The whole text, without a final line break."""
    parts = [
        render_headline(comparison),
        render_summary(comparison),
        render_differences(comparison.metrics, comparison, per_class=False),
        render_differences(comparison.classes, comparison, per_class=True),
        render_images(comparison),
    ]
    return "\n\n".join(parts)


def render_headline(comparison: Comparison) -> str:
    """The verdict on the primary metric in one line."""
    row = headline_metric(comparison)
    return f"### `{comparison.a}` → `{comparison.b}`: {row.name} {format_signed(row.change)}, {row.verdict}"


def headline_metric(comparison: Comparison) -> MetricDifference:
    """The difference of the primary metric."""
    (row,) = [row for row in comparison.metrics if row.name == PRIMARY_METRIC]
    return row


def render_summary(comparison: Comparison) -> str:
    """What was compared, and what was left out."""
    common = comparison.common
    images, objects = len(comparison.files), comparison.metrics[0].objects
    summary = (
        f"{images:,} test images, {objects:,} objects; 95% intervals and p-values from "
        f"{comparison.bootstrap_samples:,} bootstrap samples of the images, the same for both"
    )
    if comparison.groups < images:
        summary += f"; resampled by {comparison.groups:,} groups"
    lines = [f"{summary}."]
    if comparison.groups < MIN_GROUPS:
        lines.append(f"With fewer than {MIN_GROUPS} of them, the intervals are somewhat too narrow.")
    if comparison.best_thresholds:
        lines.append("F1 is at the best threshold of each side on these images.")
    left_out = {
        "with different objects": common.differing,
        f"only in `{comparison.a}`": common.only_a,
        f"only in `{comparison.b}`": common.only_b,
    }
    counts = [f"{count:,} {why}" for why, count in left_out.items() if count]
    if counts:
        lines.append(f"**Images left out**: {', '.join(counts)}.")
    return "\n".join([*lines, *comparison.notes])


def render_differences(differences: list[MetricDifference], comparison: Comparison, *, per_class: bool) -> str:
    """One table; per class, it also has objects and corrected p-values."""
    sides = [escape_cell(comparison.a), escape_cell(comparison.b), "difference", "95% interval", "p"]
    header = ["class (AP)", "objects", *sides, "p (Holm)", ""] if per_class else ["metric", *sides, ""]
    lines = [header, ["---", *["---:"] * (len(header) - 2), "---"]]
    for row in differences:
        name, verdict = escape_cell(row.name), VERDICTS[row.verdict]
        bounds = "–" if row.low is None else f"{format_signed(row.low)} to {format_signed(row.high)}"
        values = [format_number(row.a), format_number(row.b), format_signed(row.change), bounds, format_p_value(row.p)]
        if per_class:
            lines.append([name, f"{row.objects:,}", *values, format_p_value(row.p_holm), verdict])
        else:
            lines.append([name, *values, verdict])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def render_images(comparison: Comparison) -> str:
    """How many images have fewer and more errors, and those that changed most."""
    better = [change for change in comparison.changes if change.errors < 0]
    worse = [change for change in reversed(comparison.changes) if change.errors > 0]
    lines = [count_changes(comparison)]
    if better or worse:
        lines += ["", "| image | errors | missed | false positives |", "| --- | ---: | ---: | ---: |"]
        for change in [*better[:MAX_IMAGES], *worse[:MAX_IMAGES]]:
            file, errors = escape_cell(comparison.files[change.image_id]), format_signed_count(change.errors)
            missed, false_positives = (f"{a} → {b}" for a, b in (change.missed, change.false_positives))
            lines.append(f"| {file} | {errors} | {missed} | {false_positives} |")
    return "\n".join(lines)


def count_changes(comparison: Comparison) -> str:
    """How many images have fewer errors in B, more, and as many."""
    better, worse = (sum(sign * change.errors > 0 for change in comparison.changes) for sign in (-1, 1))
    same = len(comparison.changes) - better - worse
    return (
        f"Images with fewer errors (missed objects and false positives, at IoU 0.5): {better:,}; with more: {worse:,}; "
        f"unchanged: {same:,}."
    )


def escape_cell(text: str) -> str:
    """The text, safe inside a table cell."""
    return text.replace("|", "\\|").replace("\n", " ")


def format_number(value: float | None) -> str:
    """Three digits."""
    return "–" if value is None else f"{value:.3f}"


def format_signed(value: float | None) -> str:
    """Three digits with the sign; no sign for zero."""
    if value is None:
        return "–"
    return "0.000" if abs(value) < 0.0005 else f"{value:+.3f}".replace("-", "−")


def format_signed_count(value: int) -> str:
    """An integer with the sign."""
    return f"{value:+,}".replace("-", "−")


def format_p_value(value: float | None) -> str:
    """Three digits, or `< 0.001`."""
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"
