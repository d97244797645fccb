"""The supported dataset formats: one module per format, with one reader function."""

from __future__ import annotations

from detector.preprocessing.formats import archive, coco, delftbikes, jsonl, voc, yolo
from detector.preprocessing.raw_annotations import Reader

READERS: dict[str, Reader] = {
    "jsonl": jsonl.read_jsonl,
    "parts": delftbikes.read_delftbikes,
    "coco": coco.read_coco,
    "voc": voc.read_voc,
    "yolo": yolo.read_yolo,
    "archive": archive.read_archive,
}

ANNOTATION_SUFFIXES = {
    "jsonl": ".jsonl",
    "parts": ".json",
    "coco": ".json",
    "voc": ".xml",
    "yolo": ".txt",
    "archive": ".jsonl",
}
