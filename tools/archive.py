"""Pack the images of a dataset into tar shards: DVC then checks a few thousand files instead of millions.

    python tools/archive.py DATASET ARCHIVE [--shard-mb 256]
    python tools/archive.py ARCHIVE --remove NAME ...

    python tools/archive.py data/incoming data/raw/set
    python tools/archive.py data/raw/set --remove images/17.jpg images/18.jpg

DATASET   a folder in JSON Lines format (dataset.jsonl, or one file per split)
ARCHIVE   a folder to create or extend: new images go into new shards, and changed labels replace the image's line;
          existing shards are not rewritten
NAME      `source` of an image in the archive's lines: its path in the original dataset; the shards that contain it are
          rewritten without it

In params.yaml: `preprocess.dataset: ARCHIVE`. The same images give the same bytes:
they are sorted by path, and the tar files contain no timestamps or users.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import sys
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from detector.core.errors import UserError, run_command
from detector.core.tar_shards import HEADER_BYTES, INDEX_LINE, build_member_name, read_image_bytes
from detector.preprocessing.findings import FindingLog
from detector.preprocessing.formats.fields import read_string
from detector.preprocessing.formats.files import make_dataset_relative
from detector.preprocessing.formats.jsonl import find_dataset_files, read_jsonl, read_records

Record = dict[str, Any]
MAX_IMAGES = 10**6  # images per shard: their number has six digits


class ArchiveLine(NamedTuple):
    """An image to archive. record: its line in dataset.jsonl; where: `file:line` of that line; file: the image."""

    record: Record
    where: str
    file: Path


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "folders", type=Path, nargs="+", metavar="FOLDER", help="DATASET ARCHIVE; with --remove: ARCHIVE"
    )
    parser.add_argument("--shard-mb", type=float, default=256, help="maximum shard size (default: %(default)s)")
    parser.add_argument("--remove", nargs="+", metavar="NAME", help="images to remove from ARCHIVE")
    given = parser.parse_args(arguments)
    if len(given.folders) != (1 if given.remove else 2):
        parser.error("expected DATASET ARCHIVE, or ARCHIVE --remove NAME ...")
    if given.shard_mb <= 0:
        parser.error(f"--shard-mb is {given.shard_mb:g}; expected more than 0")
    return given


def main(arguments: list[str] | None = None) -> None:
    given = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    if given.remove:
        remove_images(given.folders[0], set(given.remove))
    else:
        dataset, archive = given.folders
        add_images(dataset, archive, round(given.shard_mb * 2**20))


def add_images(dataset: Path, archive: Path, shard_bytes: int) -> None:
    """Add new images and labels of `dataset` to `archive`. Raises UserError before anything is written."""
    lines, left_out = read_lines(dataset)
    archived = read_archive(archive)
    known = {record["source"]: path for path, shard in archived.items() for record in shard}
    new = [source for source in sorted(lines) if source not in known]
    missing = {source for source in new if not lines[source].file.is_file()}
    left_out += [f"{lines[source].where}: {source}: no such file" for source in sorted(missing)]
    new = [source for source in new if source not in missing]
    check_unchanged(lines, archived)
    relabeled = update_labels(lines, archived)
    archive.mkdir(parents=True, exist_ok=True)
    number = 1 + max((parse_shard_number(path) for path in archived), default=-1)
    shards = 0
    for shard in split_into_shards([lines[source] for source in new], shard_bytes):
        write_shard(archive, number + shards, ((line.record, line.file.read_bytes()) for line in shard))
        shards += 1
    kept = len(known.keys() - lines.keys())
    print(f"{archive}: {len(new):,} images added in {shards} new shards, labels of {relabeled:,} images updated")
    if kept:
        print(f"  {kept:,} images of the archive are not in {dataset}; they were kept")
    for reason in left_out:
        print(f"  left out: {reason}")


def read_lines(dataset: Path) -> tuple[dict[str, ArchiveLine], list[str]]:
    """The dataset's lines by image path, which becomes `source`, and the reasons why others are left out.

    Raises UserError for anything that would stop preprocess.
    """
    images = list(read_jsonl(dataset, FindingLog()))
    files = find_dataset_files(dataset)
    records = (line for path in files for line in read_records(path, make_dataset_relative(dataset, path)))
    lines: dict[str, ArchiveLine] = {}
    left_out = []
    for image, (where, record) in zip(images, records, strict=True):
        read_string(where, record, "image_path")  # may be a path that only preprocess can leave out
        source = make_dataset_relative(dataset, image.path)
        if image.ambiguity:
            left_out.append(f"{where}: {source}: {image.ambiguity}")
        elif source in lines:
            left_out.append(f"{where}: {source}: listed twice, the first line is kept")
        else:
            split = {} if image.split is None else {"split": image.split}
            lines[source] = ArchiveLine({**record, **split, "source": source}, where, dataset / source)
    return lines, left_out


def read_archive(archive: Path) -> dict[Path, list[Record]]:
    """The records of each shard, by the path of its .jsonl. Raises UserError for a record without `source`."""
    shards = {}
    for path in sorted(archive.glob("shard-*.jsonl")):
        records = read_records(path, path.name)
        shards[path] = [dict(record) for where, record in records if read_string(where, record, "source")]
    return shards


def parse_shard_number(path: Path) -> int:
    """The number of a shard, from its file name."""
    match = re.fullmatch(r"shard-(\d{5})", path.stem)
    if match is None:
        raise UserError(f"{path}: expected shard-NNNNN.jsonl")
    return int(match[1])


def check_unchanged(lines: dict[str, ArchiveLine], archived: dict[Path, list[Record]]) -> None:
    """Raise UserError if an image of the archive has changed in the dataset."""
    for path, shard in archived.items():
        for record in shard:
            line = lines.get(record["source"])
            if line is None or not line.file.is_file():
                continue
            if line.file.read_bytes() != read_image_bytes(path.parent / record["image_path"]):
                raise UserError(
                    f"{line.file} differs from {record['source']} in {path.with_suffix('.tar')}; "
                    "rename the new image, or --remove the old one first"
                )


def update_labels(lines: dict[str, ArchiveLine], archived: dict[Path, list[Record]]) -> int:
    """Replace the records whose labels changed in the dataset; return their number."""
    count = 0
    for path, shard in archived.items():
        new = [
            {**lines[record["source"]].record, "image_path": record["image_path"]}
            if record["source"] in lines
            else record
            for record in shard
        ]
        changed = sum(after != before for after, before in zip(new, shard, strict=True))
        if changed:
            write_atomically(path, "".join(map(format_record, new)).encode())
        count += changed
    return count


def split_into_shards(lines: Iterable[ArchiveLine], shard_bytes: int) -> Iterator[list[ArchiveLine]]:
    """Split the images into shards of at most `shard_bytes` or one image."""
    shard: list[ArchiveLine] = []
    size = 0
    for line in lines:
        added = line.file.stat().st_size
        if shard and (size + added > shard_bytes or len(shard) == MAX_IMAGES):
            yield shard
            shard, size = [], 0
        shard.append(line)
        size += added
    if shard:
        yield shard


def write_shard(archive: Path, number: int, images: Iterable[tuple[Record, bytes]]) -> None:
    """Write the three files of a shard; the .jsonl comes last: without it, the shard is ignored."""
    tar_path = archive / f"shard-{number:05}.tar"
    index_lines, record_lines = [], []
    partial = tar_path.with_suffix(".part")
    with tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as tar:
        for index, (record, content) in enumerate(tqdm(images, desc=tar_path.name, unit="image", disable=None)):
            suffix = Path(record["source"]).suffix.lower()
            suffix = suffix if re.fullmatch(r"\.\w+", suffix) else ".image"
            info = tarfile.TarInfo(build_member_name(number, index, suffix))
            info.size = len(content)
            index_lines.append(INDEX_LINE.format(tar.offset + HEADER_BYTES, len(content)))
            tar.addfile(info, io.BytesIO(content))
            record_lines.append(format_record({**record, "image_path": f"{tar_path.name}/{info.name}"}))
    partial.replace(tar_path)
    write_atomically(tar_path.with_suffix(".idx"), "".join(index_lines).encode())
    write_atomically(tar_path.with_suffix(".jsonl"), "".join(record_lines).encode())


def format_record(record: Record) -> str:
    """The record as a line of a .jsonl file."""
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n"


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file atomically; writing in place could change DVC's cache through a link."""
    partial = path.with_suffix(".part")
    partial.write_bytes(content)
    partial.replace(path)


def remove_images(archive: Path, sources: set[str]) -> None:
    """Rewrite the shards that contain these images without them. Raises UserError for an unknown image."""
    archived = read_archive(archive)
    found = {path: sources & {record["source"] for record in shard} for path, shard in archived.items()}
    unknown = sorted(sources - set().union(*found.values()))
    if unknown:
        raise UserError(f"{archive}: no image has the source {unknown[0]!r}; the .jsonl files list them")
    affected = [path for path, matches in found.items() if matches]
    for path in affected:
        kept = [record for record in archived[path] if record["source"] not in sources]
        images = [(record, read_image_bytes(archive / record["image_path"])) for record in kept]
        if images:
            write_shard(archive, parse_shard_number(path), images)
        else:
            for suffix in (".jsonl", ".idx", ".tar"):
                path.with_suffix(suffix).unlink()
    print(f"{archive}: {len(sources):,} images removed, {len(affected):,} shards rewritten")


if __name__ == "__main__":
    run_command(main)
