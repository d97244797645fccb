"""Reader for tar shards, which `tools/archive.py` makes from a dataset in JSON Lines.

    shard-00000.tar      the images
    shard-00000.idx      offset of each image in the tar file
    shard-00000.jsonl    one line per image, as in dataset.jsonl; correct labels here

detector/core/tar_shards.py documents their content.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from detector.core.errors import UserError
from detector.core.tar_shards import INDEX_WIDTH
from detector.preprocessing.findings import Finding, FindingKind, FindingLog
from detector.preprocessing.formats import jsonl
from detector.preprocessing.formats.files import MAX_JSON_BYTES, open_annotations
from detector.preprocessing.raw_annotations import RawImage

_MAX_BYTES = {".tar": sys.maxsize, ".idx": 10**6 * INDEX_WIDTH, ".jsonl": MAX_JSON_BYTES}  # a number has six digits


def read_archive(folder: Path, log: FindingLog) -> Iterator[RawImage]:
    """Yield the images of all shards, in the order of the shards and their lines."""
    stems = sorted({path.stem for suffix in ("jsonl", "tar", "idx") for path in folder.glob(f"shard-*.{suffix}")})
    if not stems:
        raise UserError(f"{folder}: found no shard-*.jsonl, expected an archive written by tools/archive.py")
    for stem in stems:
        for suffix, max_bytes in _MAX_BYTES.items():
            path = folder / (stem + suffix)
            if not path.is_file():
                advice = "run `dvc pull`, or tools/archive.py again if it was interrupted"
                raise UserError(f"{path}: missing, but other files of {stem} exist; {advice}")
            open_annotations(folder, path, log, max_bytes)
    for stem in stems:
        yield from _read_shard(folder, stem, log)


def _read_shard(folder: Path, stem: str, log: FindingLog) -> Iterator[RawImage]:
    """Yield the images of one shard, and log those of its index that no line names."""
    named = set()
    for image in jsonl.read_jsonl_file(folder, folder / f"{stem}.jsonl", log):
        if match := re.fullmatch(rf"{stem}\.tar/\d{{5}}_(\d{{6}})\.\w+", image.path):
            named.add(int(match[1]))
        yield image
    index = folder / f"{stem}.idx"
    count, rest = divmod(index.stat().st_size, INDEX_WIDTH)
    if rest:
        raise UserError(f"{index} is cut short or damaged; run `dvc pull`")
    for number in sorted(set(range(count)) - named):
        log.listed.append(Finding(FindingKind.UNUSED_MEMBER, f"{stem}.jsonl", f"{stem}.tar", details=f"image {number}"))
