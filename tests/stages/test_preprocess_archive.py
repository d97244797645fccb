"""Preprocess reads an archive like the folder that it was made from."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from archive import main
from detector.manifest.manifest import read_manifest
from tests.support.preprocess_cases import BOX, build_box, build_image, build_line, run_preprocess, write_lines

COUNT = 7


def write_dataset(dataset: Path) -> None:
    """Images, the last of which has to be reoriented."""
    (dataset / "images").mkdir(parents=True)
    turned = Image.Exif()
    turned[0x0112] = 6
    for number in range(COUNT):
        path = dataset / f"images/{number}.jpg"
        build_image(number).save(path, exif=turned if number == COUNT - 1 else Image.Exif())
    write_lines(dataset.parents[2], *(build_line(f"images/{number}.jpg", build_box(*BOX)) for number in range(COUNT)))


def test_an_archive_is_read_like_its_folder(tmp_path: Path) -> None:
    folder, packed = tmp_path / "data/raw/set", tmp_path / "packed"
    write_dataset(folder)
    main([str(folder), str(packed), "--shard-mb", str(3.5 * (folder / "images/0.jpg").stat().st_size / 2**20)])
    found = []
    for dataset, form in (("data/raw/set", "jsonl"), ("packed", "archive")):
        done = run_preprocess(tmp_path, dataset=dataset, format=form, states=None)
        assert done.returncode == 0, done.stderr
        found.append(list(read_manifest(tmp_path / "data/clean/manifest.jsonl")))
    plain, archive = found
    sources = {image.content: image.source for image in archive}
    assert sources[plain[4].content] == "packed/shard-00001.tar/00001_000001.jpg"
    assert archive[-1].image.startswith("data/clean/images/"), "reoriented, hence a separate file"
    names = {image.image: one.image for image, one in zip(archive, plain, strict=True)}
    assert [(names[image.group], image.boxes, image.content) for image in archive] == [
        (image.group, image.boxes, image.content) for image in plain
    ]
    (packed / "shard-00001.idx").unlink()
    done = run_preprocess(tmp_path, dataset="packed", format="archive", states=None)
    assert done.returncode == 1
    assert "shard-00001.idx: missing" in done.stderr
    assert "`dvc pull`" in done.stderr
    (tmp_path / "none").mkdir()
    done = run_preprocess(tmp_path, dataset="none", format="archive", states=None)
    assert "found no shard-*.jsonl" in done.stderr
    assert "tools/archive.py" in done.stderr
