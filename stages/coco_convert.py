"""Write the COCO files that train, evaluate and export read.

command  python stages/coco_convert.py
reads    params.yaml (coco_convert), data/clean/{manifest.jsonl,labels.json}, data/split/*.txt
writes   data/coco/{train,val,test}.json
time     under 0.5 s for thousands of images
"""

from __future__ import annotations

import json
from pathlib import Path

from detector.data.coco_files import CocoConvertParams, coco_dataset
from detector.data.manifest import SPLITS, read_labels, read_manifest
from detector.errors import UserError, run_command
from detector.params import load_section

CLEAN = Path("data/clean")
LISTS = Path("data/split")
COCO = Path("data/coco")


def main() -> None:
    params = load_section(Path("params.yaml"), "coco_convert", CocoConvertParams)
    labels = read_labels(CLEAN / "labels.json")
    images = {image.image: image for image in read_manifest(CLEAN / "manifest.jsonl")}
    COCO.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        paths = (LISTS / f"{split}.txt").read_text(encoding="utf-8").splitlines()
        unknown = next((path for path in paths if path not in images), None)
        if unknown is not None:
            raise UserError(f"{LISTS / split}.txt: {unknown} is not in the manifest: run `dvc repro split` first")
        dataset = coco_dataset([images[path] for path in paths], labels, params)
        text = json.dumps(dataset, ensure_ascii=False, separators=(",", ":"))
        (COCO / f"{split}.json").write_text(text + "\n", encoding="utf-8")
        print(f"{split}: {len(dataset['images']):,} images, {len(dataset['annotations']):,} boxes")


if __name__ == "__main__":
    run_command(main)
