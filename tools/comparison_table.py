"""A comparison as Markdown, for a pull request or the console."""

from __future__ import annotations

from typing import NamedTuple

from detector.comparison.common_images import Shared
from detector.comparison.comparison import Difference, ImageChange

SHOWN = 5  # images each way
FEW = 50  # groups, below which the interval is known to be too narrow
VERDICTS = {"better": "**better**", "worse": "**worse**", "open": "cannot tell", "none": "–"}


class Comparison(NamedTuple):
    """a, b: names; groups: of images that are drawn together; chosen_here: the thresholds were chosen on these images.

    changes: all images, the most improved first; files: names of the images by id.
    """

    a: str
    b: str
    shared: Shared
    groups: int
    draws: int
    chosen_here: bool
    metrics: list[Difference]
    classes: list[Difference]
    changes: list[ImageChange]
    files: dict[int, str]


def table(comparison: Comparison) -> str:
    """The whole text, without a line feed at its end."""
    parts = [
        headline(comparison),
        basis(comparison),
        rows_of(comparison.metrics, comparison, "metric"),
        rows_of(comparison.classes, comparison, "class (AP)"),
        images(comparison),
    ]
    return "\n\n".join(parts)


def headline(comparison: Comparison) -> str:
    """The verdict on AP in one line."""
    ap = comparison.metrics[0]
    say = {"better": "better", "worse": "worse", "open": "no difference that could not be chance", "none": "not judged"}
    return f"### `{comparison.a}` → `{comparison.b}`: AP {signed(ap.change)}, {say[ap.verdict]}"


def basis(comparison: Comparison) -> str:
    """What was compared, and what was left out."""
    shared = comparison.shared
    lines = [
        f"{len(comparison.files):,} test images, {comparison.metrics[0].objects:,} objects; 95% intervals and p-values "
        f"from {comparison.draws:,} draws of the images, the same for both"
        + (f", {comparison.groups:,} groups being drawn whole." if comparison.groups < len(comparison.files) else ".")
    ]
    if comparison.groups < FEW:
        lines.append(f"With so few (under {FEW}) the intervals are somewhat too narrow.")
    if comparison.chosen_here:
        lines.append("F1 is at the threshold that is best for each on these images.")
    left_out = {
        "whose objects differ": shared.differing,
        f"only in `{comparison.a}`": shared.only_a,
        f"only in `{comparison.b}`": shared.only_b,
    }
    counts = [f"{count:,} {why}" for why, count in left_out.items() if count]
    if counts:
        lines.append(f"**Images left out**: {', '.join(counts)}.")
    return "\n".join(lines)


def rows_of(differences: list[Difference], comparison: Comparison, what: str) -> str:
    """One table; that of the classes has objects and corrected p-values too."""
    classes = what != "metric"
    heads = [what, *(["objects"] if classes else []), name(comparison.a), name(comparison.b), "difference",
             "95% interval", "p", *(["p (Holm)"] if classes else []), ""]  # fmt: skip
    lines = [heads, ["---", *["---:"] * (len(heads) - 2), "---"]]
    for row in differences:
        bounds = "–" if row.low is None else f"{signed(row.low)} to {signed(row.high)}"
        cells = [name(row.name), *([f"{row.objects:,}"] if classes else []), number(row.a), number(row.b)]
        cells += [signed(row.change), bounds, share(row.p), *([share(row.p_holm)] if classes else [])]
        lines.append([*cells, VERDICTS[row.verdict]])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def images(comparison: Comparison) -> str:
    """How many images got better and worse, and those that did most."""
    better = [change for change in comparison.changes if change.errors < 0]
    worse = [change for change in reversed(comparison.changes) if change.errors > 0]
    same = len(comparison.changes) - len(better) - len(worse)
    lines = [
        f"Images with fewer errors (objects missed and detections wrong, at IoU 0.5): {len(better):,}; with more: "
        f"{len(worse):,}; with as many: {same:,}."
    ]
    if better or worse:
        lines += ["", "| image | errors | missed | wrong |", "| --- | ---: | ---: | ---: |"]
        for change in [*better[:SHOWN], *worse[:SHOWN]]:
            missed, false = (f"{before} → {after}" for before, after in (change.missed, change.false))
            lines.append(
                f"| {name(comparison.files[change.image_id])} | {signed_count(change.errors)} | {missed} | {false} |"
            )
    return "\n".join(lines)


def name(text: str) -> str:
    """Safe inside a cell."""
    return text.replace("|", "\\|").replace("\n", " ")


def number(value: float | None) -> str:
    """Three digits."""
    return "–" if value is None else f"{value:.3f}"


def signed(value: float | None) -> str:
    """Three digits with the sign; no sign for a zero."""
    if value is None:
        return "–"
    return "0.000" if abs(value) < 0.0005 else f"{value:+.3f}".replace("-", "−")


def signed_count(value: int) -> str:
    """With the sign, as `signed`."""
    return f"{value:+,}".replace("-", "−")


def share(value: float | None) -> str:
    """A p-value."""
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"
