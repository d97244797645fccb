"""split.lock: every assignment made so far, as text that git merges well."""

from __future__ import annotations

from collections.abc import Iterable

from detector.core.errors import UserError
from detector.manifest.manifest import SPLITS, CleanImage
from detector.splitting.splitting import Lock, SplitParams

HEADER_START = "# strategy"


def parse_lock(text: str, params: SplitParams) -> Lock:
    """The assignments in a lock's text; empty if it was written with other parameters.

    Raises UserError naming the line that is not `<content> <split>` or contradicts another.
    """
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        return {}
    number, header = lines[0]
    if not header.startswith(HEADER_START):
        raise UserError(
            f"split.lock:{number}: found {header!r}, expected a header such as {_format_header(params)!r}; "
            "after a merge conflict, keep the first line of one side"
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
