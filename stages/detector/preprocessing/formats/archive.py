"""Reader for tar shards, which `tools/archive.py` makes from a dataset in JSON Lines.

    shard-00000.tar      the images
    shard-00000.idx      offset of each image in the tar file
    shard-00000.jsonl    one line per image, as in dataset.jsonl; correct labels here

detector/core/tar_shards.py documents their content.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from detector.core.errors import UserError
from detector.preprocessing.findings import FindingLog
from detector.preprocessing.formats import jsonl
from detector.preprocessing.raw_annotations import RawImage


def read_archive(folder: Path, log: FindingLog) -> Iterator[RawImage]:
    """Yield the images of all shards, in the order of the shards and their lines."""
    shards = sorted(folder.glob("shard-*.jsonl"))
    if not shards:
        raise UserError(f"{folder}: found no shard-*.jsonl, expected an archive written by tools/archive.py")
    for path in shards:
        for suffix in (".tar", ".idx"):
            if not path.with_suffix(suffix).is_file():
                raise UserError(f"{path.with_suffix(suffix)}: missing, but {path.name} exists; run `dvc pull`")
    for path in shards:
        yield from jsonl.read_jsonl_file(folder, path)
