"""Keep the images of a dataset in tar shards: some thousand files for DVC to look at instead of millions.

    python tools/archive.py DATASET ARCHIVE [--shard-mb 256]
    python tools/archive.py ARCHIVE --remove NAME ...

    python tools/archive.py data/incoming data/raw/set
    python tools/archive.py data/raw/set --remove images/17.jpg images/18.jpg

DATASET   a folder in JSON Lines (dataset.jsonl)
ARCHIVE   a folder that is made, or extended: images that it lacks go into new shards, and where DATASET labels an
          image otherwise, its line is replaced; no shard that is there is written again
NAME      `source` in the archive's lines: the image's path in the dataset that it came from; the shards that hold one
          of these are written anew without it

In params.yaml: `preprocess.dataset: ARCHIVE` and `preprocess.format: archive`. The same images give the same bytes:
they are sorted by their path, and the tar files hold no times and no users.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import sys
import tarfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from detector.core.errors import UserError, run_command
from detector.core.tar_shards import HEADER, INDEX_LINE, member_name, read_file
from detector.preprocessing.formats.fields import text
from detector.preprocessing.formats.files import dataset_path
from detector.preprocessing.formats.jsonl import dataset_file, read, records

Record = dict[str, Any]
MOST = 10**6  # images of a shard: their number has six digits


class Line(NamedTuple):
    """An image to be archived: its labels as a line of dataset.jsonl, the place of that line, and its file."""

    record: Record
    where: str
    file: Path


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="DATASET ARCHIVE, or ARCHIVE to remove")
    parser.add_argument("--shard-mb", type=float, default=256, help="a shard is closed beyond this (default: 256)")
    parser.add_argument("--remove", nargs="+", metavar="NAME", help="images that go out of ARCHIVE")
    given = parser.parse_args(arguments)
    if len(given.folders) != (1 if given.remove else 2):
        parser.error("expected DATASET ARCHIVE, or ARCHIVE --remove NAME ...")
    if given.shard_mb <= 0:
        parser.error(f"--shard-mb {given.shard_mb:g}: expected more than 0")
    return given


def main(arguments: list[str] | None = None) -> None:
    given = parse(sys.argv[1:] if arguments is None else arguments)
    if given.remove:
        remove(given.folders[0], set(given.remove))
    else:
        dataset, archive = given.folders
        extend(dataset, archive, round(given.shard_mb * 2**20))


def extend(dataset: Path, archive: Path, shard_bytes: int) -> None:
    """Bring what is new in `dataset` into `archive`. Raises UserError, before anything is written."""
    lines, left_out = lines_of(dataset)
    archived = archived_records(archive)
    known = {record["source"]: path for path, shard in archived.items() for record in shard}
    fresh = [source for source in sorted(lines) if source not in known]
    missing = {source for source in fresh if not lines[source].file.is_file()}
    left_out += [f"{lines[source].where}: {source}: no such file" for source in sorted(missing)]
    fresh = [source for source in fresh if source not in missing]
    check_unchanged(lines, archived)
    relabelled = relabel(lines, archived)
    archive.mkdir(parents=True, exist_ok=True)
    number = 1 + max((number_of(path) for path in archived), default=-1)
    shards = 0
    for shard in in_shards([lines[source] for source in fresh], shard_bytes):
        write_shard(archive, number + shards, ((line.record, line.file.read_bytes()) for line in shard))
        shards += 1
    others = len(known.keys() - lines.keys())
    print(f"{archive}: {len(fresh):,} images added in {shards} new shards, {relabelled:,} labelled anew")
    if others:
        print(f"  {others:,} images of the archive are not in {dataset}; they stay")
    for reason in left_out:
        print(f"  left out: {reason}")


def lines_of(dataset: Path) -> tuple[dict[str, Line], list[str]]:
    """The dataset's lines by the path of their image, which becomes `source`; and those that are left out, and why.

    Raises UserError for what preprocess would stop at.
    """
    for _ in read(dataset, Counter()):
        pass
    lines: dict[str, Line] = {}
    left_out = []
    for where, record in records(dataset_file(dataset)):
        source = dataset_path(dataset, text(where, record, "image_path"))
        if source in lines:
            left_out.append(f"{where}: {source}: listed twice, the first stays")
        else:
            lines[source] = Line({**record, "source": source}, where, dataset / source)
    return lines, left_out


def archived_records(archive: Path) -> dict[Path, list[Record]]:
    """The lines of each shard, by the path of its .jsonl. Raises UserError for a line that has no `source`."""
    found = {}
    for path in sorted(archive.glob("shard-*.jsonl")):
        found[path] = [dict(record) for where, record in records(path) if text(where, record, "source")]
    return found


def number_of(path: Path) -> int:
    """Of a shard."""
    found = re.fullmatch(r"shard-(\d{5})", path.stem)
    if found is None:
        raise UserError(f"{path}: expected shard-NNNNN.jsonl")
    return int(found[1])


def check_unchanged(lines: dict[str, Line], archived: dict[Path, list[Record]]) -> None:
    """Raises UserError for a file that is not the one in the archive: an image never changes under its name."""
    for path, shard in archived.items():
        for record in shard:
            line = lines.get(record["source"])
            if line and line.file.is_file() and line.file.read_bytes() != read_file(path.parent / record["image_path"]):
                raise UserError(f"{line.file}: another image than {record['source']} in {path.with_suffix('.tar')}; "
                                "give it another name, or --remove the old one first")  # fmt: skip


def relabel(lines: dict[str, Line], archived: dict[Path, list[Record]]) -> int:
    """Replace the lines whose labels are others in the dataset, and count them."""
    count = 0
    for path, shard in archived.items():
        new = [
            {**lines[record["source"]].record, "image_path": record["image_path"]}
            if record["source"] in lines
            else record
            for record in shard
        ]
        changed = sum(one != other for one, other in zip(new, shard, strict=True))
        if changed:
            write_whole(path, "".join(map(as_line, new)).encode())
        count += changed
    return count


def in_shards(lines: Iterable[Line], shard_bytes: int) -> Iterator[list[Line]]:
    """Cut where a shard is full; each has at least one image."""
    shard: list[Line] = []
    size = 0
    for line in lines:
        more = line.file.stat().st_size
        if shard and (size + more > shard_bytes or len(shard) == MOST):
            yield shard
            shard, size = [], 0
        shard.append(line)
        size += more
    if shard:
        yield shard


def write_shard(archive: Path, number: int, images: Iterable[tuple[Record, bytes]]) -> None:
    """The three files of a shard; the .jsonl last, without which the shard does not count."""
    tar_path = archive / f"shard-{number:05}.tar"
    index, lines = [], []
    partial = tar_path.with_suffix(".part")
    with tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as tar:
        for place, (record, content) in enumerate(tqdm(images, desc=tar_path.name, unit="image", disable=None)):
            suffix = Path(record["source"]).suffix.lower()
            info = tarfile.TarInfo(member_name(number, place, suffix if re.fullmatch(r"\.\w+", suffix) else ".image"))
            info.size = len(content)
            index.append(INDEX_LINE.format(tar.offset + HEADER, len(content)))
            tar.addfile(info, io.BytesIO(content))
            lines.append(as_line({**record, "image_path": f"{tar_path.name}/{info.name}"}))
    partial.replace(tar_path)
    write_whole(tar_path.with_suffix(".idx"), "".join(index).encode())
    write_whole(tar_path.with_suffix(".jsonl"), "".join(lines).encode())


def as_line(record: Record) -> str:
    """A line of a .jsonl file."""
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n"


def write_whole(path: Path, content: bytes) -> None:
    """Complete under its name, or not there: DVC may have linked the old file from its cache."""
    partial = path.with_suffix(".part")
    partial.write_bytes(content)
    partial.replace(path)


def remove(archive: Path, sources: set[str]) -> None:
    """Write the shards that hold one of these images anew. Raises UserError for one that is in none."""
    archived = archived_records(archive)
    holding: dict[Path, set[str]] = defaultdict(set)
    for path, shard in archived.items():
        holding[path] = sources & {record["source"] for record in shard}
    unknown = sorted(sources - set().union(*holding.values()))
    if unknown:
        raise UserError(f"{archive}: no image has the source {unknown[0]!r}; the .jsonl files name them")
    touched = [path for path, held in holding.items() if held]
    for path in touched:
        kept = [record for record in archived[path] if record["source"] not in sources]
        images = [(record, read_file(archive / record["image_path"])) for record in kept]
        if images:
            write_shard(archive, number_of(path), images)
        else:
            for suffix in (".jsonl", ".idx", ".tar"):
                path.with_suffix(suffix).unlink()
    print(f"{archive}: {len(sources):,} images removed, {len(touched):,} shards written anew")


if __name__ == "__main__":
    run_command(main)
