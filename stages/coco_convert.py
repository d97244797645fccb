"""Write the COCO files that train, evaluate and export read.

command  python stages/coco_convert.py
reads    params.yaml (coco_convert), data/clean/{manifest.jsonl,labels.json}, data/split/*.txt
writes   data/coco/{train,val,test}.json
time     under 0.5 s for thousands of images
"""

from __future__ import annotations

from pathlib import Path

from detector.core.errors import UserError, run_command
from detector.core.params import load_section
from detector.manifest.manifest import SPLITS, read_images_at, read_labels, read_places
from detector.splitting.coco_writer import CocoConvertParams, groups_of, write_coco

CLEAN = Path("data/clean")
MANIFEST = Path("data/clean/manifest.jsonl")
LISTS = Path("data/split")
COCO = Path("data/coco")


def main() -> None:
    params = load_section(Path("params.yaml"), "coco_convert", CocoConvertParams)
    labels = read_labels(CLEAN / "labels.json")
    places = read_places(MANIFEST)
    COCO.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        paths = sorted((LISTS / f"{split}.txt").read_text(encoding="utf-8").splitlines())
        unknown = next((path for path in paths if path not in places), None)
        if unknown is not None:
            raise UserError(f"{LISTS / split}.txt: {unknown} is not in the manifest: run `dvc repro split` first")
        found = [places[path] for path in paths]
        images = read_images_at(MANIFEST, found)
        written = write_coco(COCO / f"{split}.json", images, groups_of(found), labels, params)
        print(f"{split}: {written.images:,} images, {written.boxes:,} boxes")


if __name__ == "__main__":
    run_command(main)
