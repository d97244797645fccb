"""split.lock: what was ever dealt, as text that git merges well."""

from __future__ import annotations

from collections.abc import Iterable

from detector.core.errors import UserError
from detector.manifest.manifest import SPLITS, CleanImage
from detector.splitting.splitting import Lock, SplitParams

HEADER = "# strategy"


def read_lock(text: str, params: SplitParams) -> Lock:
    """The assignments in a lock's text; none when it was made under other parameters.

    Raises UserError naming the line that is not `<content> <split>`, or contradicts another one.
    """
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        return {}
    number, header = lines[0]
    if not header.startswith(HEADER):
        raise UserError(
            f"split.lock:{number}: found {header!r}, expected what the images were dealt under, such as "
            f"{_header(params)!r}; after a merge, keep the first line of one side"
        )
    if header != _header(params):
        return {}
    lock: Lock = {}
    for number, line in lines[1:]:
        content, _, split = line.partition(" ")
        if split not in SPLITS:
            raise UserError(
                f"split.lock:{number}: found {line!r}, expected an image's hash and one of {', '.join(SPLITS)}; "
                "after a merge, keep the lines of both sides"
            )
        if lock.setdefault(content, split) != split:
            raise UserError(
                f"split.lock:{number}: {content} is in {split} here and in {lock[content]} above; keep one line"
            )
    return lock


def write_lock(lock: Lock, params: SplitParams) -> str:
    """The lock's text: what it was dealt under, then a line an image, sorted, so that merges are easy."""
    return "\n".join([_header(params), *(f"{content} {split}" for content, split in sorted(lock.items()))]) + "\n"


def _header(params: SplitParams) -> str:
    ratios = "/".join(f"{params.ratios.of(name):g}" for name in SPLITS)
    return f"{HEADER} {params.strategy}, ratios {ratios}, seed {params.seed}"


def updated_lock(lock: Lock, images: Iterable[CleanImage], splits: Iterable[str | None]) -> Lock:
    """The lock with what has been dealt; images that are gone keep their line, they may come back."""
    return lock | {image.content: split for image, split in zip(images, splits, strict=True) if split}
