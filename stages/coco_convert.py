"""Write the COCO files that train, evaluate and export read.

command  python stages/coco_convert.py
reads    params.yaml (coco_convert), data/clean/{manifest.jsonl,labels.json}, data/split/*.txt
writes   data/coco/{train,val,test}.json
time     under 0.5 s for thousands of images
"""

from __future__ import annotations

from pathlib import Path

from detector.core.errors import UserError
from detector.core.output_files import make_empty_folder
from detector.core.params import load_section
from detector.core.path_lists import read_path_list
from detector.core.stage_process import run_stage
from detector.manifest.manifest import SPLITS, read_indexed_images, read_labels, read_manifest_index
from detector.splitting.coco_writer import describe_states, find_groups, write_coco
from detector.splitting.settings import CocoConvertParams

CLEAN = Path("data/clean")
MANIFEST = Path("data/clean/manifest.jsonl")
LISTS = Path("data/split")
COCO = Path("data/coco")


def main() -> None:
    params = load_section(Path("params.yaml"), "coco_convert", CocoConvertParams)
    labels = read_labels(CLEAN / "labels.json")
    index = read_manifest_index(MANIFEST)
    for line in describe_states(labels.states, params):
        print(line)
    make_empty_folder(COCO)
    for split in SPLITS:
        paths = sorted(read_path_list(LISTS / f"{split}.txt"))
        unknown = next((path for path in paths if path not in index), None)
        if unknown is not None:
            raise UserError(f"{LISTS / split}.txt: {unknown} is not in the manifest; run `dvc repro split` first")
        entries = [index[path] for path in paths]
        images = read_indexed_images(MANIFEST, entries)
        written = write_coco(COCO / f"{split}.json", images, find_groups(entries), labels, params)
        print(f"{split}: {written.images:,} images, {written.boxes:,} boxes")


if __name__ == "__main__":
    run_stage(main)
