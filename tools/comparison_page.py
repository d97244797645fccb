"""A comparison as one HTML page: what tools/compare.py --html writes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from comparison_inputs import Experiment
from comparison_table import Comparison, count_changes, headline_metric, render_summary
from detector.comparison.page import ComparedSide, ComparisonInputs, write_comparison_page
from detector.core.output_files import write_bytes
from detector.evaluation.report.identity import describe_identity

if TYPE_CHECKING:
    from fsspec.implementations.dirfs import DirFileSystem

TRUTH_FOLDERS = (".", "images")  # where images may lie, beside the COCO file of two prediction files


def write_page(comparison: Comparison, sides: tuple[Experiment, Experiment], truth: Path | None, path: Path) -> int:
    """Write the page; returns the number of pictures that are missing.

    truth: the COCO file of two prediction files. Images are looked for on disk, and then in the revisions. Since such a
    file may come from anybody, it shows only images below its own or the current folder; any other counts as missing.
    """
    common = comparison.common
    a, b = (
        ComparedSide(experiment.name, predictions, matched, experiment.temperature, describe_model(experiment))
        for experiment, predictions, matched in zip(sides, (common.a, common.b), comparison.sides, strict=True)
    )
    folders = [Path()] if truth is None else [Path(), *(truth.parent / folder for folder in TRUTH_FOLDERS)]
    sources = [*folders, *(side.files for side in sides if side.files is not None)]
    summary = [*render_summary(comparison).splitlines(), count_changes(comparison)]
    inputs = ComparisonInputs(
        a=a,
        b=b,
        truth=common.truth,
        headline=headline_metric(comparison),
        summary=[line.replace("**", "").replace("`", "") for line in summary],
        metrics=comparison.metrics,
        classes=comparison.classes,
    )
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        allowed = None if truth is None else [Path(), truth.parent]
        return write_comparison_page(inputs, make_finder(sources, folder, allowed), path)


def make_finder(
    sources: Sequence[Path | DirFileSystem], copies: Path, allowed: Sequence[Path] | None
) -> Callable[[str], Path | None]:
    """A function that finds an image's file by name; those in a revision are copied to the folder `copies`.

    allowed: folders below which files on disk must lie, symbolic links followed; None for anywhere.
    """

    def is_allowed(path: Path) -> bool:
        return allowed is None or any(path.resolve().is_relative_to(folder.resolve()) for folder in allowed)

    def find(name: str) -> Path | None:
        for source in sources:
            if isinstance(source, Path):
                if (source / name).is_file() and is_allowed(source / name):
                    return source / name
            elif (content := _read_image(source, name)) is not None:
                copy = copies / Path(name).name
                write_bytes(copy, content)
                return copy
        return None

    return find


def _read_image(files: DirFileSystem, name: str) -> bytes | None:
    """The bytes of a file in a revision, from DVC's cache or remote; None where it is not to be had."""
    from dvc.exceptions import DvcException
    from dvc_data.index import DataIndexError

    try:
        content: bytes = files.cat_file(name)
    except (OSError, DvcException, DataIndexError):
        return None
    return content


def describe_model(experiment: Experiment) -> list[tuple[str, str]]:
    """Titles and values about a revision's model, for the page's head; none for a file."""
    card = dict(experiment.card)
    files = (str(image["file_name"]) for image in experiment.results.truth["images"])
    return [("model", str(card["model"])), *describe_identity(card, files, None)] if card else []
