"""Preprocess reads an archive as it reads the folder that it was made of."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from archive import main
from detector.manifest.manifest import read_manifest
from tests.support.preprocess_cases import BOX, box, line, picture, run, write_lines

COUNT = 7


def write_dataset(dataset: Path) -> None:
    """Images of which the last one is to be turned."""
    (dataset / "images").mkdir(parents=True)
    turned = Image.Exif()
    turned[0x0112] = 6
    for number in range(COUNT):
        path = dataset / f"images/{number}.jpg"
        picture(number).save(path, exif=turned if number == COUNT - 1 else Image.Exif())
    write_lines(dataset.parents[2], *(line(f"images/{number}.jpg", box(*BOX)) for number in range(COUNT)))


def test_an_archive_is_read_as_its_folder(tmp_path: Path) -> None:
    folder, packed = tmp_path / "data/raw/set", tmp_path / "packed"
    write_dataset(folder)
    main([str(folder), str(packed), "--shard-mb", str(3.5 * (folder / "images/0.jpg").stat().st_size / 2**20)])
    found = []
    for dataset, form in (("data/raw/set", "jsonl"), ("packed", "archive")):
        done = run(tmp_path, dataset=dataset, format=form, states=None)
        assert done.returncode == 0, done.stderr
        found.append(list(read_manifest(tmp_path / "data/clean/manifest.jsonl")))
    plain, archive = found
    sources = {image.content: image.source for image in archive}
    assert sources[plain[4].content] == "packed/shard-00001.tar/00001_000001.jpg"
    assert archive[-1].image.startswith("data/clean/images/"), "turned upright, as a file of its own"
    names = {image.image: one.image for image, one in zip(archive, plain, strict=True)}
    assert [(names[image.group], image.boxes, image.content) for image in archive] == [
        (image.group, image.boxes, image.content) for image in plain
    ]
    (packed / "shard-00001.idx").unlink()
    done = run(tmp_path, dataset="packed", format="archive", states=None)
    assert done.returncode == 1
    assert "shard-00001.idx: missing, and shard-00001.jsonl is there; `dvc pull` brings it" in done.stderr
    (tmp_path / "none").mkdir()
    done = run(tmp_path, dataset="none", format="archive", states=None)
    assert "found no shard-*.jsonl, expected an archive that tools/archive.py made" in done.stderr
