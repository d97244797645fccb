"""What preprocess finds in a raw dataset: kinds of findings, their severity, and the files that report them."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from detector.core.output_files import replace_file
from detector.core.text_output import format_cell

FINDING_COLUMNS = ("severity", "kind", "where", "image", "box", "details")

FindingCounts = Mapping[str, Mapping[str, int]]  # severity -> kind -> count, both by their keys


class Severity(Enum):
    """What a finding means for the cleaned dataset; most severe first. Only the first two are errors."""

    DROPPED_IMAGE = "images dropped"
    DROPPED_BOX = "boxes dropped"
    EXCLUDED_BOX = "boxes excluded by parameters"
    REPAIRED = "repairs"
    NOTE = "notes"

    @property
    def key(self) -> str:
        """The name in findings.csv and metrics/preprocess/details.json."""
        return self.name.lower()

    @property
    def is_error(self) -> bool:
        """Whether `preprocess.on_error: stop` stops at it."""
        return self in (Severity.DROPPED_IMAGE, Severity.DROPPED_BOX)


class FindingKind(Enum):
    """A kind of finding: its severity and what it says in plain English."""

    DUPLICATE_ENTRY = Severity.DROPPED_IMAGE, "image is listed more than once; the first entry is kept"
    AMBIGUOUS_PATH = Severity.DROPPED_IMAGE, "image path fits several files, or a file several paths"
    UNUSABLE_NAME = Severity.DROPPED_IMAGE, "image path is empty, not UTF-8 or has control characters"
    MISSING_FILE = Severity.DROPPED_IMAGE, "image file does not exist"
    UNREADABLE_FILE = Severity.DROPPED_IMAGE, "image file cannot be opened"
    EMPTY_FILE = Severity.DROPPED_IMAGE, "image file is empty"
    NOT_AN_IMAGE = Severity.DROPPED_IMAGE, "file is not an image"
    IMAGE_TOO_LARGE = Severity.DROPPED_IMAGE, "image would take too much memory or time to decode"
    TRUNCATED_IMAGE = Severity.DROPPED_IMAGE, "image file is truncated"
    DAMAGED_IMAGE = Severity.DROPPED_IMAGE, "image cannot be decoded"
    SIZE_MISMATCH = Severity.DROPPED_IMAGE, "image size differs from the annotated size"

    INVALID_BOX = Severity.DROPPED_BOX, "annotation cannot be read as a box"
    NON_FINITE_BOX = Severity.DROPPED_BOX, "box has a coordinate that is not finite"
    COORDINATE_OUT_OF_RANGE = Severity.DROPPED_BOX, "normalized coordinate is far outside 0 to 1"
    EMPTY_BOX = Severity.DROPPED_BOX, "box has no area"
    BOX_OUTSIDE_IMAGE = Severity.DROPPED_BOX, "box lies entirely outside the image"
    DUPLICATE_BOX = Severity.DROPPED_BOX, "box duplicates another box of its class"

    UNSELECTED_CLASS = Severity.EXCLUDED_BOX, "class is not in preprocess.classes"
    LOW_TRUST = Severity.EXCLUDED_BOX, "trust is below preprocess.min_trust"
    SMALL_BOX = Severity.EXCLUDED_BOX, "box is smaller than preprocess.min_box_size"

    IMAGE_FOUND_ELSEWHERE = Severity.REPAIRED, "image is not where the annotations say; the one file that fits is used"
    IMAGE_REORIENTED = Severity.REPAIRED, "image reoriented according to EXIF"
    IMAGE_CONVERTED = Severity.REPAIRED, "image converted to 8-bit RGB"
    FIRST_FRAME_USED = Severity.REPAIRED, "only the first frame of the image is used"
    BOX_CLIPPED = Severity.REPAIRED, "box clipped to the image"
    UNKNOWN_STATE = Severity.REPAIRED, "state is not in preprocess.states; the box is kept without a state"

    UNMATCHED_DECISION = Severity.NOTE, "decision matches no label"
    SEVERAL_SPLITS = Severity.NOTE, "image is in several split lists"
    REPEATED_CLASS = Severity.NOTE, "two ids have the same class name; they are one class"
    STALE_FILENAME = Severity.NOTE, "<filename> names another image; the annotation file's own name counts"
    SKIPPED_ANNOTATION_FILE = Severity.NOTE, "annotation file is not used"
    OUTSIDE_IMAGE = Severity.NOTE, "image lies outside the dataset folder, where DVC does not track it; copy it there"
    UNUSED_IMAGE = Severity.NOTE, "image file that no annotation names"
    UNUSED_MEMBER = Severity.NOTE, "image of a shard that no line names"
    UNUSED_FILE = Severity.NOTE, "file is neither an image nor an annotation"
    HIDDEN_FILE = Severity.NOTE, "hidden file, or one that an operating system left behind"
    SPECIAL_FILE = Severity.NOTE, "pipe, socket or device"
    BROKEN_LINK = Severity.NOTE, "link leads nowhere"
    SKIPPED_FOLDER = Severity.NOTE, "folder was not looked into"
    MISSING_LABEL_FILE = Severity.NOTE, "image has no label file and therefore no boxes"
    SHARED_LABEL_FILE = Severity.NOTE, "label file of several images; each gets its boxes"
    MISSING_TEST_IMAGES = Severity.NOTE, "test images of data.yaml do not exist"
    DIFFICULT_BOX = Severity.NOTE, "difficult box is ignored in evaluation"
    POLYGON_AS_BOX = Severity.NOTE, "polygon is read as its bounding box"
    IGNORED_SEGMENTATION = Severity.NOTE, "segmentation is ignored"
    IGNORED_KEYPOINTS = Severity.NOTE, "keypoints are ignored"

    @property
    def severity(self) -> Severity:
        """What the finding means for the cleaned dataset."""
        return self.value[0]

    @property
    def text(self) -> str:
        """The finding in plain English."""
        return self.value[1]

    @property
    def key(self) -> str:
        """The name in findings.csv and metrics/preprocess/details.json."""
        return self.name.lower()


class Finding(NamedTuple):
    """One thing found in the dataset.

    where: place in the annotations, for example `dataset.jsonl:12`.
    image: path of the image as the annotations give it.
    box: number of the box among those of its image, from 1; None when the finding is not about a box.
    details: the values found.
    """

    kind: FindingKind
    where: str
    image: str = ""
    box: int | None = None
    details: str = ""

    def row(self) -> tuple[str, str, str, str, int | str, str]:
        """The values of FINDING_COLUMNS."""
        box = "" if self.box is None else self.box
        return self.kind.severity.key, self.kind.key, self.where, self.image, box, self.details


class FileCounts(NamedTuple):
    """Files of the dataset folder: found = images + annotations + passed_over.

    images: those that the annotations name; annotations: files that were read; passed_over: all others, which are
    findings too.
    """

    found: int = 0
    images: int = 0
    annotations: int = 0
    passed_over: int = 0


@dataclass
class FindingLog:
    """All findings of a run.

    listed: the findings with their place. unlisted: number of findings of kinds that are too frequent to list,
    such as one per annotation. annotation_files: absolute paths of those that were read. files: what lies in the
    dataset folder. boxes: number of boxes in the annotations; boxes_of_dropped_images: those of them whose image was
    dropped. format: what `format: auto` found and why, in a line; "" if the format was given.
    """

    format: str = ""
    listed: list[Finding] = field(default_factory=list)
    unlisted: Counter[FindingKind] = field(default_factory=Counter)
    annotation_files: set[str] = field(default_factory=set)
    files: FileCounts = field(default_factory=FileCounts)
    boxes: int = 0
    boxes_of_dropped_images: int = 0

    def drop_image(self, finding: Finding, boxes: int) -> None:
        """Add the finding for which an image with so many boxes is dropped."""
        self.listed.append(finding)
        self.boxes_of_dropped_images += boxes

    def drop_box(self, where: str, number: int, problem: Exception) -> None:
        """Add the finding for an annotation that cannot be read as a box: number `number`, from 1, of its image."""
        self.boxes += 1
        details = str(problem).removeprefix(f"{where}: ")
        self.listed.append(Finding(FindingKind.INVALID_BOX, where, box=number, details=details))

    def errors(self) -> list[Finding]:
        """The dropped images and boxes, in the order in which they were found."""
        return [finding for finding in self.listed if finding.kind.severity.is_error]

    def counts(self) -> dict[str, dict[str, int]]:
        """Number of findings per severity and kind, most severe first; without those that do not occur."""
        found = Counter(finding.kind for finding in self.listed) + self.unlisted
        kinds = sorted(found, key=lambda kind: kind.key)
        counts = {
            severity.key: {kind.key: found[kind] for kind in kinds if kind.severity is severity}
            for severity in Severity
        }
        return {severity: of_kinds for severity, of_kinds in counts.items() if of_kinds}

    def write_csv(self, path: Path) -> None:
        """Write the listed findings, most severe first."""
        with replace_file(path) as new, new.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            rows = [FINDING_COLUMNS, *(finding.row() for finding in sorted(self.listed, key=_sort_key))]
            writer.writerows([format_cell(value) for value in row] for row in rows)


def _sort_key(finding: Finding) -> tuple[int, str, str, str, int, str]:
    severity = list(Severity).index(finding.kind.severity)
    return severity, finding.kind.key, finding.where, finding.image, finding.box or 0, finding.details


def describe_counts(counts: FindingCounts) -> list[str]:
    """The lines for the console: the total of each severity, then its kinds with their meaning."""
    lines = []
    for severity, of_kinds in counts.items():
        lines.append(f"  {Severity[severity.upper()].value}: {sum(of_kinds.values()):,}")
        lines += [f"{count:8,}  {kind:24} {FindingKind[kind.upper()].text}" for kind, count in of_kinds.items()]
    return lines


def summarize_counts(counts: FindingCounts) -> str:
    """All kinds in one line, for error messages: `2 empty_box, 1 missing_file`."""
    return ", ".join(f"{count:,} {kind}" for of_kinds in counts.values() for kind, count in of_kinds.items()) or "none"
