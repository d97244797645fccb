"""Plots of a dataset: class balance, box sizes, boxes per image and samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from PIL import Image

from detector.core.images import load_rgb
from detector.manifest.manifest import CleanImage, Labels
from detector.plotting.box_drawing import StyledBox, draw_boxes
from detector.plotting.names import shorten_name
from detector.plotting.palette import PALETTE, palette_color
from detector.plotting.style import save_figure

NO_STATE = "no state"
SAMPLE_GRID = (3, 4)  # rows and columns of sample images
SAMPLE_SIZE = 400  # longer side in pixels of a sample image
MOST_FREQUENT, RAREST = 30, 10  # classes shown where there are more
MAX_STATES = 12  # columns of the heat map, and entries of the samples' legend
MAX_BINS = 60  # of the histogram of boxes per image


def build_box_table(images: Sequence[CleanImage]) -> pd.DataFrame:
    """One row per box: label, state, trust (NaN if unknown), width and height (pixels), relative size."""
    rows = [
        (
            box.label,
            box.state or NO_STATE,
            np.nan if box.trust is None else box.trust,
            box.xyxy[2] - box.xyxy[0],
            box.xyxy[3] - box.xyxy[1],
            image.width * image.height,
        )
        for image in images
        for box in image.boxes
    ]
    table = pd.DataFrame(rows, columns=["label", "state", "trust", "width", "height", "pixels"])
    table["relative"] = np.sqrt(table.width * table.height / table.pixels)
    return table


def write_dataset_plots(images: Sequence[CleanImage], labels: Labels, root: Path, folder: Path) -> None:
    """Write all plots of the dataset into `folder`, that of states if it has some; paths are relative to `root`."""
    table = build_box_table(images)
    draw_classes(table, labels, folder / "classes.png")
    if labels.states:
        draw_states(table, labels, folder / "class_states.png")
    draw_sizes(table, folder / "box_sizes.png")
    draw_counts(table, images, folder / "boxes_per_image.png")
    draw_samples(images, labels, root, folder / "samples.jpg")


def choose_classes(table: pd.DataFrame, labels: Labels) -> tuple[list[str], str]:
    """The classes to show, in the dataset's order, and what they are if that is not all: "" or text for a title."""
    count = len(labels.classes)
    if count <= MOST_FREQUENT + RAREST:
        return labels.classes, ""
    counts = table.label.value_counts().reindex(labels.classes, fill_value=0)
    ranked = counts.sort_values(ascending=False, kind="stable").index
    chosen = {*ranked[:MOST_FREQUENT], *ranked[-RAREST:]}
    note = f"\n{MOST_FREQUENT} most frequent and {RAREST} rarest of {count:,}"
    return [name for name in labels.classes if name in chosen], note


def draw_classes(table: pd.DataFrame, labels: Labels, path: Path) -> None:
    """Boxes per class, most frequent first; with many classes, the most frequent and the rarest."""
    shown, note = choose_classes(table, labels)
    counts = table.label.value_counts().reindex(shown, fill_value=0).sort_values(kind="stable")
    figure, axes = plt.subplots(figsize=(6, 1.4 + 0.28 * len(counts)))
    bars = axes.barh(range(len(counts)), counts, color=palette_color(0))
    axes.set_yticks(range(len(counts)), [shorten_name(name) for name in counts.index])
    shares = [count / max(1, len(table)) for count in counts]
    percent = [f"{share:.0%}" if share == 0 or share >= 0.005 else "<1%" for share in shares]
    axes.bar_label(bars, [f"{count:,}  ({text})" for count, text in zip(counts, percent, strict=True)], padding=3)
    axes.margins(x=0.18, y=0.5 / max(1, len(counts)))
    axes.set(title=f"Boxes per class ({len(table):,} boxes){note}", xlabel="boxes")
    save_figure(figure, path)


def draw_states(table: pd.DataFrame, labels: Labels, path: Path) -> None:
    """Heat map of boxes per class and state: counts as numbers, fractions of the class as colors.

    With many classes, the most frequent and the rarest; with many states, the most frequent, and one column for others.
    """
    classes, note = choose_classes(table, labels)
    columns = [*labels.states, *([NO_STATE] if (table.state == NO_STATE).any() else [])]
    counts = pd.crosstab(table.label, table.state).reindex(index=labels.classes, columns=columns, fill_value=0)
    if len(columns) > MAX_STATES:
        frequent = counts.sum().sort_values(ascending=False, kind="stable").index[: MAX_STATES - 1]
        rest = counts.drop(columns=frequent).sum(axis=1)
        counts = counts[[name for name in columns if name in frequent]]
        counts[f"{len(columns) - len(frequent):,} others"] = rest
    counts = counts.loc[classes]
    fractions = counts.div(counts.sum(axis=1).clip(lower=1), axis=0)
    figure, axes = plt.subplots(figsize=(2.6 + 0.8 * len(counts.columns), 1.6 + 0.32 * len(counts)))
    heat_map = axes.imshow(fractions, vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(counts.columns)), [shorten_name(name, 16) for name in counts.columns])
    axes.set_yticks(range(len(counts)), [shorten_name(name) for name in counts.index])
    for row, column in np.ndindex(*counts.shape):
        dark = fractions.iat[row, column] > 0.6
        axes.text(column, row, f"{counts.iat[row, column]:,}", ha="center", va="center", color="w" if dark else "k")
    axes.set(title=f"Boxes per class and state{note}", xlabel="state", ylabel="class")
    figure.colorbar(heat_map, label="fraction of the class")
    save_figure(figure, path)


def draw_sizes(table: pd.DataFrame, path: Path) -> None:
    """Width against height, size relative to the image, and aspect ratio, per class."""
    figure, (scatter, sizes, ratios) = plt.subplots(1, 3, figsize=(12, 3.8))
    groups = group_by_class(table, len(PALETTE))
    for index, (label, rows) in enumerate(groups):
        shown = rows.iloc[:: max(1, len(rows) // 400)]
        scatter.scatter(
            shown.width, shown.height, s=6, alpha=0.5, color=palette_color(index), label=shorten_name(label)
        )
    scatter.set(title="Box size", xlabel="width (pixels)", ylabel="height (pixels)", xlim=(0, None), ylim=(0, None))
    if groups:
        scatter.legend(markerscale=2)
    _draw_histogram(sizes, groups, "relative", np.linspace(0, 1, 26))
    sizes.set(title="Box size relative to the image", xlabel="√(box area / image area)", ylabel="boxes")
    ratio_groups = [(label, rows.assign(ratio=np.log2(rows.width / rows.height).clip(-3, 3))) for label, rows in groups]
    _draw_histogram(ratios, ratio_groups, "ratio", np.linspace(-3, 3, 25))
    ratios.set(title="Aspect ratio", xlabel="width / height", ylabel="boxes")
    ratios.set_xticks(range(-3, 4), ["≤ 1:8", "1:4", "1:2", "1", "2", "4", "≥ 8"])
    save_figure(figure, path)


def group_by_class(table: pd.DataFrame, max_groups: int) -> list[tuple[str, pd.DataFrame]]:
    """The rows of each class, sorted by name; beyond `max_groups` classes, the rarest form one last group."""
    counts = Counter(table.label)
    frequent = sorted(counts, key=lambda label: (-counts[label], label))
    if len(counts) > max_groups:
        frequent = frequent[: max_groups - 1]
    groups = [(label, table[table.label == label]) for label in sorted(frequent)]
    if len(counts) > max_groups:
        groups.append((f"{len(counts) - len(frequent)} others", table[~table.label.isin(frequent)]))
    return groups


def _draw_histogram(axes: Axes, groups: list[tuple[str, pd.DataFrame]], column: str, bins: np.ndarray) -> None:
    values = [rows[column] for _, rows in groups]
    if values:
        axes.hist(values, bins=bins.tolist(), stacked=True, color=[palette_color(i) for i in range(len(values))])


def draw_counts(table: pd.DataFrame, images: Sequence[CleanImage], path: Path) -> None:
    """Histograms of the boxes per image and of their trust."""
    figure, (counts, trust) = plt.subplots(1, 2, figsize=(9, 3.2))
    per_image = [len(image.boxes) for image in images]
    step = max(per_image, default=0) // MAX_BINS + 1  # boxes per bin
    counts.hist(per_image, bins=np.arange(-0.5, max(per_image, default=0) + step + 0.5, step).tolist(), rwidth=0.9)
    counts.set(title=f"Boxes per image ({len(images):,} images)", xlabel="boxes", ylabel="images")
    counts.xaxis.set_major_locator(MaxNLocator(integer=True))
    known = table.trust.dropna()
    trust.hist(known, bins=np.linspace(0, 1, 21).tolist(), rwidth=0.9)
    trust.set(title=f"Trust (given for {len(known):,} of {len(table):,} boxes)", xlabel="trust", ylabel="boxes")
    save_figure(figure, path)


def draw_samples(images: Sequence[CleanImage], labels: Labels, root: Path, path: Path) -> None:
    """Sample images, evenly spaced over the dataset, with boxes in the color of their state."""
    rows, columns = SAMPLE_GRID
    names = [*labels.states, NO_STATE]
    picked = [images[index * len(images) // (rows * columns)] for index in range(min(rows * columns, len(images)))]
    figure, axes = plt.subplots(rows, columns, figsize=(4 * columns, 3.2 * rows))
    for cell in axes.flat:
        cell.axis("off")
    for cell, image in zip(axes.flat, picked, strict=False):
        cell.imshow(np.asarray(_draw_sample(image, names, root)), interpolation="auto")
        cell.set_title(shorten_name(Path(image.image).name, 64), fontsize=8, fontweight="normal")
    used = {box.state or NO_STATE for image in picked for box in image.boxes}
    handles = [
        Line2D([], [], color=palette_color(i), lw=3, label=shorten_name(name))
        for i, name in enumerate(names)
        if name in used
    ]
    if len(handles) > MAX_STATES:
        label = f"and {len(handles) - MAX_STATES:,} more states"
        handles = [*handles[:MAX_STATES], Line2D([], [], color="none", label=label)]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(6, len(names)), fontsize=11)
    save_figure(figure, path)


def _draw_sample(image: CleanImage, states: list[str], root: Path) -> Image.Image:
    """The image with its boxes, its longer side SAMPLE_SIZE pixels."""
    scale = SAMPLE_SIZE / max(image.width, image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    picture = load_rgb(root / image.image, at_least=size).resize(size)
    boxes = [
        StyledBox(
            tuple(value * scale for value in box.xyxy),
            palette_color(states.index(box.state or NO_STATE)),
            label=box.label,
            width=2,
        )
        for box in image.boxes
    ]
    draw_boxes(picture, boxes, font_size=11)
    return picture
