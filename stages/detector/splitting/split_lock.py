"""split.lock: every assignment made so far, as text that git merges well.

The file is written as a whole or not at all. Should lines be lost in another way, such as a disk error or a merge, then
images would be dealt anew in silence. So the file has to end with a line break, and to hold what the current commit
assigns to the images at hand. Whoever wants a new deal sets another `split.seed`.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

from detector.core.errors import UserError
from detector.manifest.manifest import SPLITS, CleanImage
from detector.splitting.settings import SplitParams
from detector.splitting.splitting import Lock

HEADER_START = "# strategy"
_HEADER = re.compile(r"# strategy \w+, ratios [^/,]+/[^/,]+/[^/,]+, seed -?\d+")


def parse_lock(text: str, params: SplitParams) -> Lock:
    """The assignments in a lock's text; empty if it was written with other parameters.

    Raises UserError naming the line that is not `<content> <split>`, contradicts another or is cut short.
    """
    lines = [(number, line.strip()) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        return {}
    number, header = lines[0]
    if not _HEADER.fullmatch(header):
        raise UserError(
            f"split.lock:{number}: found {header!r}, expected a header such as {_format_header(params)!r}; "
            "after a merge conflict, keep the first line of one side"
        )
    if not text.endswith("\n"):
        number, line = lines[-1]
        raise UserError(
            f"split.lock:{number}: the last line, {line!r}, has no line break, so the file may be cut short; "
            "restore it with `git checkout split.lock`, or add the line break if nothing is missing"
        )
    if header != _format_header(params):
        return {}
    lock: Lock = {}
    for number, line in lines[1:]:
        content, _, split = line.partition(" ")
        if split not in SPLITS:
            raise UserError(
                f"split.lock:{number}: found {line!r}, expected an image hash and one of {', '.join(SPLITS)}; "
                "after a merge conflict, keep the lines of both sides"
            )
        if lock.setdefault(content, split) != split:
            raise UserError(
                f"split.lock:{number}: {content} is in {split} here but in {lock[content]} above; keep one line"
            )
    return lock


def read_committed(path: Path) -> str:
    """The text of a file in the current commit; empty without git, without a commit, or if the commit lacks it."""
    try:
        done = subprocess.run(["git", "show", f"HEAD:./{path}"], capture_output=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else ""


def parse_whole_lock(text: str, committed: str, images: Iterable[CleanImage], params: SplitParams) -> Lock:
    """Parse a lock's text as `parse_lock` does, and compare it with the text in the current commit.

    Raises UserError if it lacks assignments of these images that the commit has, both with the same parameters.
    """
    lock = parse_lock(text, params)
    try:
        before = parse_lock(committed, params)
    except UserError:  # the commit's own problem
        return lock
    has_other_parameters = bool(text.strip()) and text.lstrip().split("\n")[0].strip() != _format_header(params)
    lost = [image.image for image in images if image.content in before and image.content not in lock]
    if lost and not has_other_parameters:
        raise UserError(
            f"split.lock lacks the split of {len(lost)} images that the current commit assigns, such as {lost[0]}; "
            "restore it with `git checkout split.lock`; to deal all images anew, set another `split.seed`, or commit "
            "the shorter file first"
        )
    return lock


def format_lock(lock: Lock, params: SplitParams) -> str:
    """The lock's text: the split parameters, then one line per image, sorted for easy merges."""
    return (
        "\n".join([_format_header(params), *(f"{content} {split}" for content, split in sorted(lock.items()))]) + "\n"
    )


def _format_header(params: SplitParams) -> str:
    ratios = "/".join(f"{params.ratios.get(name):g}" for name in SPLITS)
    return f"{HEADER_START} {params.strategy}, ratios {ratios}, seed {params.seed}"


def update_lock(lock: Lock, images: Iterable[CleanImage], splits: Iterable[str | None]) -> Lock:
    """The lock with the new assignments; removed images keep their line in case they return."""
    return lock | {image.content: split for image, split in zip(images, splits, strict=True) if split}
