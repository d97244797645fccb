"""Reader of tar shards, which `tools/archive.py` makes of a dataset in JSON Lines.

    shard-00000.tar      the images
    shard-00000.idx      where each is in it
    shard-00000.jsonl    a line an image, as in dataset.jsonl: labels are mended here

See detector/core/tar_shards.py for what is in them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from detector.core.errors import UserError
from detector.preprocessing.formats import jsonl
from detector.preprocessing.raw_annotations import RawImage


def read(folder: Path, notes: Counter[str]) -> Iterator[RawImage]:
    """Yield the images of all shards, in the order of the shards and of their lines."""
    shards = sorted(folder.glob("shard-*.jsonl"))
    if not shards:
        raise UserError(f"{folder}: found no shard-*.jsonl, expected an archive that tools/archive.py made")
    for path in shards:
        for suffix in (".tar", ".idx"):
            if not path.with_suffix(suffix).is_file():
                raise UserError(f"{path.with_suffix(suffix)}: missing, and {path.name} is there; `dvc pull` brings it")
    for path in shards:
        yield from jsonl.read_file(folder, path)
